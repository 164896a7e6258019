"""Files read where their checksums hold: flipped, cut, emptied, grown and deleted ones are noticed."""

from __future__ import annotations

import json
import os
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didact.core import checksums
from didact.core.checksums import BLOCK, CheckedFile, Checksums, read_signed, signed
from didact.core.errors import DamagedError, DataError

SIZE = 3 * BLOCK + 12_345  # three whole blocks and a part of one
DATA = np.random.default_rng(5).integers(0, 256, SIZE, dtype=np.uint8).tobytes()
PLACES = [0, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK + 77, 3 * BLOCK, SIZE - 1]

TICK = 0.02  # seconds; before Linux 6.13 the times of files advance every 10 ms at the least


@pytest.fixture
def checked(tmp_path):
    """A file of four blocks, and the seal of the folder it is in."""
    path, seal = tmp_path / "file.bin", tmp_path / "entry.json"
    path.write_bytes(DATA)
    seal.write_text("sealed")
    return CheckedFile(path, Checksums.of(path), seal)


def flip(path, at, bit=0):
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def streamed(checked):
    with checked.stream() as file:
        return file.read()


WAYS = {
    "verify": CheckedFile.verify,
    "read": CheckedFile.read,
    "stream": streamed,
    "readall": lambda c: c.stream().readall(),
}


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", PLACES)
def test_one_bit_flipped_anywhere_is_noticed(way, at, checked):
    for bit in (0, 7):
        flip(checked.path, at, bit)
        with pytest.raises(DamagedError, match=f"from byte {at // BLOCK * BLOCK} on"):
            WAYS[way](checked)
        flip(checked.path, at, bit)
    WAYS[way](checked)  # as it was again


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("left", [0, 1, BLOCK, SIZE - 1, SIZE + 1, SIZE + BLOCK])
def test_a_file_that_is_cut_emptied_or_grown_is_noticed(way, left, checked):
    os.truncate(checked.path, left)
    with pytest.raises(DamagedError, match=f"{left} bytes where {SIZE} were written"):
        WAYS[way](checked)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_gone_is_damage_too(way, checked):
    checked.path.unlink()
    with pytest.raises(DamagedError, match="No such file"):
        WAYS[way](checked)


@pytest.mark.parametrize("way", WAYS)
def test_the_seal_is_removed_on_damage_and_only_then(way, checked):
    WAYS[way](checked)
    assert checked.seal.exists()
    flip(checked.path, 2 * BLOCK)
    with pytest.raises(DamagedError):
        WAYS[way](checked)
    assert not checked.seal.exists()
    assert checked.path.exists()
    with pytest.raises(DamagedError):  # also where the seal is gone already
        WAYS[way](checked)


def test_only_what_is_read_is_verified(checked):
    flip(checked.path, 2 * BLOCK + 5)
    assert checked.read(0, 2 * BLOCK) == DATA[: 2 * BLOCK]
    assert checked.read(3 * BLOCK) == DATA[3 * BLOCK :]
    checked.verify(3 * BLOCK, SIZE)
    assert checked.seal.exists()
    for start, stop in ((2 * BLOCK - 1, 2 * BLOCK + 1), (3 * BLOCK - 1, 3 * BLOCK), (0, SIZE)):
        with pytest.raises(DamagedError):
            checked.read(start, stop)
        with pytest.raises(DamagedError):
            checked.verify(start, stop)


def compared(monkeypatch):
    """The blocks that are compared from now on."""
    blocks, compare = [], CheckedFile._compare

    def told(self, descriptor, first, stop):
        blocks.extend(range(first, stop))
        compare(self, descriptor, first, stop)

    monkeypatch.setattr(CheckedFile, "_compare", told)
    return blocks


def test_a_block_is_compared_once(checked, monkeypatch):
    blocks = compared(monkeypatch)
    checked.read(BLOCK + 1, BLOCK + 2)
    checked.read(BLOCK, 2 * BLOCK)
    assert blocks == [1]
    checked.verify()
    streamed(checked)
    assert sorted(blocks) == [0, 1, 2, 3]


@pytest.mark.parametrize("at", PLACES)
def test_a_block_that_was_verified_is_verified_again_when_the_file_changes(at, checked):
    checked.verify()
    time.sleep(TICK)
    flip(checked.path, at)
    with pytest.raises(DamagedError):
        checked.read(at, at + 1)


def test_a_change_that_hides_its_time_is_noticed(checked):
    """Tools that copy set the modification time back; the change time they cannot set."""
    checked.verify()
    before = checked.path.stat()
    time.sleep(TICK)
    flip(checked.path, BLOCK)
    os.utime(checked.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DamagedError):
        checked.read()


def test_a_file_put_in_its_place_is_verified(checked, tmp_path):
    checked.verify()
    other = tmp_path / "other"
    other.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    other.replace(checked.path)
    with pytest.raises(DamagedError):
        checked.read()


