from tests.support.scorers import bart, roberta  # noqa: F401
