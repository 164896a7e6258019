"""What a user gives, a path or a URL, as one kind of thing that can be listed and read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Final, TypeVar

from didact.core.errors import ConfigError, DataError
from didact.core.paths.drivers import ALIASES, NATIVE
from didact.core.paths.masks import MASK, masked
from didact.core.paths.remote_path import WEB, RemotePath

Place = Path | RemotePath
Given = str | Path | RemotePath

# two letters and more: C:// is a drive
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
# what pathlib makes of a URL
_MANGLED: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/[^/]")
_SCHEMES: Final = {*NATIVE, *WEB, *ALIASES, "hf", "file", "memory"}
_AT_A_TIME: Final = 16
P = TypeVar("P", bound=Place)
T = TypeVar("T")


def is_url(given: object) -> bool:
    """Whether a text is a URL, rather than a path of this machine; `file://` is one of these."""
    found = _URL.fullmatch(given) if isinstance(given, str) else None
    return found is not None and found[1].lower() != "file"


def shown(given: object) -> str:
    """What a user gave, for messages: credentials in URLs are `***`."""
    return masked(str(given))


def place(given: Given) -> Place:
    """A path of this machine, `~` expanded, or what lies behind a URL. Nothing is opened.

    Raises:
        DataError: The URL is incomplete, or was made a `pathlib.Path`, which breaks URLs.
    """
    if isinstance(given, RemotePath):
        return given
    if isinstance(given, Path):
        mangled = _MANGLED.match(given.as_posix())
        if mangled is not None and mangled[1].lower() in _SCHEMES and not given.exists():
            raise DataError(
                f"{shown(given)}: is a pathlib.Path of a URL, which it breaks; expected the URL "
                "itself, as text"
            )
        return given.expanduser()
    found = _URL.fullmatch(given)
    if found is None:
        return Path(given).expanduser()
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        return _of_this_machine(given, rest)
    scheme = ALIASES.get(scheme, scheme)
    rest, query = _apart(rest) if scheme in WEB else (rest, "")
    root, _, key = rest.partition("/")
    if MASK in root.rpartition("@")[0] or f"={MASK}" in query:
        raise DataError(
            f"{given}: its credentials were left out where it was written down; expected the "
            "whole URL"
        )
    if not root.rpartition("@")[2] and scheme != "memory":
        raise DataError(f"{shown(given)}: names no bucket or host; expected {scheme}://NAME/PATH")
    return RemotePath(scheme, root, key.strip("/") if scheme not in WEB else key, query)


def local(given: str | Path, what: str) -> Path:
    """A path of this machine, `~` expanded, for what is written.

    Args:
        given: The path.
        what: What it is for, for the message.

    Raises:
        ConfigError: It is a URL.
    """
    text = given if isinstance(given, str) else given.as_posix()
    mangled = _MANGLED.match(text)
    if mangled is not None and mangled[1].lower() in _SCHEMES:
        text = text.replace(":/", "://", 1)
    if is_url(text):
        raise ConfigError(
            f"{what}: {shown(text)} is a URL; expected a path of this machine: this is read or "
            "written on a disk alone"
        )
    found = place(given)
    assert isinstance(found, Path)  # noqa: S101 - no URL
    return found


def _of_this_machine(given: str, rest: str) -> Path:
    from urllib.request import url2pathname

    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise DataError(f"{given}: expected file:///PATH, a path of this machine from its root")
    return Path(url2pathname(slash + path))


def _apart(rest: str) -> tuple[str, str]:
    """What stands before and from the query of a URL on."""
    at = min((i for i in (rest.find("?"), rest.find("#")) if i >= 0), default=len(rest))
    return rest[:at], rest[at:]


def listed(folder: Place, pattern: str) -> list[Place]:
    """What a pattern matches in a folder, sorted; `**` is any number of folders."""
    if isinstance(folder, RemotePath):
        return [*folder.glob(pattern)]
    return [*sorted(folder.glob(pattern))]


def inside(place: Place, folder: Place) -> PurePath:
    """What a place is called from a folder that it lies in.

    Raises:
        ValueError: It does not lie in it.
    """
    if isinstance(place, RemotePath) and isinstance(folder, RemotePath):
        return place.relative_to(folder)
    if isinstance(place, Path) and isinstance(folder, Path):
        return place.relative_to(folder)
    raise ValueError(f"{place} does not lie in {folder}")


def each(act: Callable[[P], T], places: Sequence[P]) -> list[T]:
    """What `act` gives for each of some places; of remote ones, which wait, several at a time."""
    if not any(isinstance(place, RemotePath) for place in places):
        return [act(place) for place in places]
    with ThreadPoolExecutor(_AT_A_TIME) as workers:
        found = [workers.submit(act, place) for place in places]
        try:
            return [one.result() for one in found]
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise
