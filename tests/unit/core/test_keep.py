"""The keep: what is found is what was made, whatever was interrupted, damaged or done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from didact.core import entries
from didact.core import keep as module
from didact.core.checksums import signed
from didact.core.cost import Cost, Meter, Metered
from didact.core.entries import intact_entry, open_entry
from didact.core.errors import ConfigError, DamagedError, DataError, ExecutionError
from didact.core.keep import Piece, adopt, entry_name, keep, kept_pieces
from didact.core.protocols import Context
from didact.execution.executors import processes, serial, threads

EXECUTORS = {"serial": serial, "threads": lambda: threads(3), "processes": lambda: processes(2)}
KEY = {"a": 1, "b": ["x", None]}


# -- work: two files, the second in a folder ------------------------------------------------------


def save(value, folder):
    (folder / "value.json").write_text(json.dumps(value))
    (folder / "deeper").mkdir()
    (folder / "deeper" / "more.bin").write_bytes(b"more" * 50_000)  # two blocks


def load(folder):
    assert (folder / "deeper" / "more.bin").read_bytes() == b"more" * 50_000
    return json.loads((folder / "value.json").read_text())


def log(place, what):
    """Append a line to a file that several processes write to."""
    descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{what}\n".encode())
    os.close(descriptor)


def lines(place):
    return place.read_text().splitlines() if place.exists() else []


def die(how):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise KeyboardInterrupt


def linear(place, fatal, how, ctx):
    """Nine steps one after another: a piece stands for all up to it."""
    state = []
    for name in reversed(ctx.pieces.names()):
        there = ctx.pieces.load(name, load)
        if there is not None:
            state = there
            break
    for step in range(len(state), 9):
        log(place, step)
        ctx.meter.add(Cost(flops=2.0**step, tokens=3))
        state.append(step**2)
        ctx.pieces.save(f"step-{step}", partial(save, state))
        if step == fatal:
            die(how)
    return state


def square(place, item):
    log(place, item)
    return Metered(item**2, Cost(flops=2.0**item, tokens=3))


@contextmanager
def squares(place, device):
    assert device == "cpu"
    yield partial(square, place)


def independent(place, fatal, how, ctx):
    """Four pieces of two or three items, by the executor."""
    items = [[0, 1], [2, 3], [4, 5], [6, 7, 8]]
    parts = [Piece(f"part-{i}", part) for i, part in enumerate(items)]
    out = []
    for part in kept_pieces(
        ctx, parts, shared=place, open=squares, join=list, save=save, load=load
    ):
        out += part
        if fatal is not None and len(out) > fatal:
            die(how)
    return out


WORK = {"linear": linear, "independent": independent}
WHOLE = [i**2 for i in range(9)]
FLOPS, TOKENS = 2.0**9 - 1, 27


def run(kind, executor, cache, place, fatal=None, how="raise", tell=lambda _: None):
    """The value and the bill of one run with a meter of its own."""
    ctx = Context(executor=EXECUTORS[executor](), seed=0, cache_dir=Path(cache), tell=tell)
    value = keep(
        ctx, "scores", KEY, partial(WORK[kind], Path(place), fatal, how), save=save, load=load
    )
    return value, ctx.meter.bill


def script(*arguments, **more):
    """Start this module in a process of its own."""
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import test_keep; test_keep.main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
        **more,
    )  # fmt: skip


def main():
    {"run": run_and_die, "together": together, "renaming": renaming}[sys.argv[1]](*sys.argv[2:])


def run_and_die(kind, executor, cache, place, fatal):
    run(kind, executor, cache, place, int(fatal), "kill")


@pytest.fixture
def told():
    return []


@pytest.fixture
def ctx(tmp_path, told):
    return Context(executor=serial(), seed=0, cache_dir=tmp_path / "cache", tell=told.append)


def fresh(ctx):
    """The same, with a meter that was told nothing yet."""
    return replace(ctx, meter=Meter())


def everything(folder):
    """Bytes of all files but the entry's own, which holds seconds."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "entry.json"
    }


