from tests.support.families import folders, load, rows  # noqa: F401
from tests.support.scorers import bart, roberta  # noqa: F401
