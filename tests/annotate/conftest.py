from tests.support.annotation import here, quick_retries
from tests.support.openai_annotation import openai_key, openai_server

__all__ = ["here", "openai_key", "openai_server", "quick_retries"]