def counted(cost):
    """What is the same in every run; seconds are not."""
    return cost.flops, cost.tokens


def temporary(cache):
    return [p for p in cache.rglob("*") if p.name.endswith(".tmp")]


# -- cold and warm ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_made_once_and_found_from_then_on(kind, executor, tmp_path):
    place = tmp_path / "log"
    value, bill = run(kind, executor, tmp_path / "cache", place)
    assert value == WHOLE
    assert counted(bill.charged) == counted(bill.value) == (FLOPS, TOKENS)
    assert bill.own == Cost()
    assert list(bill.uses) == [f"scores/{entry_name('scores', KEY)}"]
    assert sorted(lines(place)) == sorted(str(i) for i in range(9))
    again, warm = run(kind, executor, tmp_path / "cache", place)
    assert again == WHOLE
    assert warm.charged == Cost()
    assert counted(warm.value) == (FLOPS, TOKENS)
    assert len(lines(place)) == 9
    assert list((tmp_path / "cache" / "unfinished").iterdir()) == []
    assert temporary(tmp_path / "cache") == []


def test_the_value_is_the_same_bytes_for_any_executor(tmp_path):
    found = []
    for kind in WORK:
        for executor in EXECUTORS:
            run(kind, executor, tmp_path / executor / kind, tmp_path / "log")
            found.append(everything(tmp_path / executor / kind))
    assert all(f == found[0] for f in found)


def test_a_key_is_all_that_a_value_depends_on(ctx, monkeypatch):
    base = entry_name("scores", KEY)
    assert base == entry_name("scores", dict(reversed(KEY.items())))
    others = [
        entry_name("sketches", KEY), entry_name("scores", {**KEY, "a": 2}), entry_name("scores", {**KEY, "c": 0})
    ]  # fmt: skip
    monkeypatch.setattr(module, "__version__", "0.0.0")
    assert len({base, *others, entry_name("scores", KEY)}) == 5
    with pytest.raises(ConfigError, match="stable form"):
        keep(ctx, "scores", {"a": object()}, lambda _: 1, save=save, load=load)


def test_a_plug_in_may_keep_what_it_likes(ctx):
    assert keep(ctx, "of-a-plug-in", KEY, lambda _: 1, save=save, load=load) == 1
    assert [p.parent.parent.name for p in ctx.cache_dir.glob("*/*/entry.json")] == ["of-a-plug-in"]


def test_a_value_costs_the_same_found_as_made(ctx):
    """To the last digit of its seconds, so that a second run says of it what the first one said."""
    bills = []
    for _ in range(3):
        now = fresh(ctx)
        keep(now, "scores", KEY, lambda _: sum(range(10**5)), save=save, load=load)
        bills.append(now.meter.bill)
    assert bills[0].charged.cpu_seconds > 0
    assert bills[0].value == bills[1].value == bills[2].value


def test_the_work_s_time_is_its_own(ctx):
    def burn(_):
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            sum(range(200))
        return 1

    with ctx.meter.running():
        keep(ctx, "scores", KEY, burn, save=save, load=load)
    bill = ctx.meter.bill
    # 0.1 s: writing, syncing and verifying 200 kB on a busy machine
    assert bill.value.cpu_seconds - bill.own.cpu_seconds == pytest.approx(0.2, abs=0.1)
    assert bill.own.cpu_seconds < 0.1
    assert bill.charged.cpu_seconds == pytest.approx(bill.value.cpu_seconds, abs=0.05)


