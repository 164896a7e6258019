"""Overlap, the cache, costs, notes, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import orjson
import pytest

import didact
from didact import verbs
from didact.core.errors import ConfigError, DataError
from didact.data.reading.settings import DataSettings
from didact.evaluation.results import read_evaluation, write_evaluation
from didact.evaluation.settings import EvaluateSettings
from didact.testing import chat, sample_rows

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

OWN = {"device": "cpu", "dtype": "float32"}


def write(path, rows):
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "held.jsonl", sample_rows())


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the model that a test may write beside."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def teach(model, file, rows):
    """Tell the model's folder that it has seen some rows of a file."""
    hashes = didact.read(file, dedup="none").content_hash[rows]
    np.save(model / "trained_on.npy", np.unique(hashes))


def test_rows_that_were_trained_on_are_left_out_counted_and_listed(file, model):
    whole = verbs.evaluate(model, file, **OWN)
    assert sum("has no trained_on.npy" in note for note in whole.notes) == 1
    n = len(whole.table)
    teach(model, file, [3, 0])
    found = verbs.evaluate(model, file, **OWN)
    gone = [0, 3, n - 1]  # the last row is a copy of the first
    assert found.meta["files"][0]["overlap"] == gone
    assert found.table["row"].to_pylist() == [r for r in range(n) if r not in gone]
    (note,) = [note for note in found.notes if "trained on" in note]
    assert note.startswith(f"held.jsonl: 3 of {n} rows")
    assert "left out: row 1 (t0), row 4 (t3), row 37 (copy of t0)" in note
    assert not any("trained_on.npy" in note for note in found.notes)
    kept = verbs.evaluate(model, file, on_overlap="keep", **OWN)
    assert len(kept.table) == n
    assert any("3 of 37 rows" in note and "counted" in note for note in kept.notes)
    with pytest.raises(DataError, match=r"held.jsonl: 3 of 37 rows .* row 1 \(t0\)"):
        verbs.evaluate(model, file, on_overlap="error", **OWN)
    teach(model, file, list(range(n)))
    with pytest.raises(DataError, match="all 37 rows are among what the model was trained on"):
        verbs.evaluate(model, file, **OWN)


def test_a_damaged_list_of_samples_is_refused(file, model):
    (model / "trained_on.npy").write_bytes(b"\x93NUMPY cut")
    with pytest.raises(DataError, match=r"trained_on.npy: is not the hashes"):
        verbs.evaluate(model, file, **OWN)
    np.save(model / "trained_on.npy", np.arange(3.0))
    with pytest.raises(DataError, match=r"is not the hashes .* \(float64 of shape"):
        verbs.evaluate(model, file, **OWN)


def test_a_second_call_is_found_and_its_value_is_what_it_cost(file, model, tmp_path):
    ctx = verbs.context(1, cache_dir=tmp_path / "cache")
    first = verbs.evaluate(model, file, ctx=ctx, **OWN)
    made = ctx.meter.bill
    assert made.charged.flops == made.value.flops > 0
    again = verbs.context(1, cache_dir=tmp_path / "cache")
    second = verbs.evaluate(model, file, ctx=again, **OWN)
    assert second.table.equals(first.table)
    assert again.meter.bill.charged.flops == 0
    assert again.meter.bill.value.flops == made.value.flops
    assert again.meter.bill.value.tokens == made.value.tokens
    other = verbs.context(1, cache_dir=tmp_path / "cache")
    verbs.evaluate(model, file, ctx=other, window=100, **OWN)
    assert other.meter.bill.charged.flops > 0


@pytest.mark.parametrize("form", [{}, {"choices": "column"}, {"window": 60}])
def test_cost_is_counted_and_foretold(form, model, tmp_path, flop_counter):
    random = np.random.default_rng(0)
    words = [
        " ".join(random.choice(["the", "answer", "question"], n))
        for n in random.integers(5, 60, 400)
    ]
    rows = [
        {**chat(str(i), f"{i} {text}", "the answer"), "choices": ["the answer", "a question", "no"]}
        for i, text in enumerate(words)
    ]
    if "choices" not in form:
        rows = [{k: v for k, v in row.items() if k != "choices"} for row in rows]
    file = write(tmp_path / "held.jsonl", rows)
    read_as = DataSettings(tokenizer=str(model / "tokenizer.json"))
    ctx = verbs.context(1, cache_dir=tmp_path / "cache")
    with flop_counter() as counted:
        verbs.evaluate(model, file, read_as=read_as, ctx=ctx, **form, **OWN)
    spent = ctx.meter.bill.charged
    assert spent.flops == pytest.approx(counted.get_total_flops(), rel=1e-3)
    foretold = verbs.estimate_evaluation(model, file, read_as=read_as, ctx=ctx, **form, **OWN)
    assert foretold.flops == pytest.approx(spent.flops, rel=0.05)
    assert foretold.tokens == pytest.approx(spent.tokens, rel=0.05)


def test_the_table_says_what_it_is(file, model, tmp_path):
    (model / "training.json").write_text(
        json.dumps({"fingerprint": "f", "set": "s", "settings": {"template": "roles"}, "seeds": {}})
    )
    found = verbs.evaluate(model, file, **OWN)
    write_evaluation(found, tmp_path / "E.parquet")
    meta = read_evaluation(tmp_path / "E.parquet").meta
    assert meta["training"] == {"fingerprint": "f", "set": "s", "seeds": {}}
    assert meta["model"] == str(model)
    assert len(meta["model_digest"]) == 32
    assert meta["settings"]["template"] == "model"
    assert meta["files"][0]["file"] == "held.jsonl"
    assert len(meta["files"][0]["blake2b"]) == 32
    assert any("trained with template=roles" in note for note in meta["notes"])
    assert any("looks untrained" in note for note in meta["notes"])


