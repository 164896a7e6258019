"""URLs → stores: pyarrow's own file systems, and those of fsspec."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from didact.core.errors import ConfigError, DataError, MissingDependencyError
from didact.core.paths.masks import masked
from didact.core.paths.stores import Store

_THERE: Final = {409, 412}  # somebody else is putting it just now, or has
_UNKNOWN: Final = {400, 405, 501}  # of servers that do not know such a condition
NATIVE: Final = {"s3", "gs", "az", "abfs", "abfss"}  # pyarrow's own
ALIASES: Final = {"gcs": "gs", "s3a": "s3", "s3n": "s3"}
# what decides how a store is reached; a test or a notebook may change it
_ENVIRONMENT: Final = ("AWS_", "GOOGLE_", "AZURE_", "HF_", "STORAGE_EMULATOR_HOST", "HTTP", "NO_P")


def store_of(scheme: str, root: str) -> Store:
    """The store behind a scheme and a bucket or host, opened once in a process.

    Raises:
        MissingDependencyError: Its driver is not installed.
        DataError: There is no such scheme.
    """
    facts = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(_ENVIRONMENT)))
    return _store(scheme, root, os.getpid(), facts)


@lru_cache(maxsize=64)
def _store(scheme: str, root: str, pid: int, facts: tuple[tuple[str, str], ...]) -> Store:
    del pid, facts  # another process, or another environment, is another store
    from didact.core.paths.arrow_store import ArrowStore
    from didact.core.paths.fsspec_store import FsspecStore

    if scheme == "s3":
        user, bucket = _userinfo(root)
        return ArrowStore(_s3(user), bucket, partial(_put_new, user))
    if scheme == "gs":
        return ArrowStore(_gs(), root, flat=True)
    if scheme in {"az", "abfs", "abfss"}:
        container, account = _container(scheme, root)
        return ArrowStore(_azure(scheme, root, account), container, careful=True)
    return FsspecStore(scheme, _fsspec(scheme), root)


def _s3_settings(user: str) -> dict[str, str]:
    """Where S3 is and whose it is, as far as the environment and the URL say."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    found = {"region": region}
    if endpoint:
        endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
        parts = urlsplit(endpoint)
        if not parts.hostname or parts.path.strip("/"):
            raise ConfigError(
                f"AWS_ENDPOINT_URL is {masked(endpoint)!r}; expected a scheme and a host, as "
                "https://storage.example.org:9000"
            )
        found = {"endpoint": endpoint, "region": region or "us-east-1"}
    if user:
        name, _, secret = user.partition(":")
        found |= {"access_key": unquote(name), "secret_key": unquote(secret)}
    return {name: value for name, value in found.items() if value}


