"""The cache as the user sees it: what is in it, and being rid of it without losing anything else."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest

from didact.core.cache import cached_folders, clear, listed, prune, seconds
from didact.core.cost import Cost, Meter
from didact.core.errors import ConfigError
from didact.core.keep import keep
from didact.core.locks import folder_to_oneself
from didact.core.protocols import Context
from didact.execution.executors import serial

DAY = 86_400


def save(value, folder):
    (folder / "value.bin").write_bytes(value)


def load(folder):
    return (folder / "value.bin").read_bytes()


def put(ctx, kind, key, size=100, flops=1.0):
    """Keep a value of some bytes; the folder of its entry."""
    before = set(ctx.cache_dir.glob("*/*"))

    def make(work):
        work.meter.add(Cost(flops=flops))
        return b"x" * size

    keep(replace(ctx, meter=Meter()), kind, key, make, save=save, load=load)
    (entry,) = set(ctx.cache_dir.glob("*/*")) - before
    return entry


def interrupted(ctx):
    """A value under way, with a finished piece."""

    def make(work):
        work.pieces.save("piece", lambda folder: save(b"y" * 50, folder))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(ctx, "scores", "under way", make, save=save, load=load)
    (left,) = (ctx.cache_dir / "unfinished").iterdir()
    return left


def used(path, ago):
    """Set back when everything in a folder was last used."""
    for file in [*path.rglob("*"), path]:
        os.utime(file, (time.time() - ago,) * 2)


@pytest.fixture
def ctx(tmp_path):
    return Context(executor=serial(), seed=0, cache_dir=tmp_path / "cache")


def size(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_what_is_in_it_is_listed_by_kind(ctx):
    one, two = put(ctx, "scores", 1, 1000, 7.0), put(ctx, "scores", 2, 500, 3.0)
    other, left = put(ctx, "sketches", 1), interrupted(ctx)
    used(one, 3 * DAY)
    used(other, 3 * DAY)
    told = listed(ctx.cache_dir)
    assert json.loads(json.dumps(told)) == told
    kinds = {k["kind"]: k for k in told["kinds"]}
    assert set(kinds) == {"scores", "sketches", "unfinished"}
    assert (kinds["scores"]["entries"], kinds["scores"]["flops"]) == (2, 10.0)
    assert kinds["scores"]["bytes"] == size(one) + size(two) > 1500
    assert kinds["unfinished"]["bytes"] == size(left) > 50
    assert told["entries"] == 4
    assert told["bytes"] == sum(map(size, (one, two, other, left)))
    assert (
        kinds["sketches"]["last_used"] < kinds["scores"]["last_used"]
    )  # the latest of its entries


def test_an_empty_cache_and_one_that_is_not_there(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        assert (listed(place)["entries"], listed(place)["kinds"]) == (0, [])
        assert clear(place)["removed"] == prune(place, 0.0)["removed"] == 0
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("age", "expected"),
    [("30d", 30 * DAY), ("12h", 43_200), ("90m", 5400), ("45s", 45), ("1.5h", 5400), (" 0d ", 0)],
)
def test_ages_have_units(age, expected):
    assert seconds(age) == expected


@pytest.mark.parametrize(
    "age", ["", "30", "d", "30 days", "-1d", "1w", "1d12h", "d30", "nan d", "1e3s"]
)
def test_ages_that_are_none_are_refused_with_examples(age):
    with pytest.raises(ConfigError, match="30d, 12h, 90m or 45s"):
        seconds(age)


def test_what_was_not_used_for_long_is_pruned(ctx):
    ages = {put(ctx, "scores", days): days for days in (0, 1, 10, 40)}
    for entry, days in ages.items():
        used(entry, days * DAY + 60)
    left = interrupted(ctx)
    used(left, 20 * DAY)
    assert prune(ctx.cache_dir, seconds("60d"))["removed"] == 0
    gone = prune(ctx.cache_dir, seconds("15d"))
    assert gone["removed"] == 2
    assert [e for e in ages if e.exists()] == [e for e, days in ages.items() if days < 15]
    assert not left.exists()
    assert prune(ctx.cache_dir, seconds("12h"))["removed"] == 2
    assert listed(ctx.cache_dir)["entries"] == 1


def test_what_was_used_of_late_stays_however_old_it_is(ctx):
    old, other = put(ctx, "scores", 1), put(ctx, "scores", 2)
    for entry in (old, other):
        used(entry, 100 * DAY)

    def never(_):
        raise AssertionError

    assert keep(ctx, "scores", 1, never, save=save, load=load) == b"x" * 100
    assert prune(ctx.cache_dir, 50 * DAY)["removed"] == 1
    assert old.exists()
    assert not other.exists()


def test_a_dry_run_says_what_would_go_and_removes_nothing(ctx):
    entry, left = put(ctx, "scores", 1), interrupted(ctx)
    used(entry, 2 * DAY)
    files = {p: p.read_bytes() for p in ctx.cache_dir.rglob("*") if p.is_file()}
    would = clear(ctx.cache_dir, dry_run=True)
    assert (would["removed"], would["bytes"]) == (2, size(entry) + size(left))
    assert prune(ctx.cache_dir, DAY, dry_run=True)["removed"] == 1
    assert {p: p.read_bytes() for p in ctx.cache_dir.rglob("*") if p.is_file()} == files
    done = clear(ctx.cache_dir)
    assert (done["removed"], done["bytes"]) == (2, would["bytes"])
    assert not [p for p in ctx.cache_dir.rglob("*") if p.is_file()]


def test_foreign_files_and_what_links_point_to_survive(ctx, tmp_path):
    put(ctx, "scores", 1)
    put(ctx, "sketches", 1)
    interrupted(ctx)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    (outside / ("a" * 32)).mkdir()
    (outside / ("a" * 32) / "entry.json").write_text("{}")
    cache = ctx.cache_dir
    (cache / "linked-kind").symlink_to(outside)
    (cache / "selections").symlink_to(outside)
    (cache / "scores" / "notes").mkdir()
    (cache / "scores" / "notes" / "mine.txt").write_text("mine")
    (cache / "scores" / "mine.txt").write_text("mine")
    (cache / "scores" / ("b" * 32)).symlink_to(outside)
    (cache / "unfinished" / "link").symlink_to(outside)
    (cache / "mine").mkdir()
    (cache / "mine" / "mine.txt").write_text("mine")
    (cache / "mine.txt").write_text("mine")
    inside = put(ctx, "scores", 2)
    (inside / "link").symlink_to(outside)  # in a folder that goes: the link goes, not its target
    assert clear(cache)["removed"] == 4
    assert not inside.exists()
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.txt")) == [
        "cache/mine.txt", "cache/mine/mine.txt", "cache/scores/mine.txt",
        "cache/scores/notes/mine.txt", "outside/thesis.txt",
    ]  # fmt: skip
    assert (outside / ("a" * 32) / "entry.json").exists()
    assert (cache / "linked-kind").is_symlink()
    assert list(cached_folders(cache)) == []


def test_what_earlier_versions_and_killed_processes_left_goes_too(ctx):
    cache = ctx.cache_dir
    entry = put(ctx, "scores", 1)
    (cache / "keys").mkdir()
    (cache / "keys" / f"{'1' * 32}.json").write_text("{}")
    (cache / "tmp" / f".{'2' * 32}.tmp").mkdir(parents=True)
    (cache / "tmp" / f".{'2' * 32}.tmp" / "pool.arrow").write_bytes(b"z" * 9)
    killed = cache / "scores" / f".{entry.name}.{'0' * 32}.tmp"
    killed.mkdir()
    (killed / "value.bin").write_bytes(b"x")
    assert {k["kind"]: k["entries"] for k in listed(cache)["kinds"]} == {
        "keys": 1, "scores": 2, "tmp": 1,
    }  # fmt: skip
    used(killed, 9 * DAY)
    assert prune(cache, 5 * DAY)["removed"] == 1
    assert not killed.exists()
    assert clear(cache)["removed"] == 3
    assert not [p for p in cache.rglob("*") if p.is_file()]


def test_a_damaged_entry_is_listed_and_goes(ctx):
    entry = put(ctx, "scores", 1)
    (entry / "entry.json").write_text("{")
    (one,) = cached_folders(ctx.cache_dir)
    assert (one.path, one.n_bytes, one.cost) == (entry, 101, Cost())
    assert clear(ctx.cache_dir)["removed"] == 1
    assert not entry.exists()


def test_after_clearing_values_are_made_again(ctx):
    put(ctx, "scores", 1)
    clear(ctx.cache_dir)
    assert put(ctx, "scores", 1).exists()


@pytest.mark.parametrize(
    "name",
    ["keys/id_rsa", "tmp/mine.txt", "tmp/work/x", "less/src/x", "unfinished/novel.txt",
     "unfinished/scores/x", "scores/notes.md", "mine/x", "x"],
)  # fmt: skip
def test_what_somebody_else_put_there_stays(ctx, name):
    path = ctx.cache_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    put(ctx, "scores", 1)
    assert clear(ctx.cache_dir)["removed"] == 1
    assert path.read_text() == "mine"


def test_a_value_that_is_being_made_stays(ctx):
    left = interrupted(ctx)
    with folder_to_oneself(left, lambda: None):
        assert clear(ctx.cache_dir)["in_use"] == 1
        assert left.exists()
    assert clear(ctx.cache_dir)["removed"] == 1