# -- interrupted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fatal", [0, 4, 8])
@pytest.mark.parametrize(
    ("kind", "executor", "how"),
    [
        *((kind, executor, "raise") for kind in WORK for executor in EXECUTORS),
        *((kind, executor, "kill") for kind in WORK for executor in ("serial", "threads")),
    ],
)
def test_interrupted_work_goes_on_and_has_the_same_value(kind, executor, how, fatal, tmp_path):
    run(kind, "serial", tmp_path / "whole", tmp_path / "other log")
    cache, place = tmp_path / "cache", tmp_path / "log"
    if how == "kill":
        with script("run", kind, executor, cache, place, fatal) as child:
            assert child.wait(60) == -signal.SIGKILL
    else:
        with pytest.raises(KeyboardInterrupt):
            run(kind, executor, cache, place, fatal)
    assert not list(cache.glob("scores/*/entry.json"))
    kept = len(list(cache.glob("unfinished/*/*/entry.json")))
    assert kept == (fatal + 1 if kind == "linear" else {0: 1, 4: 3, 8: 4}[fatal])
    before = len(lines(place))
    told = []
    value, bill = run(kind, executor, cache, place, tell=told.append)
    assert value == WHOLE
    assert told == []
    assert everything(cache) == everything(tmp_path / "whole")
    assert (bill.value.flops, bill.value.tokens) == (FLOPS, TOKENS)
    done = kept if kind == "linear" else {0: 2, 4: 6, 8: 9}[fatal]
    assert bill.charged.flops == FLOPS - (2.0**done - 1)
    assert bill.charged.tokens == TOKENS - 3 * done
    assert len(lines(place)) - before == 9 - done
    assert list((cache / "unfinished").iterdir()) == []
    assert counted(run(kind, executor, cache, place)[1].value) == (FLOPS, TOKENS)


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("file", ["entry.json", "value.json", "deeper/more.bin"])
def test_a_damaged_piece_is_made_again(kind, which, file, tmp_path):
    cache, place, told = tmp_path / "cache", tmp_path / "log", []
    with pytest.raises(KeyboardInterrupt):
        run(kind, "serial", cache, place, 4)
    pieces = sorted(p.parent for p in cache.glob("unfinished/*/*/entry.json"))
    damage["flip"](pieces[which] / file)
    before = len(lines(place))
    value, bill = run(kind, "serial", cache, place, tell=told.append)
    assert value == WHOLE
    assert (bill.value.flops, bill.value.tokens) == (FLOPS, TOKENS)
    if kind == "linear":  # the last whole one stands for those before
        assert (told, len(lines(place)) - before) == ([], 4)
    else:
        assert len(told) == 1
        assert str(pieces[which]) in told[0]
        assert sorted(lines(place)[before:]) == sorted(
            str(i) for i in (2 * which, 2 * which + 1, 6, 7, 8)
        )


def test_the_last_piece_of_work_that_goes_on_is_damaged(tmp_path):
    cache, place, told = tmp_path / "cache", tmp_path / "log", []
    with pytest.raises(KeyboardInterrupt):
        run("linear", "serial", cache, place, 4)
    (last,) = cache.glob("unfinished/*/step-4")
    damage["cut"](last / "value.json")
    value, bill = run("linear", "serial", cache, place, tell=told.append)
    assert value == WHOLE
    assert (bill.value.flops, bill.charged.flops) == (FLOPS, FLOPS - (2.0**4 - 1))
    assert [str(last) in t for t in told] == [True]


def test_what_getting_there_costs_is_charged_and_not_value(ctx):
    def work(fatal, ctx):
        ctx.meter.add(Cost(flops=100))  # done by every run before it can go on
        if ctx.pieces.load("half", load) is None:
            ctx.meter.add(Cost(flops=10))
            ctx.pieces.save("half", partial(save, "half"))
        if fatal:
            raise KeyboardInterrupt
        ctx.meter.add(Cost(flops=1))
        return "whole"

    with pytest.raises(KeyboardInterrupt):
        keep(ctx, "scores", KEY, partial(work, True), save=save, load=load)
    assert ctx.meter.bill.charged.flops == 110  # spent, though it gave nothing
    assert ctx.meter.bill.value.flops == 0
    assert keep(ctx, "scores", KEY, partial(work, False), save=save, load=load) == "whole"
    assert (ctx.meter.bill.charged.flops, ctx.meter.bill.value.flops) == (110 + 101, 111)


