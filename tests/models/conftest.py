from tests.support.endpoints import hosted_project  # noqa: F401
from tests.support.families import folders, load, rows  # noqa: F401
