"""What a check finds, and how checks run so that none can stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from abo_vqa.commands.doctor.masking import mask
from abo_vqa.core import interpreter, system_errors
from abo_vqa.core.errors import AboVqaError, RetryLaterError, UserError

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

State = Literal["ok", "warning", "problem"]
_LONGEST = 600  # characters of what is found: libraries can be wordy
_REPORT = "This is a bug in a check. Please report it with the complete output."


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was checked.
        state: "warning" where the work goes on with less, "problem" where something that the
            settings ask for can't work.
        found: the result in words.
        advice: what to do about it.
        numbers: measured values by name, for programs.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


def ok(name: str, found: str, numbers: Mapping[str, float] | None = None) -> Finding:
    """Make a finding without a problem; see `Finding`.

    Args:
        name: what was checked.
        found: the result in words.
        numbers: measured values by name.
    """
    return Finding(name, "ok", found, numbers=numbers or {})


def warning(
    name: str, found: str, advice: str, numbers: Mapping[str, float] | None = None
) -> Finding:
    """Make a finding about something that the work goes on without; see `Finding`.

    Args:
        name: what was checked.
        found: the result in words.
        advice: what to do about it.
        numbers: measured values by name.
    """
    return Finding(name, "warning", found, advice, numbers or {})


def problem(
    name: str, found: str, advice: str, numbers: Mapping[str, float] | None = None
) -> Finding:
    """Make a finding about something that can't work; see `Finding`.

    Args:
        name: what was checked.
        found: the result in words.
        advice: what to do about it.
        numbers: measured values by name.
    """
    return Finding(name, "problem", found, advice, numbers or {})


@dataclass(frozen=True)
class Checkout:
    """What is checked.

    Attributes:
        root: the checkout.
        config: its settings, None if they can't be read.
        fault: why they can't.
        names: the models to try, () for the settings' own.
        offline: whether the user forbids asking the model hub.
        servers: what servers have answered: each is asked once, whatever asks.
    """

    root: Path
    config: Config | None
    fault: str = ""
    names: tuple[str, ...] = ()
    offline: bool = False
    servers: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def settings(self) -> Config:
        """The settings.

        Raises:
            NotCheckedError: They can't be read.
        """
        if self.config is None:
            raise NotCheckedError("not checked, since the settings can't be read")
        return self.config

    @property
    def real(self) -> bool:
        """Whether the profile is about archives that are downloaded, not the embedded sample."""
        return self.settings.data.listings is not None


class NotCheckedError(AboVqaError):
    """What a check needs is missing, which another check reports.

    Attributes:
        advice: what to do about it.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.advice = advice


Check = Callable[[Checkout], Iterable[Finding]]


def examine(name: str, check: Check, case: Checkout) -> Iterator[Finding]:
    """Run a check; what it raises is a finding as well.

    Args:
        name: the check's name.
        check: the check.
        case: the checkout.

    Yields:
        Its findings, without secrets.
    """
    try:
        for finding in check(case):
            yield _sanitize(finding)
    except NotCheckedError as reason:
        yield warning(name, str(reason), reason.advice)
    except (UserError, RetryLaterError) as error:
        yield _sanitize(problem(name, str(error), ""))
    except ModuleNotFoundError as error:
        yield _sanitize(problem(name, f"{error.name} isn't installed", interpreter.REMEDY))
    except Exception as error:
        yield _sanitize(_unforeseen(name, error))


def _unforeseen(name: str, error: Exception) -> Finding:
    """Return the finding for an exception that no check foresees."""
    if refused := system_errors.find_os_error(error):
        return problem(name, system_errors.describe_system_error(refused), "")
    return problem(name, f"{type(error).__name__}: {error}", _REPORT)


def _sanitize(finding: Finding) -> Finding:
    """Return a finding whose texts are one line each, and hold no secret."""
    return replace(
        finding, found=_one_line(finding.found)[:_LONGEST], advice=_one_line(finding.advice)
    )


def _one_line(text: str) -> str:
    return " ".join(mask(text).split())
