"""Why an annotation stops, beside what stops any run; see `remote.dispatch.stop_reasons`."""

from __future__ import annotations

from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.remote.errors import ServiceError


def all_refused(refused: int, message: str, images: int) -> UserError:
    """Return the error for refusals in a row.

    Args:
        refused: how many.
        message: the vendor's last one.
        images: how many are open.
    """
    return UserError(
        f"the last {refused} requests were all refused: {message}. No image was dropped because "
        "of this. Check the settings under generate in params.yaml and the account; "
        f"{images:,} images are open and everything is saved: run it again to continue. If the "
        "images themselves are the cause: abo-vqa generate --drop-failing."
    )


def undecided_refusals(refused: int, error: ServiceError) -> RetryLaterError:
    """Return the error for refusals that can't be judged because the service fails now."""
    return RetryLaterError(
        f"{refused:,} images were refused, and it can't be determined now whether the images are "
        f"the cause: {error}. Everything is saved: run it again later."
    )
