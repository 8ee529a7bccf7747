from tests.support.annotation import here

__all__ = ["here"]