def test_a_failure_of_the_work_passes_and_leaves_nothing(ctx):
    def work(_):
        raise DataError("row 3: bad")

    with pytest.raises(DataError, match="row 3: bad"):
        keep(ctx, "scores", KEY, work, save=save, load=load)
    assert not [p for p in ctx.cache_dir.rglob("*") if p.is_file()]


def test_work_outside_of_the_keep_has_no_pieces(tmp_path):
    ctx = Context(executor=serial(), seed=0, cache_dir=tmp_path)
    ctx.pieces.save("a", lambda _: pytest.fail("nothing is written"))
    ctx.pieces.drop("a")
    assert ctx.pieces.names() == []
    assert ctx.pieces.load("a", load) is None
    for use in (lambda p: p.folder, lambda p: p.workspace("a"), lambda p: p.intact("a")):
        with pytest.raises(ExecutionError, match="inside of `keep`"):
            use(ctx.pieces)
    assert linear(tmp_path / "log", None, "", ctx) == WHOLE
    assert independent(tmp_path / "log", None, "", ctx) == WHOLE


# -- damaged entries -------------------------------------------------------------------------------


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


damage = {
    "flip": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "grow": lambda path: path.write_bytes(path.read_bytes() + b"{"),
    "delete": Path.unlink,
}


@pytest.mark.parametrize("how", damage)
@pytest.mark.parametrize("file", ["entry.json", "value.json", "deeper/more.bin"])
def test_a_damaged_entry_is_made_again_and_told_of(how, file, tmp_path):
    cache, place, told = tmp_path / "cache", tmp_path / "log", []
    _, bill = run("linear", "serial", cache, place)
    whole = everything(cache)
    (entry,) = (p.parent for p in cache.glob("scores/*/entry.json"))
    damage[how](entry / file)
    value, again = run("linear", "serial", cache, place, tell=told.append)
    assert value == WHOLE
    assert counted(again.charged) == counted(bill.charged)
    assert len(lines(place)) == 18
    assert everything(cache) == whole
    assert [str(entry / file) in t or str(entry) in t for t in told] == [True]
    assert "made again" in told[0]
    assert temporary(cache) == []
    assert run("linear", "serial", cache, place, tell=told.append)[1].charged == Cost()
    assert len(told) == 1


def test_an_entry_that_names_files_outside_of_its_folder_is_refused(ctx, tmp_path):
    (tmp_path / "secret").write_text('"secret"')
    keep(ctx, "scores", KEY, lambda _: "mine", save=save, load=load)
    (entry,) = ctx.cache_dir.glob("scores/*")
    values = json.loads((entry / "entry.json").read_bytes())
    del values["checksum"]
    files = values["files"]
    outside = ("../../../secret", str(tmp_path / "secret"), "deeper/../../x")
    for name in outside:
        values["files"] = {**files, name: [0, 2**17, ""]}
        (entry / "entry.json").write_text(signed(values))
        with pytest.raises(DamagedError, match="is outside of the folder"):
            open_entry(entry)
    fresh_ctx = fresh(ctx)
    assert keep(fresh_ctx, "scores", KEY, lambda _: "again", save=save, load=load) == "again"
    assert (tmp_path / "secret").read_text() == '"secret"'


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("own"), lambda v: v.pop("files"), lambda v: v.update(own={"flop": 1}),
        lambda v: v.update(files=[]), lambda v: v["files"].update(x=[5, 2**17, ""]),
        lambda v: v.update(uses={"a": 3}),
    ],
)  # fmt: skip
def test_an_entry_of_another_form_is_damage(change, ctx):
    keep(ctx, "scores", KEY, lambda _: "mine", save=save, load=load)
    (entry,) = ctx.cache_dir.glob("scores/*")
    values = json.loads((entry / "entry.json").read_bytes())
    del values["checksum"]
    change(values)
    (entry / "entry.json").write_text(signed(values))
    with pytest.raises(DamagedError):
        open_entry(entry)
    assert keep(ctx, "scores", KEY, lambda _: "again", save=save, load=load) == "again"


