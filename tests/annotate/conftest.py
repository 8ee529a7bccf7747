from tests.support.annotation import here, quick_retries

__all__ = ["here", "quick_retries"]
