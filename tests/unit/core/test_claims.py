"""Claims behind URLs, on a store of fsspec's in this process."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from threading import Thread

import pytest

from didact.core import claims
from didact.core.claims import Claim, claimed, is_claimed, read_claim
from didact.core.errors import ConfigError
from didact.core.paths import place

pytest.importorskip("fsspec")


@pytest.fixture
def at(request):
    return place(f"memory://claims/{request.node.name}/claim")


def refuse(claim):
    raise ConfigError(str(claim))


def test_one_holds_it_and_the_other_is_told_who(at):
    with claimed(at, refuse):
        assert is_claimed(at)
        assert read_claim(at).pid == os.getpid()
        with pytest.raises(ConfigError, match=f"process {os.getpid()} of .* on "):
            claimed(at, refuse).__enter__()
    assert not at.exists()


def test_whoever_waits_has_it_next(at, monkeypatch):
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.01)
    told, done = [], []

    def second():
        with claimed(at, told.append):
            done.append(time.monotonic())

    with claimed(at, refuse):
        thread = Thread(target=second)
        thread.start()
        while not told:
            time.sleep(0.005)
        assert not done
        over = time.monotonic()
    thread.join()
    assert done[0] >= over
    assert len(told) == 1


def test_a_process_that_is_gone_holds_nothing_here(at):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = replace(Claim.mine(), pid=gone.pid)
    at.write_bytes(left.encoded())
    with claimed(at, refuse):
        pass
    # in another container the next process may have the same number
    at.write_bytes(Claim.mine().encoded())
    with claimed(at, refuse):
        pass
    elsewhere = replace(left, host=socket.gethostname() + "-2")
    at.write_bytes(elsewhere.encoded())
    with pytest.raises(ConfigError):
        claimed(at, refuse).__enter__()


def test_one_that_is_silent_is_taken_over(at, monkeypatch):
    silent = {**json.loads(Claim.mine().encoded()), "host": "elsewhere"}
    at.write_bytes(json.dumps({**silent, "renewed": time.time() - 301}).encode())
    with claimed(at, refuse):
        pass
    monkeypatch.setattr(claims, "SILENT_SECONDS", 0.05)
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.01)
    ahead = {**silent, "renewed": time.time() + 1000}  # its clock is wrong
    at.write_bytes(json.dumps(ahead).encode())
    told = []
    with claimed(at, told.append):
        assert str(told[0]).endswith("on elsewhere")


def test_it_is_renewed_and_left_to_whoever_took_it_over(at, monkeypatch):
    monkeypatch.setattr(claims, "RENEWED_SECONDS", 0.01)
    with claimed(at, refuse):
        first = read_claim(at).renewed
        end = time.monotonic() + 5
        while read_claim(at).renewed == first and time.monotonic() < end:
            time.sleep(0.005)
        assert read_claim(at).renewed > first
        at.write_bytes(replace(Claim.mine(), host="elsewhere").encoded())
        time.sleep(0.05)
    assert read_claim(at).host == "elsewhere"


def test_what_is_no_claim_holds_nothing(at):
    at.write_bytes(b"{")
    assert not is_claimed(at)
    with claimed(at, refuse):
        assert is_claimed(at)


def test_a_store_without_conditional_puts(at, monkeypatch):
    monkeypatch.setattr(type(at), "write_new", lambda *_: None)
    with claimed(at, refuse), pytest.raises(ConfigError):
        claimed(at, refuse).__enter__()
    assert not at.exists()
