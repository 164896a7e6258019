"""Claims: who works on something behind a URL, told to others by an object beside it.

A claim names its owner and is written again while he works. It is made by a conditional put. Where
a store has none it is written without one: then two that begin in the same moment may both work,
and whoever reads what they made decides by its checksums. Neither is anything damaged by a claim
that is taken over too early.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from threading import Event, Thread
from typing import Final

from didact.core.errors import DidactError
from didact.core.paths import RemotePath

RENEWED_SECONDS: Final = 30.0
SILENT_SECONDS: Final = 300.0  # after which a claim is taken over
_POLL_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Claim:
    """Who works.

    Attributes:
        token: Another for every claim.
        user: Name of the user.
        host: Name of the machine.
        pid: The process.
        renewed: When it was last written, seconds since 1970.
    """

    token: str
    user: str
    host: str
    pid: int
    renewed: float

    @classmethod
    def mine(cls) -> Claim:
        """A new one of this process."""
        return cls(uuid.uuid4().hex, _user(), socket.gethostname(), os.getpid(), time.time())

    def encoded(self) -> bytes:
        """As it is written, renewed now."""
        return json.dumps({**asdict(self), "renewed": time.time()}).encode()

    def is_over(self) -> bool:
        """Whether its owner has been silent for too long, or was a process here that is gone."""
        if time.time() - self.renewed > SILENT_SECONDS:
            return True
        if (self.host, self.user) != (socket.gethostname(), _user()):
            return False
        return self.token not in _HELD if self.pid == os.getpid() else not _is_alive(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host}"


_HELD: Final[set[str]] = set()  # tokens of this process: a container's next one has the same number


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        return str(os.getuid()) if hasattr(os, "getuid") else ""


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # where a signal of 0 ends a process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def read_claim(place: RemotePath) -> Claim | None:
    """The claim that is there; None where there is none, or what is there is no claim."""
    try:
        told = json.loads(place.read_bytes())
        return Claim(
            str(told["token"]), str(told["user"]), str(told["host"]), int(told["pid"]),
            float(told["renewed"]),
        )  # fmt: skip
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def is_claimed(place: RemotePath) -> bool:
    """Whether somebody works there, as far as it is known."""
    found = read_claim(place)
    return found is not None and not found.is_over()


@contextmanager
def claimed(place: RemotePath, waiting: Callable[[Claim], None]) -> Iterator[None]:
    """Hold a claim while the block runs; whoever else wants it waits.

    Args:
        place: The object.
        waiting: Called if another holds it; what it raises ends the wait.

    Raises:
        DataError: The store cannot be read or written.
    """
    mine = Claim.mine()
    _take(place, mine, waiting)
    _HELD.add(mine.token)
    over = Event()
    renewing = Thread(target=_renew, args=(place, mine, over), name="claim", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        _HELD.discard(mine.token)
        with suppress(DidactError):  # it is silent from now on
            if _is_mine(place, mine):
                place.unlink(missing_ok=True)


def _take(place: RemotePath, mine: Claim, waiting: Callable[[Claim], None]) -> None:
    told, seen, since = False, "", time.monotonic()
    while True:
        if place.write_new(mine.encoded()):
            return
        found = read_claim(place)
        if found is not None and found.token == mine.token:  # put, though the answer was lost
            return
        if found is not None:
            mark = f"{found.token}{found.renewed}"
            if mark != seen:  # whatever its clock says
                seen, since = mark, time.monotonic()
        if found is None or found.is_over() or time.monotonic() - since > SILENT_SECONDS:
            place.write_bytes(mine.encoded())
            if _is_mine(place, mine):
                return
            continue
        if not told:
            waiting(found)
            told = True
        time.sleep(_POLL_SECONDS)


def _is_mine(place: RemotePath, mine: Claim) -> bool:
    found = read_claim(place)
    return found is not None and found.token == mine.token


def _renew(place: RemotePath, mine: Claim, over: Event) -> None:
    while not over.wait(RENEWED_SECONDS):
        with suppress(DidactError):  # a store that is down comes back, or the claim is taken over
            if not _is_mine(place, mine):
                return
            place.write_bytes(mine.encoded())
