from scorers import bart, roberta  # noqa: F401
