from families import folders, load, rows  # noqa: F401
