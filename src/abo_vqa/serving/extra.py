"""The optional packages that serving needs."""

from __future__ import annotations

from importlib.util import find_spec

from abo_vqa.core.errors import UserError


def require_packages(what: str, *packages: str) -> None:
    """Check that packages of the extra `serve` are installed; they aren't imported.

    Args:
        what: what needs them, for the message.
        packages: their modules.

    Raises:
        UserError: one of them isn't installed.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(
            f"{what} needs {missing[0]}, which isn't installed. Run `make setup EXTRAS=serve` in "
            "the repository's root."
        )
