"""What object storage and the network refuse, in one sentence each, without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from abo_vqa.core.errors import RetryLaterError, UserError, first_line
from abo_vqa.core.tracking.addresses import mask_login

_EXTRAS = {"s3": "`make setup EXTRAS=s3`", "s3a": "`make setup EXTRAS=s3`"}
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "hf": "huggingface_hub"}
# Classes of exceptions, codes of S3 and HTTP.
_DENIED = {
    *(
        "PermissionError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
    ),
    *("TokenRetrievalError", "UnauthorizedSSOTokenError", "ProfileNotFound", "RefreshError"),
    *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"),
    *("InvalidToken", "401", "403"),
}
_CHANGED = {"PreconditionFailed", "412", "416", "InvalidRange"}
_NETWORK_MODULES = ("aiohttp", "aiobotocore", "botocore", "urllib3", "requests", "google", "azure")


class ObjectChangedError(UserError):
    """The object isn't the one that was opened, or that is pinned."""


def describe_missing_package(url: str, error: Exception) -> str:
    """Say how to install what a URL's protocol needs.

    Args:
        url: of the archives.
        error: what fsspec raised.
    """
    scheme = urlsplit(url).scheme
    if isinstance(error, ValueError):  # fsspec's own about protocols
        return f"{url}: {first_line(error)}. Known are s3, gs, abfs, https and others of fsspec."
    if scheme in _EXTRAS:
        return f"{url} can't be read: s3fs isn't installed. {_EXTRAS[scheme]} installs it."
    package = _PACKAGES.get(scheme)
    advice = f"Install {package} into .venv." if package else "Install what that names into .venv."
    return f"{url} can't be read: {first_line(error)}. {advice}"


def permanent_fault(url: str, error: Exception, done: str = "read") -> UserError | None:
    """Return the error about what another attempt won't change; None if it may help.

    Args:
        url: of the object.
        error: what a file system of fsspec raised.
        done: what was to be done to it.
    """
    codes = {code for cause in _chain(error) for code in _codes(cause)}
    if codes & _CHANGED:
        return changed_object(url)
    if codes & _DENIED:
        return UserError(
            f"{url} can't be {done}: access is denied, or credentials are missing or wrong "
            f"({', '.join(sorted(codes & _DENIED))}). For S3: AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws, or FSSPEC_S3_ANON=true for a public "
            "bucket."
        )
    if isinstance(error, FileNotFoundError):
        return UserError(f"{url}: there is no such object any more. Put it back, and run it again.")
    return None


def is_transient(error: Exception) -> bool:
    """Whether an exception is about the network or the server, not about our own code.

    Args:
        error: what a file system of fsspec raised.
    """
    modules = {type(e).__module__.partition(".")[0] for e in _chain(error)}
    return isinstance(error, OSError | TimeoutError) or bool(modules & {*_NETWORK_MODULES})


def network_failure(
    url: str, error: Exception, attempts: int, done: str = "read"
) -> RetryLaterError:
    """Return the error for a connection that kept failing.

    Args:
        url: of the object.
        error: the last failure.
        attempts: how many there were.
        done: what was to be done to it.
    """
    detail = mask_login(first_line(error, longest=160))
    return RetryLaterError(
        f"{url} can't be {done}: {detail}, {attempts} times in a row. Check the network and the "
        f"endpoint (AWS_ENDPOINT_URL for an S3-compatible server). What was {done} is kept: the "
        "same command continues."
    )


def changed_object(url: str) -> ObjectChangedError:
    """Return the error for an object that changed while it was read.

    Args:
        url: of the object.
    """
    return ObjectChangedError(
        f"{url} was changed or removed while it was in use. If that was on purpose, `abo-vqa fetch "
        "--profile NAME` pins the new one; then run this again."
    )


def _codes(error: BaseException) -> Iterator[str]:
    """An exception's class, and the codes of S3 and HTTP that it carries."""
    yield type(error).__name__
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int):
        yield str(status)
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's ClientError
        yield str(response.get("Error", {}).get("Code"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
