# ruff: noqa: E402 - what needs torch is imported where it is there
"""The entropy law over run folders: what the models read, what they lost, what is refused."""

from __future__ import annotations

import json
import shutil
import zlib

import numpy as np
import orjson
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

import didact
from didact.core.errors import ConfigError, DataError
from didact.evaluation.results import read_evaluation
from didact.laws import observed_runs
from didact.training.telemetry import read_steps

WORDS = [
    "apple",
    "bread",
    "cloud",
    "dune",
    "ember",
    "frost",
    "glade",
    "harbor",
    "iron",
    "jade",
    "kite",
    "lamp",
    "moss",
    "north",
    "oak",
    "pearl",
    "quiet",
    "river",
    "stone",
    "tide",
    "umber",
    "vale",
    "willow",
    "yarn",
    "zinc",
]


def chat(i, n=14):
    drawn = np.random.default_rng(i).choice(WORDS, n)
    return {
        "id": f"row{i}",
        "messages": [
            {"role": "user", "content": " ".join(drawn[: n // 2])},
            {"role": "assistant", "content": f"{i}: " + " ".join(drawn[n // 2 :])},
        ],
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny_model, cache):
    """Trains a tiny model on rows and evaluates it; the run folder."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("law")
    held_out = folder / "held_out.jsonl"
    held_out.write_bytes(b"".join(orjson.dumps(chat(i)) + b"\n" for i in range(900, 912)))

    def run(name, rows, model=tiny_model, epochs=1, **evaluate):
        path = folder / f"{name}.jsonl"
        data = [{**row, "id": str(i)} for i, row in enumerate(rows)]
        path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in data))
        config = {
            "data": {"path": str(path), "dedup": "none"},
            "order": {"method": "shuffle", "epochs": epochs, "batch_size": 8},
            "train": {"model": str(model), "max_length": 96, "learning_rate": 5e-3, "device": "cpu"},
            "evaluate": {
                "files": str(held_out), "device": "cpu", "base": False, "max_length": 96, **evaluate
            },
            "report": {"samples": False},
        }  # fmt: skip
        didact.run(config, folder / name, cache_dir=cache)
        return folder / name

    return run


@pytest.fixture(scope="module")
def folders(start):
    return {
        "random": start("random", [chat(i) for i in range(40)], epochs=2),
        "other": start("other", [chat(i, 18) for i in range(100, 136)]),
        "random+copies4": start("copies", [chat(i % 10) for i in range(40)]),
    }


@pytest.fixture(scope="module")
def observed(folders, cache):
    given = [f"{name}={path}" for name, path in folders.items()]
    runs, notes = observed_runs(given, ctx=didact.context(cache_dir=cache))
    return {run.set: run for run in runs}, notes


def as_read(tokenizer, row):
    """A row as the tiny model's template and the cut at 96 tokens leave it."""
    text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    return tokenizer.encode(text, add_special_tokens=False)[:96]


def test_ratio_is_of_the_text_as_it_was_read_at_equal_tokens(observed, tiny_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    runs, notes = observed
    sets = {
        "random": [chat(i) for i in range(40)],
        "other": [chat(i, 18) for i in range(100, 136)],
        "random+copies4": [chat(i % 10) for i in range(40)],
    }
    ids = {name: [as_read(tokenizer, row) for row in rows] for name, rows in sets.items()}
    least = min(sum(map(len, each)) for each in ids.values())
    assert f"R is of {least:,} tokens of each set" in " ".join(notes)
    for name, run in runs.items():
        assert run.tokens == sum(map(len, ids[name]))  # of the first epoch, not of both
        assert run.mean_length == pytest.approx(run.tokens / len(ids[name]))
        assert max(map(len, ids[name])) == 96  # something is cut
        rows = np.random.default_rng(0).permutation(len(ids[name]))
        text, left = b"", least
        for row in rows:
            part = ids[name][row][:left]
            text += tokenizer.decode(part, clean_up_tokenization_spaces=False).encode()
            left -= len(part)
        assert run.bytes == len(text)
        assert run.deflate_ratio == len(text) / len(zlib.compress(text, 9))
    assert runs["random+copies4"].ratio > 1.5 * runs["random"].ratio


def test_loss_is_of_the_first_epoch_and_performance_is_bits_negated(observed, folders):
    runs, _ = observed
    for name, folder in folders.items():
        steps = [s for s in read_steps(folder / "model") if s.epoch == 1]
        assert len(steps) == 5
        weights = np.array([s.learnt for s in steps])
        losses = np.array([s.loss for s in steps])
        assert runs[name].first_epoch_loss == pytest.approx(losses @ weights / weights.sum())
        assert runs[name].early[0.5] == pytest.approx(losses[:2] @ weights[:2] / weights[:2].sum())
        (bits,) = (
            r["value"] for r in read_evaluation(folder).summary()
            if (r["metric"], r["source"], r["task"]) == ("bits_per_byte", "", "")
        )  # fmt: skip
        assert runs[name].performance == pytest.approx(-bits)
        assert 0 < runs[name].similarity < 1


def test_families_and_doses_come_from_the_names(observed):
    runs, _ = observed
    assert {s: (r.family, r.dose) for s, r in runs.items()} == {
        "random": ("random", None), "other": ("other", None),
        "random+copies4": ("random", "copies4"),
    }  # fmt: skip
    assert len({run.backbone for run in runs.values()}) == 1
    assert {run.stage for run in runs.values()} == {"sft"}


def test_the_command_says_that_it_cannot_tell(folders, cache, tmp_path):
    from typer.testing import CliRunner

    from didact.cli import app

    given = ["--cache-dir", str(cache), *(f"{n}={p}" for n, p in folders.items())]
    done = CliRunner().invoke(app, ["law", "--json", "-o", str(tmp_path / "LAW"), *given])
    assert done.exit_code == 5, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == found["verdict_loss"] == "cannot_tell"
    assert "2 natural sets of 2 families" in found["reasons"][0]
    assert [d["set"] for d in found["doses"]] == ["random+copies4"]
    assert found["doses"][0]["ratio"] > 0
    assert found == json.loads((tmp_path / "LAW" / "law.json").read_text())
    assert "Cannot tell" in (tmp_path / "LAW" / "law.html").read_text()


def test_other_tokenizers_are_refused(folders, tmp_path, cache):
    strange = tmp_path / "strange"
    shutil.copytree(folders["other"], strange)
    path = strange / "model" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["merges"].pop()
    path.write_text(json.dumps(tokenizer))
    paths = [folders["random"], strange]
    with pytest.raises(DataError, match=r"random and .*strange: have different tokenizers"):
        didact.law(paths, ctx=didact.context(cache_dir=cache))


def test_a_run_whose_texts_are_gone_is_refused(folders, tmp_path):
    gone = tmp_path / "gone"
    shutil.copytree(folders["other"], gone)
    manifest = json.loads((gone / "manifest.json").read_text())
    manifest["config"]["data"]["path"] = str(tmp_path / "nothing.jsonl")
    (gone / "manifest.json").write_text(json.dumps(manifest))
    (gone / "stages" / "manifest.checksum").unlink()
    with pytest.raises(DataError, match=r"gone: its texts are gone.*column ratio"):
        didact.law([gone], ctx=didact.context(cache_dir=tmp_path / "empty"))


def test_telemetry_without_a_first_epoch_is_refused(folders, tmp_path, cache):
    late = tmp_path / "late"
    shutil.copytree(folders["random"], late)
    lines = (late / "model" / "steps.jsonl").read_text().splitlines(keepends=True)
    (late / "model" / "steps.jsonl").write_text("".join(lines[5:]))
    with pytest.raises(DataError, match=r"steps\.jsonl: has no first epoch, it begins with step 6"):
        didact.law([late], ctx=didact.context(cache_dir=cache))


def test_what_performance_is_must_be_known(folders, cache):
    ctx = didact.context(cache_dir=cache)
    with pytest.raises(ConfigError, match="metric 'bleu': no run has it; expected one of"):
        didact.law(list(folders.values()), metric="bleu", ctx=ctx)
    with pytest.raises(DataError, match=r"has no bits_per_byte of 'gsm8k\.jsonl'.*held_out\.jsonl"):
        didact.law(list(folders.values()), file="gsm8k.jsonl", ctx=ctx)


def test_what_is_no_run_is_refused(folders, tmp_path):
    (tmp_path / "runs.csv").write_text("run\n")
    with pytest.raises(ConfigError, match="given together"):
        didact.law([tmp_path / "runs.csv", folders["random"]])
    with pytest.raises(DataError, match="is no folder"):
        didact.law([tmp_path / "nothing"])
    with pytest.raises(DataError, match="no manifest"):
        didact.law([tmp_path])