def test_a_template_that_a_model_has_never_seen_is_said(tmp_path, save_llama):
    """A model that knows which letters there are, and nothing of the template's marks."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    model = save_llama(tmp_path / "model", tie_word_embeddings=False)
    file = write(tmp_path / "held.jsonl", [chat("a", "the question " * 4, "the answer " * 4)])
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = tokenizer.encode("the question the answer user assistant\n", add_special_tokens=False)
    weights = load_file(model / "model.safetensors")
    for name, tensor in weights.items():  # every state is ones, and a logit the mean of its row
        tensor.fill_(float("embed_tokens" in name or "norm" in name))
        if "lm_head" in name:
            tensor[text] = 6 / 32
            tensor[tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])] = -6 / 32
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    notes = verbs.evaluate(model, file, **OWN).notes
    assert any("has never seen this chat template: a mark of it takes" in note for note in notes)
    assert not any("looks untrained" in note for note in notes)
    notes = verbs.evaluate(model, file, template="roles", **OWN).notes
    assert not any("chat template" in note for note in notes)


def test_settings_that_do_not_fit_are_refused(file, model, tmp_path, save_llama):
    with pytest.raises(ConfigError, match="evaluate.window=999: the model reads at most 256"):
        verbs.evaluate(model, file, window=999, **OWN)
    with pytest.raises(ConfigError, match="evaluate.stride=64: expected less than the window"):
        verbs.evaluate(model, file, window=64, stride=64, **OWN)
    with pytest.raises(ConfigError, match="evaluate: unknown setting 'choice'; did you mean"):
        verbs.evaluate(model, file, choice="column", **OWN)
    plain = save_llama(tmp_path / "plain", template=None)
    with pytest.raises(ConfigError, match="held.jsonl: the model's tokenizer has no chat template"):
        verbs.evaluate(plain, file, **OWN)
    assert len(verbs.evaluate(plain, file, template="roles", **OWN).table) == 37


def test_an_option_that_is_cut_is_refused(model, tmp_path):
    row = {**chat("a", "q" * 50, "yes"), "choices": ["yes", "no and so on and so on"]}
    file = write(tmp_path / "c.jsonl", [row])
    with pytest.raises(DataError, match=r"c.jsonl: row 1: the option .* is cut"):
        verbs.evaluate(model, file, max_length=75, **OWN)


def test_models_that_are_none_are_refused(file, model, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        verbs.evaluate(tmp_path / "nowhere", file, **OWN)
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(DataError, match="cut short or damaged"):
        verbs.evaluate(model, file, **OWN)
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text("{}")
    with pytest.raises(DataError, match="no weights"):
        verbs.evaluate(half, file, **OWN)


def test_a_model_of_no_numbers_is_refused(file, model):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], torch.nan)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"held.jsonl: row 1: its likelihood is nan"):
        verbs.evaluate(model, file, **OWN)


def test_the_model_of_a_run_is_found_in_its_folder(file, model, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copytree(model, tmp_path / "run" / "model")
    found = verbs.evaluate(tmp_path / "run", file, **OWN)
    assert found.table.equals(verbs.evaluate(model, file, **OWN).table)
    assert found.meta["model"] == str(tmp_path / "run")


def test_several_files_and_their_names(model, tmp_path):
    a = write(tmp_path / "a.jsonl", sample_rows()[:5])
    b = write(tmp_path / "b.jsonl", [{"text": "plain text, no chat"}])
    found = verbs.evaluate(model, [a, b], **OWN)
    assert found.table["file"].to_pylist() == ["a.jsonl"] * 5 + ["b.jsonl"]
    assert {r["file"] for r in found.summary()} == {"a.jsonl", "b.jsonl"}
    (tmp_path / "c").mkdir()
    again = write(tmp_path / "c" / "a.jsonl", sample_rows()[:5])
    with pytest.raises(DataError, match=r"a.jsonl: several held-out files have this name"):
        verbs.evaluate(model, [a, again], **OWN)


def test_rows_without_options_are_said(model, tmp_path):
    rows = [chat("a", "q", "yes"), {**chat("b", "q?", "yes"), "choices": ["yes", "no"]}]
    found = verbs.evaluate(model, write(tmp_path / "c.jsonl", rows), **OWN)
    assert found.table["right"].to_pylist() == [None, 0]
    assert any("1 of 2 rows have no options" in note for note in found.notes)


def test_progress_goes_up_to_all_rows(file, model):
    seen = []
    ctx = verbs.context(progress=seen.append)
    verbs.evaluate(model, file, ctx=ctx, **OWN)
    steps = [(p.done, p.total) for p in seen if p.stage == "evaluate"]
    assert steps[0] == (0, 37)
    assert steps[-1] == (37, 37)
    assert steps == sorted(steps)


def test_settings_are_a_section_of_a_config():
    from pydantic import TypeAdapter, ValidationError

    section = TypeAdapter(EvaluateSettings)
    assert section.validate_python({"choices": "letters", "window": 64}).window == 64
    for wrong in ({"window": 1}, {"windows": 64}, {"on_overlap": "ignore"}):
        with pytest.raises(ValidationError):
            section.validate_python(wrong)
