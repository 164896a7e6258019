from __future__ import annotations

import importlib.util
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress

import pytest

import didact
from didact.core.errors import ConfigError, MissingDependencyError
from didact.execution.cluster import connection


@pytest.fixture
def nowhere():
    """The address of a port that nothing listens at."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def answering(server, answer):
    with suppress(OSError):
        while True:
            with server.accept()[0] as door:
                door.recv(99)
                door.sendall(answer)


@pytest.fixture
def listening():
    """Starts servers that answer whatever they are asked in one way."""
    with ExitStack() as servers:

        def start(answer):
            server = servers.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
            servers.callback(server.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=answering, args=(server, answer), daemon=True).start()
            return f"127.0.0.1:{server.getsockname()[1]}"

        yield start


@pytest.fixture
def somewhere(listening):
    """As the head of a cluster answers."""
    return listening(b"\0\0\x18\4\0\0\0\0\0")


def test_what_is_no_cluster_is_told_so(listening):
    with pytest.raises(ConfigError, match=r"no cluster answers there \(something else listens\)"):
        connection._found(listening(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


def test_an_address_with_nothing_there_is_refused_at_once(nowhere):
    began = time.monotonic()
    with pytest.raises(
        ConfigError, match=rf"^address={nowhere}: no cluster answers there \(Connection refused\); "
        "start one with 'ray start --head'",
    ):  # fmt: skip
        connection._found(nowhere)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "head:99999"])
def test_what_is_no_address_is_told_so(address):
    with pytest.raises(ConfigError, match=r"no cluster answers there \(expected host:port\)"):
        connection._found(address)


def test_an_address_of_another_protocol_is_refused():
    with pytest.raises(ConfigError, match=r"address=ray://head:10001: expected host:port of"):
        connection._found("ray://head:10001")


def test_a_cluster_is_found_where_ray_says(monkeypatch, tmp_path, somewhere, nowhere):
    assert connection._found(None) is None
    (tmp_path / "ray").mkdir()
    note = tmp_path / "ray" / "ray_current_cluster"
    note.write_text(nowhere)  # of a machine that was switched off
    assert connection._found("auto") is None
    note.write_text(f"{somewhere}\n")
    assert connection._found("auto") == connection._found(None) == somewhere
    monkeypatch.setenv("RAY_ADDRESS", nowhere)
    with pytest.raises(ConfigError, match=f"^RAY_ADDRESS={nowhere}: no cluster answers"):
        connection._found("auto")
    assert connection._found(somewhere) == somewhere
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert connection._found(None) is None


def test_a_cluster_of_its_own_has_a_secret_unless_the_user_decided(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    connection._own_token()
    assert "RAY_AUTH_TOKEN" not in connection.os.environ
    monkeypatch.delenv("RAY_AUTH_MODE")
    connection._own_token()
    assert len(connection.os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.delenv("RAY_AUTH_TOKEN")


def test_without_ray_the_message_has_the_command(monkeypatch, tmp_path):
    real = importlib.util.find_spec

    def without(name, package=None):
        return None if name == "ray" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingDependencyError, match=r"executor ray needs ray: pip install 'did"):
        didact.context(executor="ray", cache_dir=tmp_path)


def test_what_a_signal_raises_comes_out_of_ray_as_it_is():
    def interrupted(code):
        if code:
            raise SystemError("returned a result with an exception set") from KeyboardInterrupt()
        raise SystemError("a bug")

    assert connection.heard(max, [1, 3], default=0) == 3
    with pytest.raises(KeyboardInterrupt):
        connection.heard(interrupted, 1)
    with pytest.raises(SystemError, match="a bug"):
        connection.heard(interrupted, 0)
