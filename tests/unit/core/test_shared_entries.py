"""Entries behind URLs, on a store of fsspec's in this process."""

import pickle
import time
from dataclasses import replace

import numpy as np
import pytest

from didact.core.cost import Bill, Cost
from didact.core.entries import ENTRY, intact_entry, open_entry, seal, sweep_abandoned
from didact.core.errors import DamagedError
from didact.core.keep import UNFINISHED, entry_name, keep
from didact.core.paths import listed, place
from didact.core.pool import Pool
from didact.core.remote_files import RemoteFile
from didact.core.shared_entries import fetched, share, standing
from didact.verbs import context, read

pytest.importorskip("fsspec")
KEY = "0" * 32


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / "scratch"))


@pytest.fixture
def url(tmp_path):
    return place(f"memory://entries/{tmp_path.name}")


def elsewhere(tmp_path, monkeypatch, name="elsewhere"):
    """Another machine: nothing in its scratch."""
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path / name))


def made(tmp_path, text=b"a" * 300_000, name="made"):
    folder = tmp_path / name / "kind" / KEY
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_bytes(text)
    (folder / "small").write_bytes(b"")
    seal(folder, Bill(own=Cost(cpu_seconds=2.0)))
    return folder


def names(folder):
    return [p.relative_to(folder).as_posix() for p in listed(folder, "**/*") if p.is_file()]


def test_what_is_shared_is_fetched_whole_and_once(url, tmp_path):
    here, there = made(tmp_path), url / "kind" / KEY
    share(here, there)
    entry = intact_entry(there, pytest.fail, whole=False)
    assert (entry.bill.own.cpu_seconds, entry.n_bytes) == (2.0, 300_000)
    copy = tmp_path / "copy" / "kind" / KEY
    found = fetched(there, copy, pytest.fail)
    found.verify()
    assert (copy / ENTRY).read_bytes() == (here / ENTRY).read_bytes()
    assert fetched(url / "kind" / ("1" * 32), copy.with_name("1" * 32), pytest.fail) is None
    # somebody else is second: the first stays, and nothing of the other
    before = names(there)
    share(made(tmp_path, b"b" * 10, "second"), there)
    assert names(there) == before


def test_of_two_that_share_at_once_the_first_has_it(url, tmp_path, monkeypatch):
    there = url / "kind" / KEY
    first, second = made(tmp_path), made(tmp_path, b"b" * 10, "second")
    put = type(url).write_new

    def late(self, data):
        monkeypatch.undo()
        share(first, there)
        return put(self, data)

    monkeypatch.setattr(type(url), "write_new", late)
    share(second, there)
    entry = open_entry(there)
    entry.verify()
    assert entry.n_bytes == 300_000
    assert {name.partition("/")[0] for name in names(there)} == {ENTRY, entry.at}


def test_nothing_half_written_is_there(url, tmp_path, monkeypatch):
    there = url / "kind" / KEY

    def fails(self, data):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(type(url), "write_new", fails)
        with pytest.raises(RuntimeError):
            share(made(tmp_path), there)
    assert names(there)
    assert intact_entry(there, pytest.fail, whole=False) is None


def test_what_could_not_be_put_whole_leaves_nothing(url, tmp_path):
    here, there = made(tmp_path), url / "kind" / KEY
    (here / "small").unlink()
    with pytest.raises(FileNotFoundError):
        share(here, there)
    assert names(there) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_one_is_removed_and_said(url, tmp_path, damage):
    there = url / "kind" / KEY
    share(made(tmp_path), there)
    file = there / open_entry(there).at / "sub" / "file"
    data = bytearray(file.read_bytes())
    data[200_000] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(bytes(data) if damage == "flip" else bytes(data[:100_000]))
    told = []
    assert fetched(there, tmp_path / "copy" / "kind" / KEY, told.append) is None
    assert "is damaged" in told[0]
    assert not (there / ENTRY).exists()
    assert not (tmp_path / "copy" / "kind" / KEY).exists()


def test_a_value_made_on_one_machine_is_found_on_another(url, tmp_path, monkeypatch):
    count = []

    def value(ctx):
        return keep(
            ctx, "numbers", "key", lambda _: count.append(1) or np.arange(9),
            save=lambda v, folder: np.save(folder / "v.npy", v),
            load=lambda folder: (folder / "v.npy", np.load(folder / "v.npy").tolist()),
        )  # fmt: skip

    path, _ = value(context(cache_dir=url))
    packed = pickle.dumps(path)
    elsewhere(tmp_path, monkeypatch)
    again, found = value(context(cache_dir=url))
    assert (found, len(count)) == (list(range(9)), 1)
    assert again != path
    # workers on other machines get the path, and fetch what it is of
    elsewhere(tmp_path, monkeypatch, "worker")
    of_worker = pickle.loads(packed)  # noqa: S301 - the test's own
    assert (tmp_path / "worker") in of_worker.parents
    assert np.load(of_worker).tolist() == found
    # removed where it is shared: shared again by whoever has it
    (url / "numbers").remove()
    value(context(cache_dir=url))
    assert names(url)
    assert not (url / UNFINISHED).exists()
    assert len(count) == 1


