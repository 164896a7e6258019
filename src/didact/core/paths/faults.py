"""What drivers of remote stores raise, as one sentence with URL, cause and remedy."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from didact.core.errors import DataError, DidactError
from didact.core.paths.masks import masked

T = TypeVar("T")


class RemoteMissingError(DataError, FileNotFoundError):
    """Nothing lies behind a URL."""


_WAITS: Final = (0.2, 0.5, 1.0, 2.0)  # seconds before another try
_WAITS_FOR_A_HOST: Final = (0.5,)  # drivers have tried several times themselves
_LONGEST: Final = 300  # characters of what a driver says

# what the texts of an error and its causes show, most telling first
_OFFLINE: Final = re.compile(r"OfflineMode|HF_HUB_OFFLINE")
_NO_BUCKET: Final = re.compile(r"NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|Bucket not found")
_ELSEWHERE: Final = re.compile(r"HTTP status 301|PermanentRedirect|AuthorizationHeaderMalformed")
_REFUSED: Final = re.compile(
    r"ACCESS_DENIED|AccessDenied|HTTP status 40[13]|Forbidden|Unauthorized|PERMISSION_DENIED|"
    r"UNAUTHENTICATED|INVALID_ACCESS_KEY|InvalidAccessKey|SIGNATURE|SignatureDoesNotMatch|"
    r"INVALID_CLIENT_TOKEN|InvalidToken|ExpiredToken|EXPIRED_TOKEN|GatedRepo|CredentialUnavailable|"
    r"AuthenticationException|AuthenticationFailed|DefaultAzureCredential|PermissionError",
    re.IGNORECASE,
)
_UNCERTIFIED: Final = re.compile(r"SSLCert|CERTIFICATE_VERIFY|curlCode: (60|77)|SSLError")
_UNREACHED: Final = re.compile(
    r"curlCode: [567]\b|CURL error \[[567]\]|Could not connect|Couldn't connect|ConnectError|"
    r"Could not resolve|ClientConnector|ConnectionRefused|Name or service not known|gaierror|"
    r"No address associated|Network is unreachable|Connect call failed|ConnectTimeout|"
    r"Failed to connect|Connection refused|Connection timeout|Connection timed out"
)
_ABSENT: Final = re.compile(
    r"HTTP status (404|410)|Not Found|NO_SUCH_KEY|NoSuchKey|RESOURCE_NOT_FOUND|EntryNotFound|"
    r"RepositoryNotFound|RevisionNotFound"
)
_PASSING: Final = re.compile(
    r"HTTP status (429|5\d\d)|curlCode|CURL error|NETWORK_CONNECTION|INTERNAL_FAILURE|"
    r"InternalError|"
    r"SERVICE_UNAVAILABLE|SlowDown|SLOW_DOWN|THROTTL|REQUEST_TIMEOUT|Timeout|timed out|UNAVAILABLE|"
    r"ServerDisconnected|ClientPayload|ClientOSError|ConnectionReset|RemoteProtocol|ReadError|"
    r"Connection reset|Broken pipe|IncompleteRead|ended early|TRANSIENT|Connection aborted",
    re.IGNORECASE,
)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


# names of objects, which may be words like those that faults are told by
_NAMES: Final = re.compile(r"'[^']*'|\b[a-zA-Z][\w+.-]*://\S+")


def _told(error: BaseException) -> str:
    """All that an error and its causes say but names of objects, with those of their classes."""
    return " | ".join(
        f"{type(e).__name__}: {_NAMES.sub('', str(e))} {_status(e)}" for e in causes(error)
    )


def _status(error: BaseException) -> str:
    """The status of an answer of HTTP, as every client keeps it in another place."""
    answer = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(answer, "status_code", None)
    return f"HTTP status {status}" if isinstance(status, int) else ""


def _is_absent(error: BaseException, told: str) -> bool:
    """Whether a store says that there is no such object, and no more."""
    alone = isinstance(error, FileNotFoundError) and len(list(causes(error))) == 1
    return alone or _ABSENT.search(told) is not None


def _said(error: BaseException) -> str:
    """What the innermost cause says, in one line and without credentials."""
    last = list(causes(error))[-1]
    text = " ".join(str(last).split())
    if getattr(last, "status", None) is not None:  # the client of https:// repeats the whole URL
        text = _status(last)
    return masked(text)[:_LONGEST] or type(last).__name__


def fault(url: str, error: BaseException, tries: int = 1, *, writing: bool = False) -> DataError:
    """What went wrong behind a URL, for its user.

    Args:
        url: The URL without credentials.
        error: What a driver raised.
        tries: How often it was tried.
        writing: Whether something was to be written or removed there.
    """
    told = _told(error)
    scheme = url.partition("://")[0]
    about = {
        "said": _said(error), "endpoint": _ENDPOINTS.get(scheme, ""),
        "rights": _rights(scheme, writing=writing),
    }  # fmt: skip
    sentence = next((text for pattern, text in _SENTENCES.items() if pattern.search(told)), None)
    if sentence is not None:
        kind = RemoteMissingError if sentence is _BUCKET else DataError
        return kind(f"{url}: {sentence.format(**about)}")
    if _is_absent(error, told):
        return RemoteMissingError(f"{url}: there is no such object; check the URL")
    again = f" after {tries} tries" if tries > 1 else ""
    return DataError(
        f"{url}: cannot be {'written' if writing else 'read'}{again} ({about['said']}); run the "
        "same command again once the store answers"
    )


def _rights(scheme: str, *, writing: bool) -> str:
    """Which rights are missing, and where they are looked for."""
    found = _RIGHTS.get(scheme, _ANY_RIGHTS)
    if not writing:
        return found
    return re.sub(r"rights to (list and )?read it", "rights to list, read and write it", found)


_BUCKET: Final = (
    "there is no such bucket ({said}); check its name, and AWS_ENDPOINT_URL where it is not AWS "
    "that has it"
)
_SENTENCES: Final = {
    _OFFLINE: "the Hugging Face hub is switched off by HF_HUB_OFFLINE; unset it, or download the "
    "files while there is a network and give their folder",
    _NO_BUCKET: _BUCKET,
    _ELSEWHERE: "the bucket lies in another region than asked ({said}); set AWS_REGION to its own",
    _UNCERTIFIED: "the certificate of the host is not trusted ({said}); give the address of a host "
    "with a valid one, or add its authority to those of this machine",
    _UNREACHED: "no connection to its host ({said}); check the network, the host's name{endpoint} "
    "and whether it is up",
    _REFUSED: "access is refused ({said}); {rights}",
}
_ENDPOINTS: Final = {
    "s3": ", AWS_ENDPOINT_URL", "hf": ", HF_ENDPOINT", "gs": ", STORAGE_EMULATOR_HOST",
}  # fmt: skip
_RIGHTS: Final[dict[str, str]] = {
    "s3": "expected the rights to list and read it: check AWS_ACCESS_KEY_ID, AWS_PROFILE or the "
    "role (where listing is not allowed, a missing key looks like this, too)",
    "gs": "expected the rights to list and read it: check GOOGLE_APPLICATION_CREDENTIALS, or run "
    "gcloud auth application-default login",
    "hf": "expected a token that may read it: set HF_TOKEN, and accept the terms of the data set "
    "on its page where it has some (what does not exist looks like this, too)",
    "az": "expected the rights to list and read it: set AZURE_STORAGE_ACCOUNT_KEY or "
    "AZURE_STORAGE_SAS_TOKEN, or run az login",
    "https": "expected a URL that anybody may read, or one that is signed and not expired",
}
_RIGHTS.update(abfs=_RIGHTS["az"], abfss=_RIGHTS["az"], http=_RIGHTS["https"])
_ANY_RIGHTS: Final = "expected the rights to read it: check the credentials of its driver"


def waits(error: BaseException) -> tuple[float, ...]:
    """Seconds before each further try that is worth it; () where none is."""
    told = _told(error)
    for final in (_OFFLINE, _NO_BUCKET, _ELSEWHERE, _UNCERTIFIED):
        if final.search(told):
            return ()
    if _UNREACHED.search(told):
        return () if "google::cloud" in told else _WAITS_FOR_A_HOST
    if _REFUSED.search(told) or _is_absent(error, told):
        return ()
    if isinstance(error, TimeoutError | ConnectionError) or _PASSING.search(told):
        return _WAITS
    return ()


def _part(error: BaseException, outer: BaseException | None) -> None:
    """Take what was being handled before from the causes of an error."""
    at: BaseException | None = error
    while at is not None and outer is not None:
        if at.__context__ is outer:
            at.__context__ = None
        at = at.__context__


def persistently(url: str, act: Callable[[], T], *, writing: bool = False) -> T:
    """What `act` gives, tried again with growing waits while the fault may pass.

    Args:
        url: The URL without credentials.
        act: What is done; it may be done several times.
        writing: Whether it writes or removes something, for messages.

    Raises:
        DataError: It failed for good, or too often.
    """
    tries, outer = 0, sys.exception()
    while True:
        tries += 1
        try:
            return act()
        except (DidactError, TypeError, AttributeError, NameError, AssertionError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever the libraries of a driver raise
            _part(error, outer)
            pauses = waits(error)
            if tries > len(pauses):
                # not from it: tracebacks would show what is masked
                raise fault(url, error, tries, writing=writing) from None
            time.sleep(pauses[tries - 1])
