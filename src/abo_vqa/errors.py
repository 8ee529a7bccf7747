"""What can stop a command, by the exit code it ends with."""


class UserError(Exception):
    """Something the user can mend: what was found, what is allowed, how to fix it (exit 2)."""

    exit_code = 2


class ComeBackLater(Exception):
    """Work is saved and goes on later, e.g. when a daily quota is spent (exit 75, EX_TEMPFAIL)."""

    exit_code = 75


class Reclaimed(Exception):
    """A signal arrived, everything is saved; the same command resumes.

    It ends with 143 = 128 + 15 after SIGTERM, and with 130 after Ctrl-C.
    """

    exit_code = 143


def first_line(error: BaseException, longest: int = 300) -> str:
    """What a library says, without what follows for its developers and without the full stop.

    Args:
        longest: characters at most.
    """
    return str(error).partition("\n")[0].rstrip(". ")[:longest]
