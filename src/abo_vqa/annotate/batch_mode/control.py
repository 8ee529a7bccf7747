"""Whether the service works when no request of a batch job was answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from abo_vqa.annotate.control import ControlRequest
from abo_vqa.core.errors import UserError
from abo_vqa.remote.batch_jobs import BatchJob
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.errors import DailyQuotaError, ServiceError, UnknownParameterError
from abo_vqa.remote.key_pool import ApiKey, KeyPool, Reservation
from abo_vqa.remote.ledger import Ledger

if TYPE_CHECKING:
    from abo_vqa.core.service_config import GenerateConfig

_POLL_S = 0.5  # between tries to reserve quota


class BatchControl:
    """Sends the control request outside a job, with the job's key."""

    def __init__(
        self,
        settings: GenerateConfig,
        keys: Sequence[ApiKey],
        ledger: Ledger,
        journal: str,
        budget: Budget,
        control: ControlRequest,
    ) -> None:
        """Collect what the request needs.

        Args:
            settings: the model and its quotas.
            keys: the run's keys.
            ledger: where the request is recorded.
            journal: the journal's name in the ledger.
            budget: limits the request, which has the full price.
            control: the request.
        """
        self._pools = {key.id: KeyPool([key], ledger, journal, settings) for key in keys}
        self._budget, self._control = budget, control

    def send(self, job: BatchJob) -> ServiceError | None:
        """Send the request and wait for the reply.

        Args:
            job: the job, which has ended: what was reserved for it is free again.

        Returns:
            the error, or None if the request was answered.

        Raises:
            UserError: the request might exceed the budget.
        """
        draft = self._control.draft
        cost = self._budget.max_cost(draft, share=1.0)
        if not self._budget.allows(cost - job.cost):
            raise UserError(
                "no request of the batch job was answered, and the control request that tells "
                f"why might exceed generate.budget_usd: {self._budget.limit:g} USD. The job's "
                "results are kept: raise it and run again."
            )
        tokens = self._budget.estimator.estimate(draft)
        while isinstance(error := self._send(job, tokens, cost), UnknownParameterError):
            pass  # the next request leaves it out
        return error

    def _send(self, job: BatchJob, tokens: int, cost: float) -> ServiceError | None:
        """Send the request once there is quota for it."""
        while not isinstance(result := self._pools[job.key].reserve(tokens, cost), Reservation):
            if result.day:
                return DailyQuotaError("the key's daily quota is spent")
            time.sleep(min(_POLL_S, max(0.0, result.until - time.time())))
        return self._control.send(result)
