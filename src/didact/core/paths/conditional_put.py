"""Objects of S3 that are put only where there is none: what pyarrow has not, boto3 has."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

_THERE: Final = {409, 412}  # somebody else is putting it just now, or has
_UNKNOWN: Final = {400, 405, 501}  # of stores that know no such condition


def conditional_put(bucket: str, user: str) -> Callable[[str, bytes], bool | None] | None:
    """What puts an object unless there is one; None where boto3 is not installed.

    Args:
        bucket: The bucket.
        user: Key and secret of the URL, `KEY:SECRET`, or "" for those of the environment.
    """
    if importlib.util.find_spec("boto3") is None:
        return None

    @cache
    def client() -> Any:
        return _client(user)

    def put(key: str, data: bytes) -> bool | None:
        from botocore.exceptions import ClientError

        try:
            client().put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in _THERE:
                return False
            if status in _UNKNOWN:
                return None
            raise
        return True

    return put


def _client(user: str) -> Any:
    import boto3
    from botocore.config import Config

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    more: dict[str, Any] = {}
    if user:
        name, _, secret = user.partition(":")
        more = {"aws_access_key_id": unquote(name), "aws_secret_access_key": unquote(secret)}
    config = Config(
        connect_timeout=3, read_timeout=20, retries={"max_attempts": 2, "mode": "standard"},
        s3={"addressing_style": "path" if endpoint else "auto"},
    )  # fmt: skip
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=region or "us-east-1", config=config, **more
    )
