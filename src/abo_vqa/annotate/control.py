"""The control request: if nothing is wrong with it and it is refused, the images aren't the cause.

It asks about a plain grey square, which any working service answers, and may cost as much as any
other request.
"""

from __future__ import annotations

from dataclasses import replace

from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.tasks import Task
from abo_vqa.remote.contract import Request
from abo_vqa.remote.control_image import grey_square
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.key_pool import Reservation
from abo_vqa.remote.ledger import Ledger

_PRODUCT = {
    "image_path": "",
    "name": "plain grey square",
    "product_type": "control",
    "color": "grey",
}


class ControlRequest:
    """Sends the control request.

    Attributes:
        draft: the request without the image, to estimate what it costs.
    """

    def __init__(self, system: str, ledger: Ledger) -> None:
        """Prepare the request.

        Args:
            system: the instruction, the same as for images.
            ledger: takes the end of the request.
        """
        task = Task(dict(_PRODUCT), "control", "", QualityFilter(questions=1), attempts=1)
        self.draft: Request = task.request(system)
        self._ledger = ledger

    def send(self, reservation: Reservation) -> ServiceError | None:
        """Send the request.

        Args:
            reservation: the key and its place in the quota.

        Returns:
            the error, or None if it was answered.
        """
        try:
            reservation.key.client.generate(replace(self.draft, image=grey_square()))
        except ServiceError as error:
            self._ledger.finish(reservation.call, cost_known=not error.billed)
            return error
        # No entry holds its price: it counts as reserved.
        self._ledger.finish(reservation.call, cost_known=False)
        return None