def test_finished_pieces_are_found_on_another_machine(url, tmp_path, monkeypatch):
    done = []

    def make(until):
        def work(ctx):
            for i in range(4):
                name = f"piece-{i}"
                if ctx.pieces.load(name, lambda folder: (folder / "n").read_text()) is None:
                    if i == until:
                        raise KeyboardInterrupt
                    done.append(i)
                    ctx.pieces.save(name, lambda folder, i=i: (folder / "n").write_text(str(i)))
            return ctx.pieces.names()

        return work

    def value(until):
        return keep(
            context(cache_dir=url), "pieced", "key", make(until),
            save=lambda v, folder: (folder / "v").write_text(",".join(v)),
            load=lambda folder: (folder / "v").read_text(),
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        value(2)
    elsewhere(tmp_path, monkeypatch)
    assert value(None) == "piece-0,piece-1,piece-2,piece-3"
    assert done == [0, 1, 2, 3]
    assert not (url / UNFINISHED).exists()


def test_reads_fetch_few_blocks_and_a_copy_in_the_end(url, tmp_path):
    block = 2**17
    data = np.random.default_rng(0).bytes(40 * block + 5)
    share(made(tmp_path, data), url / "kind" / KEY)
    file = open_entry(url / "kind" / KEY).file("sub/file")
    assert isinstance(file, RemoteFile)
    asked = []
    real = type(url).anywhere

    def watched(self):
        source = real(self)
        read = source.read

        def reading(at, size):
            asked.append((at, size))
            return read(at, size)

        source.read = reading
        return source

    file.path.__class__.anywhere, before = watched, real
    try:
        assert file.read(10, 20) == data[10:20]
        assert file.read(0, 5) == data[:5]
        assert file.read(7 * block - 1, 7 * block + 1) == data[7 * block - 1 : 7 * block + 1]
        assert asked == [(0, block), (6 * block, 2 * block)]
        with file.stream() as stream:
            assert stream.read() == data
        assert len(asked) < 10
        assert file.near(1, 100) is file
        near = file.near(10, 100)
    finally:
        file.path.__class__.anywhere = before
    assert not isinstance(near, RemoteFile)
    assert near.read() == data
    other = replace(file.expected, blocks="0" * len(file.expected.blocks))
    with pytest.raises(DamagedError):
        RemoteFile(file.path, other).read()


@pytest.mark.parametrize("data", [b"", b"short", b"x" * (2**17 + 7)])
def test_a_damaged_copy_in_the_scratch_is_fetched_again(url, tmp_path, data):
    whole = b"y" * (2**17 + 7)
    share(made(tmp_path, whole), url / "kind" / KEY)
    near = open_entry(url / "kind" / KEY).file("sub/file").near(10, 100)
    assert near.read() == whole
    near.path.write_bytes(data)
    again = open_entry(url / "kind" / KEY).file("sub/file").near(10, 100)
    assert again.read() == whole
    near.path.write_bytes(data)  # while it is used: an error, and whole when it is used again
    with pytest.raises(DamagedError):
        again.read()
    assert open_entry(url / "kind" / KEY).file("sub/file").near(10, 100).read() == whole


def test_a_cache_of_this_machine_stands_where_it_is(tmp_path):
    assert standing(tmp_path) is tmp_path
    assert entry_name("a", "b") == entry_name("a", "b")


def test_what_killed_processes_left_goes_after_a_day(url, monkeypatch):
    names_there = (".a.tmp/parts/x", ".a.tmp/y", ".b.tmp/z", "mine.tmp/w")
    for name in names_there:
        (url / "tmp" / name).write_bytes(b"x")
    sweep_abandoned(url / "none")
    sweep_abandoned(url / "tmp")
    assert names(url / "tmp") == sorted(names_there)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    sweep_abandoned(url / "tmp")
    assert names(url / "tmp") == ["mine.tmp/w"]


@pytest.mark.parametrize("column", ["id", "text"])
def test_damage_of_a_pool_is_told_whatever_is_read_of_it(url, tmp_path, column):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"id": "row-{i}", "text": "text {i}"}}\n' for i in range(30_000)))
    pool = read(path, cache_dir=url)
    (file,) = listed(pool.path, "*/pool-00000.arrow")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(bytes(damaged))
    fresh = Pool(pool.path, pool.fingerprint)
    with pytest.raises(DamagedError, match=r"pool-00000\.arrow"):
        for rows in fresh.batches():
            fresh.read(rows, [column])