def _s3(user: str) -> Any:
    """S3 without any question to the network: no region is looked up."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    settings = _s3_settings(user)
    if endpoint := settings.pop("endpoint", ""):
        parts = urlsplit(endpoint)
        settings |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    return S3FileSystem(
        connect_timeout=3, request_timeout=20,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=2), **settings,
    )  # fmt: skip


def _put_new(user: str, bucket: str, key: str, data: bytes) -> bool | None:
    """Put an object into S3 unless there is one: whether it was; None where that cannot be said.

    pyarrow has no conditional put (26 takes `If-None-Match` and does not send it).
    """
    try:
        from botocore.exceptions import ClientError
    except ImportError:
        return None
    try:
        settings = tuple(_s3_settings(user).items())
        _client(settings, os.getpid()).put_object(
            Bucket=bucket, Key=key, Body=data, IfNoneMatch="*"
        )
    except ClientError as error:
        status = error.response["ResponseMetadata"].get("HTTPStatusCode")
        if status in _THERE:
            return False
        if status in _UNKNOWN:
            return None
        raise
    return True


@lru_cache(maxsize=8)
def _client(settings: tuple[tuple[str, str], ...], pid: int) -> Any:
    """A client of botocore; making one takes a third of a second."""
    del pid
    from botocore.config import Config
    from botocore.session import get_session

    found = dict(settings)
    endpoint = found.get("endpoint")
    config = Config(
        connect_timeout=3, read_timeout=20, retries={"max_attempts": 2, "mode": "standard"},
        s3={"addressing_style": "path" if endpoint else "auto"},
    )  # fmt: skip
    return get_session().create_client(
        "s3", region_name=found.get("region", "us-east-1"), endpoint_url=endpoint,
        aws_access_key_id=found.get("access_key"), aws_secret_access_key=found.get("secret_key"),
        config=config,
    )  # fmt: skip


def _gs() -> Any:
    from datetime import timedelta

    from pyarrow.fs import GcsFileSystem

    more: dict[str, Any] = {}
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        parts = urlsplit(emulator if "://" in emulator else f"http://{emulator}")
        more = {"endpoint_override": parts.netloc, "scheme": parts.scheme, "anonymous": True}
    # without a limit it tries for a quarter of an hour
    return GcsFileSystem(retry_time_limit=timedelta(seconds=5), **more)


def _container(scheme: str, root: str) -> tuple[str, str]:
    """Container and account of `abfs://container@account.dfs.core.windows.net` or `az://it`."""
    container, at, host = root.rpartition("@")
    if at:
        return container, host.partition(".")[0]
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get(
        "AZURE_STORAGE_ACCOUNT"
    )
    if not account:
        raise ConfigError(
            f"{scheme}://{root}: whose storage account it is, is not said; set "
            f"AZURE_STORAGE_ACCOUNT_NAME, or write abfs://{root}@ACCOUNT.dfs.core.windows.net/…"
        )
    return root, account


def _azure(scheme: str, root: str, account: str) -> Any:
    try:
        from pyarrow.fs import AzureFileSystem
    except ImportError as error:
        raise MissingDependencyError(
            f"{scheme}://{root} needs a pyarrow that was built with Azure: pip install -U pyarrow"
        ) from error
    key = os.environ.get("AZURE_STORAGE_ACCOUNT_KEY") or os.environ.get("AZURE_STORAGE_KEY")
    sas = os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    more: dict[str, Any] = {"account_key": key} if key else {"sas_token": sas} if sas else {}
    if authority := os.environ.get("AZURE_STORAGE_BLOB_AUTHORITY"):  # Azurite: 127.0.0.1:10000
        # which kind of account it is, is asked of the other one
        other = os.environ.get("AZURE_STORAGE_DFS_AUTHORITY") or authority
        more |= {
            "blob_storage_authority": authority, "blob_storage_scheme": "http",
            "dfs_storage_authority": other, "dfs_storage_scheme": "http",
        }  # fmt: skip
    return AzureFileSystem(account, **more)


def _fsspec(scheme: str) -> Any:
    """A file system of fsspec, which many libraries have a driver for."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(
            f"{scheme}:// is read with fsspec, which is not installed: pip install 'didact[remote]'"
        ) from error
    if scheme not in fsspec.available_protocols():
        raise DataError(
            f"{scheme}:// is no scheme that is known; expected s3, gs, az, hf, https, or one that "
            "fsspec has a driver for"
        )
    settings: dict[str, Any] = {}
    if scheme in {"http", "https"}:
        settings = {"get_client": _http_client, "skip_instance_cache": True}
    elif scheme == "hf":
        settings = {"endpoint": os.environ.get("HF_ENDPOINT"), "use_listings_cache": False}
    try:
        return fsspec.filesystem(scheme, **settings)
    except ImportError as error:
        extra = "didact[remote]" if scheme in {"http", "https", "hf"} else ""
        remedy = f"pip install {extra!r}" if extra else f"install what it names ({error})"
        raise MissingDependencyError(
            f"{scheme}:// needs a driver that is not installed: {remedy}"
        ) from error


async def _http_client(**settings: Any) -> Any:
    """A client that gives up on a silent host, honors proxies and wants the bytes as they lie."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=20)
    headers = {"Accept-Encoding": "identity"}
    return aiohttp.ClientSession(timeout=timeout, trust_env=True, headers=headers, **settings)


def _userinfo(root: str) -> tuple[str, str]:
    user, _, rest = root.rpartition("@")
    return user, rest
