"""The way to a Ray cluster: one that runs is joined, or one is started on this machine."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from didact.core.errors import ConfigError, ExecutionError, need

AUTO: Final = "auto"
_STORE_BYTES: Final = 512 * 2**20  # what is shared is small: settings, statistics, row numbers
_SETTINGS: Final = b"\0\0\0\4\0\0\0\0\0"  # a frame of HTTP/2 that sets nothing
_REMEDY: Final = (
    "start one with 'ray start --head' there and 'ray start --address=HOST:PORT' on every other "
    "machine, this one included; or leave the address out, and one is started here"
)


def connect(address: str | None, cpus: int) -> bool:
    """Be part of a cluster; True if it was started here, and ends with this process.

    Args:
        address: `host:port` of its head. None or `auto`: the one that this process is part of, else
            that of `RAY_ADDRESS`, else the one that `ray start` started on this machine, else one
            of its own.
        cpus: Workers of a cluster that is started here.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: There is no cluster at the address, or it does not take this process.
        ExecutionError: One cannot be started here.
    """
    need("the executor ray", "ray")
    # Nothing is told to Ray's makers, whatever its own default; before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Workers without a device keep what their machine says of devices; Ray's coming default.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        _check_same(address, ray.get_runtime_context().gcs_address)
        return False
    # Ray prints what it notes of processes that die on stdout, where results go, whatever it was
    # asked to log. Its own debugger keeps it quiet like this; executors tell of deaths themselves.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001
    found = _found(address)
    if found is not None:
        _join(found)
        return False
    _own_token()
    try:
        with _signals_kept():
            ray.init(
                "local", num_cpus=cpus, object_store_memory=_STORE_BYTES, include_dashboard=False,
                log_to_driver=False, logging_level=logging.ERROR,
            )  # fmt: skip
    except Exception as error:  # Ray has no class of its own for it
        raise ExecutionError(
            f"Ray does not start on this machine: {' '.join(str(error).split())}; run the same "
            "command again when it is less busy, or use another executor"
        ) from error
    return True


def heard(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call Ray; what the handler of a signal raises meanwhile is raised as it is.

    Ray's own code may return in spite of it, of which Python makes a SystemError.
    """
    try:
        return call(*given, **named)
    except SystemError as error:
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None


def _check_same(address: str | None, joined: str) -> None:
    """Refuse an address that is not that of the cluster this process is part of."""
    if address in {None, AUTO} or address == joined:
        return
    host, _, port = str(address).rpartition(":")
    if host in {"localhost", "127.0.0.1"} and joined.rpartition(":")[2] == port:
        return
    raise ConfigError(
        f"address={address}: this process is part of the cluster at {joined} already; use that "
        "address, or call ray.shutdown() first"
    )


def _found(address: str | None) -> str | None:
    """The address of a cluster that answers; None if one is to be started."""
    given, what = address, "address"
    if given in {None, AUTO}:
        given, what = os.environ.get("RAY_ADDRESS") or None, "RAY_ADDRESS"
    if given == "local":
        return None
    if given is not None and given != AUTO:
        if "://" in given:
            raise ConfigError(
                f"{what}={given}: expected host:port of the cluster's head, such as "
                "10.0.0.1:6379; the program itself must run on a machine of the cluster"
            )
        if (why := _silent(given)) is not None:
            raise ConfigError(f"{what}={given}: no cluster answers there ({why}); {_REMEDY}")
        return given
    # Where `ray start` says what it started, as Ray documents it.
    note = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"  # noqa: S108
    try:
        noted = note.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return noted if _silent(noted) is None else None


def _silent(address: str) -> str | None:
    """Why nothing can be reached at an address; None if something listens there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        return "expected host:port"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=3) as door:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return None
            # Ray's head speaks HTTP/2, whose servers answer a greeting with their settings
            # (RFC 9113, 3.4). Ray itself would wait for minutes for anything else to be one.
            door.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)
            return None if door.recv(9)[3:4] == _SETTINGS[3:4] else "something else listens"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or str(error)


def _join(address: str) -> None:
    import ray

    try:
        with _signals_kept():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ConfigError(
            f"address={address}: the cluster does not take this process: {' '.join(lines[:4])}; "
            "Python and Ray must be of its versions, this machine a part of it (ray start "
            f"--address={address} --num-cpus=0), and its token, if it has one, in RAY_AUTH_TOKEN"
        ) from error


def _own_token() -> None:
    """A secret of its own for a cluster that is started here, unless the user has decided.

    Whoever reaches a Ray cluster may run code in it as its user, so others on this machine are kept
    out. Ray would do the same, and write its token into the home folder.
    """
    if not os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep what SIGTERM does; Ray would put a handler of its own in its place."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before != signal.SIG_DFL and signal.getsignal(signal.SIGTERM) != before:
            signal.signal(signal.SIGTERM, before)
