"""Credentials in URLs, left out of everything that is written down or said."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

MASK: Final = "***"
# scheme://user:password@host. Of abfs://container@account the first is no secret: it has no colon.
_USERINFO: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]+://)([^/?#@\s]+)@(?=[^/@\s])")
_CONTAINERS: Final = re.compile(r"(?i)(abfss?|az|wasbs?|sftp|ssh)://")
_PARAMETER: Final = re.compile(r"([?&;])([\w.~%\[\]-]+)=([^&#\s'\"<>),;]+)")
_SECRET: Final = re.compile(
    r"(?i)sig|token|key|secret|passw|pwd|cred|auth|session|access|jwt|code|hmac|policy"
)


def masked(text: str) -> str:
    """A text in which the credentials of URLs are `***`.

    Credentials are what stands before the `@` of a host, and values of query parameters whose names
    look as if they held one: X-Amz-Signature, sig, token, key and their like.
    """
    if "://" not in text and "=" not in text:
        return text
    return _PARAMETER.sub(_parameter, _USERINFO.sub(_userinfo, text))


def _userinfo(found: re.Match[str]) -> str:
    if ":" not in found[2] and _CONTAINERS.fullmatch(found[1]):
        return found[0]
    return f"{found[1]}{MASK}@"


def _parameter(found: re.Match[str]) -> str:
    secret = _SECRET.search(unquote(found[2])) is not None
    return f"{found[1]}{found[2]}={MASK}" if secret else found[0]


def masked_values(value: Any) -> Any:
    """JSON values with the URLs in them masked."""
    if isinstance(value, str):
        return masked(value) if "://" in value else value
    if isinstance(value, dict):
        return {key: masked_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(item) for item in value]
    return value