def test_a_value_that_cannot_be_used_is_made_again(ctx):
    """As that of a pool whose store is gone."""
    store = ctx.cache_dir / "elsewhere"

    def usable(folder):
        return load(folder) if store.exists() else None

    def make(_):
        ctx.cache_dir.mkdir(exist_ok=True)
        store.touch()
        made.append(1)
        return "value"

    made = []
    for _ in range(2):
        assert keep(ctx, "reads", KEY, make, save=save, load=usable) == "value"
    assert len(made) == 1
    store.unlink()
    assert keep(ctx, "reads", KEY, make, save=save, load=usable) == "value"
    assert len(made) == 2
    with pytest.raises(DamagedError, match="cannot be read"):
        keep(ctx, "reads", "other", make, save=save, load=lambda _: None)


def test_a_lazy_value_is_verified_where_it_is_read(ctx, told):
    def open_lazily(folder):
        return open_entry(folder).file("value.json")

    def get():
        return keep(ctx, "sketches", KEY, lambda _: "v", save=save, load=open_lazily, lazy=True)

    assert get().read() == b'"v"'
    (entry,) = ctx.cache_dir.glob("sketches/*")
    flip(entry / "deeper" / "more.bin")  # which it does not read
    assert get().read() == b'"v"'
    assert told == []
    flip(entry / "value.json")
    with pytest.raises(DamagedError, match="run the same command again"):
        get().read()
    assert get().read() == b'"v"'  # the same command again
    assert len(told) == 1
    open_entry(entry).verify()


def test_a_cache_that_cannot_be_written_has_a_way_out(tmp_path):
    (tmp_path / "cache").write_text("a file")
    ctx = Context(executor=serial(), seed=0, cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match="--cache-dir or DIDACT_CACHE"):
        keep(ctx, "scores", KEY, lambda _: 1, save=save, load=load)


# -- kept values that stand on others --------------------------------------------------------------


def stand(name, flops, *below):
    """Work that stands on other kept values."""

    def make(ctx):
        parts = [keep(ctx, "sketches", n, m, save=save, load=load) for n, m in below]
        ctx.meter.add(Cost(flops=flops))
        return [name, *parts]

    return name, make


BASE = stand("base", 1000)
LEFT, RIGHT = stand("left", 100, BASE), stand("right", 10, BASE)
TOP = stand("top", 1, LEFT, RIGHT, LEFT)


def get(ctx, what):
    name, make = what
    ctx = fresh(ctx)
    keep(ctx, "sketches", name, make, save=save, load=load)
    return ctx.meter.bill


def entry_of(ctx, name):
    return ctx.cache_dir / "sketches" / entry_name("sketches", name)


def test_what_a_value_stands_on_counts_once(ctx):
    bill = get(ctx, TOP)
    assert bill.charged.flops == bill.value.flops == 1111
    names = {f"sketches/{entry_name('sketches', n)}" for n in ("top", "left", "right", "base")}
    assert set(bill.uses) == names
    warm = get(ctx, TOP)
    assert warm.charged == Cost()
    assert counted(warm.value) == counted(bill.value)
    both = get(ctx, LEFT) + get(ctx, RIGHT)
    assert both.value.flops == 1110
    assert get(ctx, LEFT).value.flops == 1100


def test_what_was_there_before_is_value_and_not_charged(ctx):
    assert get(ctx, LEFT).charged.flops == 1100
    bill = get(ctx, TOP)
    assert (bill.charged.flops, bill.value.flops) == (11, 1111)