def test_a_file_that_changes_under_an_open_stream_is_noticed(checked):
    with checked.stream() as file:
        assert file.read(10) == DATA[:10]
        time.sleep(TICK)
        flip(checked.path, 3)
        with pytest.raises(DamagedError):
            file.read(10)


def test_damage_says_what_is_wrong_and_the_way_out(checked):
    os.truncate(checked.path, 3)
    with pytest.raises(DataError, match="run the same command again") as caught:
        checked.read()
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - as workers send it
    assert (again.path, again.what, str(again)) == (
        checked.path, caught.value.what, str(caught.value),
    )  # fmt: skip


# -- reading ---------------------------------------------------------------------------------------

small = st.integers(0, 23)


@given(data=st.binary(max_size=40), spans=st.lists(st.tuples(small, small), max_size=8))
@settings(max_examples=60, deadline=None)
def test_reads_are_the_file_s_bytes(tmp_path_factory, data, spans):
    """In blocks of 7 bytes, so that every border is crossed in every way."""
    path = tmp_path_factory.mktemp("file") / "x"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checksums, "BLOCK", 7)
        whole = Checksums.of(path)
    expected = Checksums(whole.n_bytes, whole.blocks, 7)
    assert len(expected.blocks) == 16 * -(-len(data) // 7)
    checked = CheckedFile(path, expected)
    with checked.stream() as file:
        for a, b in spans:
            start, stop = sorted((min(a, len(data)), min(b, len(data))))
            assert checked.read(start, stop) == data[start:stop]
            checked.verify(start, stop)
            assert file.seek(start) == file.tell() == start
            assert file.read(b) == data[start : start + b]
            assert file.tell() == min(start + b, len(data))
        file.seek(0)
        assert file.read() == data
        assert file.read(5) == b""
        file.seek(-len(data), os.SEEK_END)
        assert file.read(None) == data
    assert checked.read() == data


@given(st.integers(0, SIZE), st.integers(0, SIZE))
@settings(max_examples=50, deadline=None)
def test_reads_across_the_real_blocks_are_the_file_s_bytes(big, a, b):
    start, stop = sorted((a, b))
    assert big.read(start, stop) == DATA[start:stop]


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    path = tmp_path_factory.mktemp("big") / "x"
    path.write_bytes(DATA)
    return CheckedFile(path, Checksums.of(path))


def test_calls_that_give_less_than_asked_lose_no_byte(tmp_path, monkeypatch):
    """The kernel gives at most 2 GiB a call, and network file systems less than asked."""
    path = tmp_path / "x"
    path.write_bytes(DATA)
    expected = Checksums.of(path)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, n, at: pread(file, min(n, 1000), at))
    assert Checksums.of(path) == expected
    checked = CheckedFile(path, expected)
    checked.verify()
    assert checked.read() == streamed(checked) == DATA
    assert checked.read(BLOCK - 5, 2 * BLOCK + 5) == DATA[BLOCK - 5 : 2 * BLOCK + 5]
    flip(path, SIZE - 1)
    with pytest.raises(DamagedError):
        checked.read()


def test_an_empty_file_is_a_file(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    checked = CheckedFile(path, Checksums.of(path))
    checked.verify()
    assert checked.read() == streamed(checked) == b""
    path.write_bytes(b"x")
    with pytest.raises(DamagedError):
        checked.read()


def test_reading_beyond_the_end_is_an_error_not_short_bytes(checked):
    with pytest.raises(DamagedError, match="ends 5 bytes early"):
        checked.read(SIZE - 5, SIZE + 5)


# -- as JSON ---------------------------------------------------------------------------------------


def test_checksums_survive_json(checked):
    data = json.loads(json.dumps(checked.expected.to_json()))
    assert Checksums.from_json(data) == checked.expected


@pytest.mark.parametrize(
    "change", [lambda d: [d[0] + BLOCK, *d[1:]], lambda d: [*d[:2], d[2][:-16]],
               lambda d: [*d[:2], 5], lambda d: d[:2]],
)  # fmt: skip
def test_checksums_that_do_not_fit_the_size_are_refused(change, checked):
    with pytest.raises(ValueError):  # noqa: PT011 - of Python's own, or ours
        Checksums.from_json(change(checked.expected.to_json()))


def test_signed_values_are_read_back_and_nothing_else_is(tmp_path):
    path = tmp_path / "entry.json"
    values = {"b": [1, 2.5, None], "a": {"x": "ü"}}
    path.write_text(signed(values), "utf-8")
    assert read_signed(path) == values
    whole = path.read_bytes()
    for at, byte in enumerate(whole):
        if not chr(byte).isspace():
            path.write_bytes(whole[:at] + bytes([byte ^ 1]) + whole[at + 1 :])
            with pytest.raises(DamagedError):
                read_signed(path)
    for damaged in (b"", whole[:-2], b"[]", b"3", b'{"b": 1}', b'{"checksum": null}', b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError):
            read_signed(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_signed(path)
    path.mkdir()
    with pytest.raises(DamagedError):
        read_signed(path)
