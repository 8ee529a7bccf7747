"""What can stop a command, by the exit code it ends with."""


class UserError(Exception):
    """Something the user can mend: what was found, what is allowed, how to fix it (exit 2)."""

    exit_code = 2


class ComeBackLater(Exception):
    """Work is saved and goes on later, e.g. when a daily quota is spent (exit 75, EX_TEMPFAIL)."""

    exit_code = 75


class Reclaimed(Exception):
    """SIGTERM arrived, everything is saved; the same command resumes (exit 143 = 128 + 15)."""

    exit_code = 143
