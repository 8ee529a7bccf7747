from families import folders, load, rows  # noqa: F401
from scorers import bart, roberta  # noqa: F401
