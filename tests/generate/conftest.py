from generate.workspace import here

__all__ = ["here"]
