"""Bits per byte and likelihoods of options, against a loop of one sample and one window a time."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest

import didact
from didact import verbs
from didact.core.errors import DataError
from didact.evaluation.results import summarise
from didact.testing import chat

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from torch.nn import functional  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from didact.training.adapters import without_renaming_warnings  # noqa: E402

TEXTS = [
    ("كم ساقًا للقط؟", "أربع سيقان، كما قلت لك من قبل."),
    ("猫有几条腿？", "四条腿。"),
    ("แมวมีกี่ขา", "สี่ขา และหางหนึ่งหาง"),
    ("Сколько ног у кошки?", "У кошки четыре ноги и один хвост. " * 9),  # longer than a window
    ("Write a loop.", "for i in range(10):\n    print(f'{i:>3}')\n\t# done 😀"),
    ("one", "word"),
    ("Nothing follows.", ""),
]
SIZE, STRIDE = 64, 24


def rows() -> list[dict[str, Any]]:
    out = [chat(f"r{i}", *pair, source=f"s{i % 2}") for i, pair in enumerate(TEXTS)]
    more = [*out[0]["messages"], {"role": "user", "content": "and a dog?"},
            {"role": "assistant", "content": "the same"}]  # fmt: skip
    return [*out, {"id": "two answers", "messages": more, "source": "s0"}]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "held.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows()))
    return path


def by_hand(model, ids: list[int], size: int, stride: int) -> list[float]:
    """Nats of every token but the first, from the first window that reaches it; batch of one."""
    out, start = [0.0], 0
    while len(out) < len(ids):
        window = torch.tensor([ids[start : start + size]])
        with torch.no_grad():
            logits = model(window).logits[0]
        for t in range(len(out), start + window.shape[1]):
            at = t - start
            out.append(float(functional.cross_entropy(logits[at - 1], window[0, at])))
        start += stride
    return out


def spans(row: dict[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """The conversation in ChatML, and where in it the non-empty answers are, marks included."""
    text, answers = "", []
    for message in row["messages"]:
        text += f"<|im_start|>{message['role']}\n"
        start = len(text)
        text += f"{message['content']}<|im_end|>\n"
        if message["role"] == "assistant" and message["content"]:
            answers.append((start, len(text)))
    return text, answers


def expected(tiny_model, row: dict[str, Any], size: int, stride: int) -> dict[str, tuple]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64)
    text, answers = spans(row)
    encoded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    nats = by_hand(model, encoded.ids, size, stride)
    out = {}
    for part in ("answer", "all"):
        total, n_bytes, count, before = 0.0, 0, 0, 0
        for t, (_, end) in enumerate(encoded.offsets):
            inside = any(a < end <= b for a, b in answers) if part == "answer" else True
            if t and inside:
                total, count = total + nats[t], count + 1
                n_bytes += len(text[before:end].encode())
            before = end
        out[part] = (total, n_bytes, count)
    return out


@pytest.mark.parametrize("budget", [1, 100, 8192])
def test_bits_per_byte_equal_a_loop_of_one_sample_at_a_time(file, tiny_model, budget):
    found = verbs.evaluate(
        tiny_model, file, dtype="float64", device="cpu", window=SIZE, stride=STRIDE,
        tokens_per_batch=budget,
    )  # fmt: skip
    totals = np.zeros((2, 2))
    for row, record in zip(rows(), found.table.to_pylist(), strict=True):
        for i, (part, (nats, n_bytes, count)) in enumerate(
            expected(tiny_model, row, SIZE, STRIDE).items()
        ):
            assert record[f"{part}_tokens"] == count
            assert record[f"{part}_nats"] == pytest.approx(nats, abs=1e-9)
            assert record[f"{part}_bytes"] == n_bytes
            totals[i] += nats, n_bytes
    summary = {r["metric"]: r for r in found.summary() if not r["source"]}
    for metric, (nats, n_bytes) in zip(("bits_per_byte", "bits_per_byte_all"), totals, strict=True):
        wanted = nats / math.log(2) / n_bytes
        assert summary[metric]["value"] == pytest.approx(wanted, abs=1e-6)
        assert summary[metric]["low"] < wanted < summary[metric]["high"]
    assert summary["bits_per_byte"]["n"] == len(rows()) - 1  # one has no answer
    assert any("1 of 8 rows have no answer that counts" in note for note in found.notes)


@pytest.mark.parametrize("settings", [{}, {"window": SIZE}, {"loss": "all"}, {"loss": "text"},
                                      {"template": "roles"}, {"max_length": 40}])  # fmt: skip
def test_answers_are_the_parts_of_the_scorer(file, tiny_model, settings):
    found = verbs.evaluate(tiny_model, file, dtype="float64", device="cpu", **settings)
    pool = didact.read(file)
    scores = didact.score(
        pool, "bits_per_byte", model=str(tiny_model), dtype="float64", device="cpu", **settings
    )
    same = "window" not in settings  # then batches are the same, and so is every bit
    for row, record in enumerate(found.table.to_pylist()):
        if row in scores.missing:
            assert record["answer_tokens"] == 0
            continue
        nats = scores.parts["nats"][row]
        assert record["answer_nats"] == (nats if same else pytest.approx(nats, rel=1e-12))
        assert record["answer_tokens"] == scores.parts["tokens"][row]
        bits = record["answer_nats"] / np.log(2) / record["answer_bytes"]
        assert bits == pytest.approx(scores.values[row], rel=1e-12)
    if "loss" in settings:
        table = found.table
        assert table["answer_nats"].to_pylist() == table["all_nats"].to_pylist()


def test_options_take_what_they_would_as_the_answer(tmp_path, tiny_model):
    choices = ["أربع", "four legs", "四条腿，和一条尾巴", "нет"]
    (tmp_path / "c.jsonl").write_bytes(
        orjson.dumps({**chat("a", "猫？", choices[2]), "choices": choices})
    )
    found = verbs.evaluate(tiny_model, tmp_path / "c.jsonl", dtype="float64", device="cpu")
    (record,) = found.table.to_pylist()
    loop = [expected(tiny_model, chat("a", "猫？", c), 256, 128)["answer"] for c in choices]
    assert record["choice_nats"] == pytest.approx([nats for nats, *_ in loop], abs=1e-9)
    assert record["choice_bytes"] == [n for _, n, _ in loop]
    assert record["choice_chars"] == [len(c) for c in choices]
    assert record["right"] == 2
    assert record["choice_nats"][2] == pytest.approx(record["answer_nats"], abs=1e-9)
    values = {r["metric"]: r["value"] for r in summarise(found.table) if not r["source"]}
    nats = np.asarray([each[0] for each in loop])
    assert values["answer_probability"] == pytest.approx(math.exp(-nats[2]) / np.exp(-nats).sum())
    assert values["margin"] == pytest.approx(np.delete(nats, 2).min() - nats[2])
    assert values["answer_nats_per_char"] == pytest.approx(nats[2] / len(choices[2]))
    per_char = nats / [len(c) for c in choices]
    assert values["accuracy"] == float(nats.argmin() == 2)
    assert values["accuracy_per_char"] == float(per_char.argmin() == 2)
    assert values["chance"] == 1 / 4


def test_a_row_of_a_prompt_alone_has_its_right_option_as_answer(tmp_path, tiny_model):
    row = {
        "messages": [{"role": "user", "content": "say"}],
        "choices": ["yes", "no"],
        "answer": "B",
    }
    (tmp_path / "c.jsonl").write_bytes(orjson.dumps(row))
    found = verbs.evaluate(tiny_model, tmp_path / "c.jsonl", dtype="float64", device="cpu")
    (record,) = found.table.to_pylist()
    assert record["right"] == 1
    assert record["answer_nats"] == record["choice_nats"][1]
    assert record["answer_bytes"] == len("no<|im_end|>\n")
    assert record["answer_tokens"] > 0


def test_an_adapter_is_evaluated_on_its_base(tmp_path, tiny_model, file):
    from peft import LoraConfig, PeftModel, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    torch.manual_seed(3)
    how = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with without_renaming_warnings():
        adapted = get_peft_model(base, how)
    adapted.save_pretrained(tmp_path / "adapter")
    own = {"dtype": "float64", "device": "cpu"}
    found = verbs.evaluate(tmp_path / "adapter", file, **own)
    again = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64)
    with without_renaming_warnings():
        merged = PeftModel.from_pretrained(again, tmp_path / "adapter").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "merged")
    wanted = verbs.evaluate(tmp_path / "merged", file, **own)
    nats = found.table["all_nats"].to_numpy()
    # Adapters are float32 beside the float64 base, the merged model's weights are rounded once.
    np.testing.assert_allclose(nats, wanted.table["all_nats"].to_numpy(), rtol=1e-5)
    plain = verbs.evaluate(tiny_model, file, **own).table["all_nats"].to_numpy()
    assert not np.allclose(nats, plain, rtol=1e-3)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": "no/such folder"})
    )
    with pytest.raises(DataError,
                       match="base model 'no/such folder' is not to be found"):  # fmt: skip
        verbs.evaluate(tmp_path / "adapter", file, **own)
