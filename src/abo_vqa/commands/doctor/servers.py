"""Servers of chat completions with an address of one's own: each is asked once for its models."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from abo_vqa.commands.doctor.findings import Checkout, Finding, problem, warning
from abo_vqa.core.errors import UserError, first_line
from abo_vqa.remote.dispatch.stop_reasons import suggested_address
from abo_vqa.remote.keys import redact, rejected_key_advice

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

_T = TypeVar("_T")

TIMEOUT_S = 5.0  # for an answer from anywhere


class NoAnswerError(UserError):
    """No answer in time."""


@dataclass(frozen=True)
class ServerAnswer:
    """What a server says about its models.

    Attributes:
        models: their names; () also where a server doesn't list them, as not every one does.
        lists_none: whether there is no list of models at the address.
        refusal: the HTTP status with which it refuses us, or 0.
        failure: why it doesn't answer, or "".
    """

    models: tuple[str, ...] = ()
    lists_none: bool = False
    refusal: int = 0
    failure: str = ""

    def finding(self, name: str, service: ServiceConfig, prefix: str = "") -> Finding | None:
        """Return why the server can't be used, or probably can't, or None.

        Args:
            name: what was checked.
            service: its address, and where its key is.
            prefix: what the names of its settings begin with: "generate.", or "".
        """
        if self.refusal:
            message = f"{service.base_url} refuses us: HTTP {self.refusal}"
            return problem(name, message, rejected_key_advice(service, prefix))
        if self.failure:
            ending = "(it ends in /v1 for most servers)"
            advice = f"Start the server, or correct {prefix}base_url {ending}."
            return problem(name, f"{service.base_url} doesn't answer: {self.failure}", advice)
        if self.lists_none and (other := suggested_address(service)):
            message = f"{service.base_url} answers, but lists no models: perhaps a wrong address"
            return warning(name, message, f"Try {prefix}base_url: {other}")
        return None


def ask_server(case: Checkout, service: ServiceConfig, key: str) -> ServerAnswer:
    """Ask a server for its models; with a key that it was sent before, its answer is known.

    Args:
        case: the checkout, which keeps the answers.
        service: the server's address.
        key: the key that is sent.
    """
    question = (str(service.base_url), key)
    if question not in case.servers:
        case.servers[question] = _ask(*question)
    answer: ServerAnswer = case.servers[question]
    return answer


def _ask(base_url: str, key: str) -> ServerAnswer:
    import openai

    client = openai.OpenAI(base_url=base_url, api_key=key, timeout=TIMEOUT_S, max_retries=0)
    try:
        models = call_with_timeout(TIMEOUT_S, lambda: [m.id for m in client.models.list().data])
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        return ServerAnswer(refusal=error.status_code)
    except (openai.APIConnectionError, NoAnswerError) as error:
        return ServerAnswer(failure=redact(first_line(error.__cause__ or error), [key]))
    except (openai.APIError, AttributeError, TypeError, ValueError):
        return ServerAnswer(lists_none=True)
    return ServerAnswer(tuple(models))


def call_with_timeout(seconds: float, work: Callable[[], _T]) -> _T:
    """Call a function in a thread that is abandoned after some seconds.

    A name server that doesn't answer ignores every library's own limit.

    Args:
        seconds: how long to wait.
        work: the function.

    Raises:
        NoAnswerError: No answer in time.
        Exception: Whatever `work` raises.
    """
    results: list[_T] = []
    failed: list[Exception] = []

    def attempt() -> None:
        try:
            results.append(work())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not results:
        raise NoAnswerError(f"no answer within {seconds:.0f} s")
    return results[0]
