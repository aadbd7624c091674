"""Requests to an object store: its client, patience with outages, and what its answers mean.

Endpoint, region and credentials are found as boto3 finds them (AWS_ENDPOINT_URL, AWS_PROFILE, ~/.aws, instance roles);
MLFLOW_S3_ENDPOINT_URL is the endpoint where none is set for AWS.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import PurePath
from typing import Any, TypeVar

from radflow.errors import JobError, UserError

CONNECTIONS = 8
"""Requests on the way at once: enough to hide the time that a store takes to answer."""

PATIENCE_SECONDS = 120.0
"""How long a store that has answered before may be away."""

FIRST_PAUSE = 0.5
"""Seconds until a request is repeated for the first time."""

_LONGEST_PAUSE = 10.0
_REFUSALS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "403")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_PASSING = (
    *("RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "OperationAborted", "SlowDown"),
    *("Throttling", "ThrottlingException", "RequestThrottled", "RequestLimitExceeded", "BandwidthLimitExceeded"),
)
"""Codes that come with a status of the 400s although the next request may be answered."""
_ABSENT = ("NoSuchKey", "404")

Result = TypeVar("Result")


@cache
def client() -> Any:
    """Boto3's client of S3, one in a process; raises `UserError` where the endpoint is not an address."""
    from boto3.session import Session  # a third of a second, which jobs on disk need not pay
    from botocore.config import Config

    set_for_aws = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    settings = Config(
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=4 * CONNECTIONS,
        retries={"total_max_attempts": 1},  # `ask` repeats: botocore's patience is for throttling, not for outages
        # Checksums of S3's own kind are unknown to many stores; shards are verified by their SHA-256.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    endpoint = set_for_aws or os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None
    try:
        return Session().client("s3", endpoint_url=endpoint, config=settings)
    except ValueError as error:
        raise UserError(f"the S3 endpoint is not an address: {error}; expected such as https://HOST:PORT") from error


def with_retries(path: PurePath, request: Callable[[], Result], patience: float | None = None) -> Result:
    """Make a request, and repeat it for a while where the store is away or busy.

    Raises FileNotFoundError for an object that is not there, `UserError` for what the user can fix, and `JobError`
    when the store stays away.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as NoConnection

    patience = PATIENCE_SECONDS if patience is None else patience
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE
    while True:
        try:
            return request()
        except ClientError as error:
            _explain(path, error)
            failure: Exception = error
        except (NoConnection, HTTPClientError) as error:
            failure = error
        except BotoCoreError as error:  # no credentials, a profile that does not exist, ...
            raise UserError(f"{path} cannot be asked for: {error}; set AWS_ACCESS_KEY_ID and the like") from error
        if not patience:
            fix = "start it, or correct AWS_ENDPOINT_URL or MLFLOW_S3_ENDPOINT_URL"
            raise UserError(f"the store of {path} does not answer ({failure}); {fix}") from failure
        if time.monotonic() + pause > deadline:
            raise gone(path, failure) from failure
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _explain(path: PurePath, error: Any) -> None:
    """Raise what an answer means; return for one that may be another in a moment."""
    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    endpoint = client().meta.endpoint_url
    if status >= 500 or status in (408, 429) or code in _PASSING:
        return
    if code in _EXPIRED:
        fix = "renew them and start again to go on"
        raise JobError(f"{path}: the credentials for {endpoint} have expired ({code}); {fix}") from error
    if code == "NoSuchBucket":
        raise UserError(f"{path}: no such bucket at {endpoint}; create it, or correct its name") from error
    if code in _REFUSALS:
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) to a key that may"
        raise UserError(f"{path}: {endpoint} refuses this access key ({code}); {fix}") from error
    if code in _ABSENT:
        raise not_found(path) from error
    raise UserError(f"{path}: {endpoint} answers {error}") from error


def not_found(path: PurePath) -> FileNotFoundError:
    """What a missing file on disk would raise."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def gone(path: PurePath, error: Exception) -> JobError:
    """The error for a store that stayed away for `PATIENCE_SECONDS`."""
    return JobError(f"the store of {path} has been away for {PATIENCE_SECONDS:.0f} s ({error}); start again to go on")