@pytest.mark.parametrize(
    ("lost", "charged"),
    [("top", 1), ("top left", 101), ("top base", 1), ("top left base", 1101), ("base", 0), ("", 0)],
)
def test_only_what_is_lost_and_needed_is_made_again(lost, charged, ctx):
    value = get(ctx, TOP).value
    for name in lost.split():
        (entry_of(ctx, name) / "entry.json").unlink()
    bill = get(ctx, TOP)
    assert bill.charged.flops == charged
    assert bill.value.flops == value.flops


def test_work_that_is_interrupted_between_kept_values_goes_on(ctx):
    def failing(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(ctx, stand("top", 1, LEFT, ("right", failing)))
    bill = get(ctx, TOP)
    assert (bill.charged.flops, bill.value.flops) == (11, 1111)


# -- two at once -----------------------------------------------------------------------------------


def together(cache, place, number, fatal):
    """Make a value as soon as the other process is there; the one that makes it may die."""
    place = Path(place)
    log(place / "there", number)
    while len(lines(place / "there")) < 2:
        time.sleep(0.001)

    def make(ctx):
        log(place / "made", number)
        if ctx.pieces.load("half", load) is None:
            ctx.meter.add(Cost(flops=10))
            ctx.pieces.save("half", partial(save, "half"))
            time.sleep(0.3)  # so that the other one comes meanwhile
            if fatal == "fatal":
                die("kill")
        ctx.meter.add(Cost(flops=1))
        return "value"

    ctx = Context(
        executor=serial(), seed=0, cache_dir=Path(cache), tell=partial(log, place / "told")
    )
    assert keep(ctx, "scores", KEY, make, save=save, load=load) == "value"
    bill = ctx.meter.bill
    sys.stdout.write(json.dumps([bill.charged.flops, bill.value.flops]))


@pytest.mark.parametrize("fatal", ["", "fatal"])
def test_two_processes_make_a_value_once(fatal, tmp_path):
    cache = tmp_path / "cache"
    children = [script("together", cache, tmp_path, n, fatal) for n in range(2)]
    found = [
        (json.loads(child.communicate(timeout=60)[0] or "null"), child.returncode)
        for child in children
    ]
    if fatal:  # whoever had it was killed; the other one went on after its piece
        assert sorted(code for _, code in found) == [-signal.SIGKILL, 0]
        assert max(f for f, code in found if code == 0) == [1, 11]
        assert len(set(lines(tmp_path / "made"))) == 2
    else:
        assert sorted(f for f, _ in found) == [[0, 11], [11, 11]]
        assert len(lines(tmp_path / "made")) == 1
    assert sum("another process makes the same" in t for t in lines(tmp_path / "told")) == 1
    assert temporary(cache) == []
    assert len(list(cache.glob("scores/*/entry.json"))) == 1
    assert list((cache / "unfinished").iterdir()) == []


def test_two_threads_make_a_value_once(ctx):
    from concurrent.futures import ThreadPoolExecutor

    made = []

    def make(_):
        made.append(1)
        time.sleep(0.2)
        return "value"

    def one(_):
        return keep(fresh(ctx), "scores", KEY, make, save=save, load=load)

    with ThreadPoolExecutor(3) as workers:
        assert list(workers.map(one, range(3))) == ["value"] * 3
    assert len(made) == 1


# -- a crash before the rename ---------------------------------------------------------------------


def renaming(cache, place):
    """Die when all files of the value are written and it would get its name."""
    entries.put_in_place = lambda *_: die("kill")
    run("independent", "serial", cache, place)


def test_files_that_have_no_name_yet_are_never_found(tmp_path):
    cache, place, told = tmp_path / "cache", tmp_path / "log", []
    # the fifth rename: four pieces, then the value
    with script("renaming", cache, place) as child:
        assert child.wait(60) == -signal.SIGKILL
    assert not [p for p in cache.glob("*/*/entry.json") if not p.parent.name.startswith(".")]
    assert len(temporary(cache)) >= 1
    value, bill = run("independent", "serial", cache, place, tell=told.append)
    assert value == WHOLE
    assert bill.value.flops == FLOPS
    assert told == []


def test_a_failure_at_the_rename_leaves_nothing(ctx, monkeypatch):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(entries, "put_in_place", fail)
    with pytest.raises(RuntimeError):
        keep(ctx, "scores", KEY, lambda _: 1, save=save, load=load)
    assert not [p for p in ctx.cache_dir.rglob("*") if p.is_file()]
    assert temporary(ctx.cache_dir) == []
    monkeypatch.undo()
    assert keep(ctx, "scores", KEY, lambda _: 2, save=save, load=load) == 2


def test_what_crashed_processes_left_goes_after_a_day(ctx):
    place = ctx.cache_dir / "scores"
    for name in ("old", "new"):
        (place / f".{name}.tmp").mkdir(parents=True)
        (place / f".{name}.tmp" / "x").touch()
    for path in (place / ".old.tmp" / "x", place / ".old.tmp"):
        os.utime(path, (1, 1))
    keep(ctx, "scores", KEY, lambda _: 1, save=save, load=load)
    assert [p.name for p in temporary(ctx.cache_dir)] == [".new.tmp"]


# -- adopted folders -------------------------------------------------------------------------------


def written(place, value="v"):
    place.mkdir()
    save(value, place)
    return place


def test_a_folder_that_is_adopted_moves_and_is_an_entry(ctx, tmp_path, told):
    kept = adopt(ctx, "pools", "abc", written(tmp_path / "mine"))
    assert kept == ctx.cache_dir / "pools" / "abc"
    assert not (tmp_path / "mine").exists()
    assert load(kept) == "v"
    entry = intact_entry(kept, told.append)
    assert set(entry.files) == {"value.json", "deeper/more.bin"}
    assert entry.n_bytes == sum(len(data) for data in everything(kept).values())
    assert entry.bill.value == Cost()


def test_the_first_of_two_adopted_folders_stays_unless_damaged(ctx, tmp_path):
    adopt(ctx, "pools", "abc", written(tmp_path / "one", "first"))
    kept = adopt(ctx, "pools", "abc", written(tmp_path / "two", "second"))
    assert load(kept) == "first"
    flip(kept / "deeper" / "more.bin")
    adopt(ctx, "pools", "abc", written(tmp_path / "three", "third"))
    assert load(kept) == "third"
    assert temporary(ctx.cache_dir) == []


def test_entries_that_change_places_are_not_found(ctx):
    for name in ("a", "b"):
        keep(ctx, "scores", name, lambda _, name=name: name, save=save, load=load)
    a, b = (ctx.cache_dir / "scores" / entry_name("scores", name) for name in ("a", "b"))
    a.rename(a.with_name("aside"))
    b.rename(a)
    a.with_name("aside").rename(b)
    told = []
    again = replace(fresh(ctx), tell=told.append)
    assert keep(again, "scores", "a", lambda _: "a", save=save, load=load) == "a"
    assert len(told) == 1
    assert "it is that of" in told[0]


def test_a_piece_that_is_gone_is_not_left_out(ctx):
    """Somebody empties the cache while a value is made of pieces."""
    tries = []

    def make(work):
        tries.append(1)
        for name in ("one", "two"):
            work.pieces.save(name, partial(save, name), Cost())
        if len(tries) == 1:
            work.pieces.drop("one")
        return work.pieces

    def put_together(pieces, folder):
        for name in ("one", "two"):
            pieces.link(name, folder / name)

    def load_both(folder):
        return [load(folder / name) for name in ("one", "two")]

    with pytest.raises(DamagedError, match="it is gone"):
        keep(ctx, "scores", KEY, make, save=put_together, load=load_both)
    assert not list(ctx.cache_dir.glob("scores/*/entry.json"))
    assert keep(ctx, "scores", KEY, make, save=put_together, load=load_both) == ["one", "two"]
