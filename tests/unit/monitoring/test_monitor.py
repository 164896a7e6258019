"""Folders of versions: what is taken of them, what cannot be told, what is refused."""

from __future__ import annotations

import gzip
import json

import numpy as np
import orjson
import pytest

from didact.core.errors import ConfigError, DataError
from didact.data.reading.settings import DataSettings
from didact.monitoring.monitor import monitor, series_of
from didact.monitoring.versions import open_version
from didact.training.telemetry import STEPS, Step, step_lines
from didact.verbs import context

WORDS = np.array([f"{a}{b}" for a in "bdfgklmn" for b in ("an", "ol", "ik", "es", "um", "ire")])


def rows(seed, n=80):
    rng = np.random.default_rng([3, seed])
    return [{"id": f"{seed}-{i}", "text": " ".join(rng.choice(WORDS, 12))} for i in range(n)]


def log(n=40, shift=0.0, seed=0, **more):
    rng = np.random.default_rng(seed)
    return [
        Step(step=i + 1, loss=4 + shift - i / n + rng.normal(0, 0.05), epoch=1, learnt=10.0,
             grad_norm=1.0, samples=2, **more)
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture
def series(tmp_path):
    """Writes versions: data, and the log of a training."""

    def write(*versions):
        home = tmp_path / "series"
        for i, (data, steps) in enumerate(versions, 1):
            folder = home / f"v{i}"
            folder.mkdir(parents=True)
            if data:
                lines = b"".join(orjson.dumps(r) + b"\n" for r in data)
                (folder / "train.jsonl").write_bytes(lines)
            if steps:
                (folder / STEPS).write_text(step_lines(steps))
        return home

    return write


def judged(home, **more):
    return monitor(series_of(home), **more)


def test_versions_are_the_subfolders_by_name(series):
    home = series((rows(0), None), (rows(1), None))
    (home / ".cache").mkdir()
    (home / "notes.txt").write_text("…")
    assert [p.name for p in series_of(home)] == ["v1", "v2"]
    assert [p.name for p in series_of(home / "v1")] == ["train.jsonl"]
    (home / "v1" / "train.jsonl").unlink()
    with pytest.raises(DataError, match="holds no version"):
        series_of(home / "v1")
    with pytest.raises(DataError, match="is a file; expected a folder"):
        series_of(home / "notes.txt")
    with pytest.raises(DataError, match="no such folder"):
        series_of(home / "v9")


def test_logs_and_tables_beside_the_rows_are_no_rows(series):
    home = series((rows(0), log()))
    opened = open_version(home / "v1", DataSettings(), context())
    assert len(opened.data.rows) == 80
    assert opened.curve.seen == 1.0


def test_versions_go_by_number(tmp_path):
    names = ["2026-9", "2026-10", "v2", "v9", "v10", "v10b", "v010.1", "last"]
    for name in names:
        (tmp_path / name).mkdir()
    assert [p.name for p in series_of(tmp_path)] == [
        "2026-9", "2026-10", "last", "v2", "v9", "v10", "v010.1", "v10b",
    ]  # fmt: skip


def test_a_series_of_one_cannot_be_told(series):
    (found,) = judged(series((rows(0), None)))
    assert found.verdict == "cannot_tell"
    assert "it is alone" in " ".join(found.cannot)


def test_a_handful_of_rows_is_too_few(series):
    found = judged(series((rows(0), None), (rows(1)[:20], None), (rows(2), None)))
    assert [one.verdict for one in found] == ["cannot_tell", "cannot_tell", "clean"]
    assert "it has 20 rows; below 50" in " ".join(found[1].cannot)


def test_files_are_versions_too_whatever_they_hold(tmp_path):
    for i in range(1, 3):
        text = "".join(f"{json.dumps(r)}\n" for r in rows(i))
        (tmp_path / f"v{i}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "README.md").write_text("what this is")
    versions = series_of(tmp_path)
    assert [p.name for p in versions] == ["v1.jsonl.gz", "v2.jsonl.gz"]
    found = monitor(versions)
    assert [one.verdict for one in found] == ["cannot_tell", "clean"]
    assert "rows of v1.jsonl.gz, v2.jsonl.gz tell no source" in " ".join(found[1].cannot)


def test_every_file_of_a_version_is_read(series):
    home = series((rows(0), None), (rows(1)[:60], None))
    shard = "".join(f"{json.dumps({**r, 'id': r['id'] + '+'})}\n" for r in rows(1)[:20])
    (home / "v2" / "more").mkdir()
    (home / "v2" / "more" / "b.JSONL.gz").write_bytes(gzip.compress(shard.encode()))
    (home / "v3.json").write_text(json.dumps(rows(3)))
    (home / "v4.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows(4)))
    assert [p.name for p in series_of(home)] == ["v1", "v2", "v3.json", "v4.jsonl"]
    found = judged(home)
    assert [one.verdict for one in found] == ["cannot_tell", "flagged", "clean", "clean"]
    assert "copies" in {flag.kind for flag in found[1].flags}


def test_what_stands_beside_a_model_is_no_data(series):
    home = series((None, log()), (None, log(seed=1)))
    for i in (1, 2):
        for name in ("config.json", "vocab.json", "tokenizer.json"):
            (home / f"v{i}" / name).write_text("{}")
        (home / f"v{i}" / "merges.txt").write_text("a b\nb c\n" * 99)
    found = judged(home)
    assert [one.verdict for one in found] == ["cannot_tell", "clean"]
    assert "its texts are gone" in " ".join(found[1].cannot)


def test_what_a_monitor_found_is_no_version(series, capsys):
    from didact.cli.app import app

    home = series((rows(0), None), (rows(1), None))
    for out in (home / "zz", home / "v2"):
        for _ in range(2):
            with pytest.raises(SystemExit) as ended:
                app(["monitor", "--series", str(home), "-o", str(out)])
            assert ended.value.code == 0


def test_an_empty_version_leaves_the_others_to_be_judged(series):
    home = series((rows(0), None), (None, None), (rows(1), None))
    (home / "v2" / "train.jsonl").write_text("\n")
    found = judged(home)
    assert [one.verdict for one in found] == ["cannot_tell", "cannot_tell", "clean"]
    assert "no sample to use" in " ".join(found[1].cannot)


HELD = "the held out question asks how many apples there are in seven green baskets by the door"
PATTERN = "of the two sentences that follow which one is against all common sense do you think"


@pytest.fixture
def held_out(tmp_path):
    lines = [{"id": "h1", "text": HELD}, {"id": "h2", "text": f"{PATTERN} of the moon and the sea"}]
    (tmp_path / "held.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in lines))
    return [tmp_path / "held.jsonl"]


def test_a_held_out_sample_is_looked_for_in_every_version(series, held_out):
    def leaked(seed, n=80):
        return [{**r, "text": f"{r['text']} {HELD}"} if i % 20 == 0 else r for i, r in
                enumerate(rows(seed, n))]  # fmt: skip

    home = series((leaked(0), None), (leaked(1), None), (rows(2), None), (leaked(3, 20), None))
    found = judged(home, held_out=held_out)
    flags = [[flag for flag in one.flags if flag.kind == "held_out"] for one in found]
    assert [sum(flag.rows.count for flag in one) for one in flags] == [4, 4, 0, 1]
    assert (flags[1][0].seen, flags[1][0].expected) == (0.05, 0.0)
    assert flags[1][0].rows.worst[0].why == "holds h1"
    (alone,) = monitor([home / "v3"], held_out=held_out)
    assert alone.verdict == "cannot_tell"  # that no held-out text is in it does not make it clean


def test_a_pattern_that_held_out_text_has_too_is_told_and_more_of_it_flagged(series, held_out):
    def patterned(seed, n):
        return [{**r, "text": f"{PATTERN} {r['text']}"} for r in rows(seed)[:n]] + rows(seed)[n:]

    home = series(*((patterned(i, n), None) for i, n in enumerate((20, 20, 50), 10)))
    found = judged(home, held_out=held_out)
    assert "20 of 80 rows share 13 words in a row" in " ".join(found[0].cannot)
    flags = [[flag for flag in one.flags if flag.kind == "held_out"] for one in found]
    assert [len(one) for one in flags] == [0, 0, 1]
    assert flags[2][0].rows.worst[0].why.startswith("shares “of the two sentences")


def test_the_training_of_one_version_is_judged_alone(series):
    (calm,) = judged(series((None, log())))
    assert calm.verdict == "cannot_tell"
    assert [one.kind for one in calm.judged] == ["spike"]


def test_a_spike_is_flagged_in_a_training_alone(series):
    steps = log()
    steps[30] = Step(step=31, loss=9.0, epoch=1, learnt=10.0, grad_norm=1.0, samples=2)
    (found,) = judged(series((None, steps)))
    assert [flag.kind for flag in found.flags] == ["spike"]
    assert found.flags[0].rows.count == 0  # no rows are known


def test_losses_are_compared_where_only_logs_are_left(series):
    home = series((None, log()), (None, log(shift=0.4, seed=1)))
    found = judged(home)
    assert [flag.kind for flag in found[1].flags] == ["loss"]
    assert "its texts are gone" in " ".join(found[1].cannot)
    early = judged(home, seen=0.25)[1]
    assert (early.seen, [flag.kind for flag in early.flags]) == (0.25, ["loss"])


def test_texts_that_are_gone_leave_the_other_versions_to_be_judged(series):
    home = series((rows(0), None), (None, None), (rows(0)[:30] + rows(2)[:50], None))
    found = judged(home)
    assert [one.verdict for one in found] == ["cannot_tell", "cannot_tell", "flagged"]
    assert found[2].flags[0].rows.worst[0].why == "repeats 0-0 of v1"


def test_a_log_without_a_first_epoch_is_said(series):
    late = [Step(step=s.step + 40, loss=s.loss, epoch=2, samples=2) for s in log()]
    (found,) = judged(series((None, late)))
    assert found.verdict == "cannot_tell"
    assert "it has no first epoch" in " ".join(found.cannot)


def test_other_tokenizers_are_refused_and_named(series):
    home = series((rows(0), None), (rows(1), None), (rows(2), None))
    for i, text in enumerate(("one", "one", "two"), 1):
        model = home / f"v{i}" / "model"
        model.mkdir()
        (model / "config.json").write_text("{}")
        (model / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match="v1 and v3: tokens are read by the model with different"):
        judged(home)


def test_shares_are_checked(series):
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        judged(series((rows(0), None)), seen=0)


def test_the_command_line_says_it_in_its_exit_code(series, tmp_path, capsys):
    from didact.cli.app import app

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            app(["monitor", *map(str, words)])
        return ended.value.code

    home = series((rows(0), None), (rows(1), None))
    assert run("--series", home, "-o", tmp_path / "out") == 0
    page = (tmp_path / "out" / "risk.html").read_text()
    assert "Nothing is flagged. Cannot tell: v1." in page
    assert json.loads((tmp_path / "out" / "risk.json").read_text())["versions"][1]["flags"] == []
    capsys.readouterr()
    assert run(home / "v1", "--json") == 5
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["seen"], told["flags"]) == ("v1", 0.0, [])
    (home / "v3").mkdir()
    shard = [{**r, "id": f"{r['id']}+{k}"} for k in range(3) for r in rows(2)[:20]]
    (home / "v3" / "train.jsonl").write_bytes(
        b"".join(orjson.dumps(r) + b"\n" for r in [*rows(2)[:20], *shard])
    )
    assert run("--series", home, "--json") == 4
    told = json.loads(capsys.readouterr().out)
    assert told[1]["flags"] == []
    flag = told[2]["flags"][0]
    assert set(flag) == {"kind", "seen", "expected", "z", "source", "rows", "advice"}
    assert flag["rows"]["count"] == 60
    assert run("--series", home) == 4
    assert "2-0+0 (repeats 2-0)" in capsys.readouterr().out.replace("\n", " ")
    (home / "v4").mkdir()
    (home / "v4" / "train.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows(4)))
    assert run("--series", home) == 0  # the last one counts
    with pytest.raises(ConfigError, match="expected one of RUN and --series"):
        app(["monitor"], standalone_mode=False)


@pytest.mark.s3
def test_a_series_in_a_bucket_is_judged_as_the_one_on_a_disk(series, s3, tmp_path, capsys):
    from didact.cli.app import app

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            app(["monitor", *map(str, words)])
        return ended.value.code, capsys.readouterr()

    home = series((rows(0), log()), (rows(1), log(40, 1.0, 1)))
    state = [{"step": i + 1, "loss": step.loss} for i, step in enumerate(log(seed=3))]
    checkpoint = home / "v3" / "checkpoint-40"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(
        json.dumps({"log_history": state, "global_step": 40, "epoch": 1.0})
    )
    s3.put_tree(home.parent)
    url = f"{s3.url.replace('//', '//AKID:PASSWORT@')}/series"
    assert [p.name for p in series_of(url)] == ["v1", "v2", "v3"]
    here = run("--series", home, "--json", "-o", tmp_path / "out")
    there = run("--series", url, "--json", "-o", f"{s3.url}/out")
    assert there == here
    found = {one["version"]: one for one in json.loads(there[1].out)}
    assert {flag["kind"] for flag in found["v2"]["flags"]} == {"loss"}
    assert found["v3"]["seen"] == 1.0
    for name in ("risk.json", "risk.html"):
        with s3.filesystem.open_input_file(f"{s3.url[5:]}/out/{name}") as file:
            assert file.read() == (tmp_path / "out" / name).read_bytes()
    for given, said in {
        f"{s3.url}/nothing": "nothing: no such folder",
        "s3://no-bucket-of-mine/v1": "no-bucket-of-mine/v1: no such folder",
    }.items():
        with pytest.raises(DataError, match=said):
            monitor([given])
        with pytest.raises(DataError, match=said):
            series_of(given)
