from tests.support.families import folders, load, rows  # noqa: F401
