"""Reasoning traces: read wherever rows have them, in all that is counted and trained on, or in none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import didact
from didact.core.render import CHOSEN, REJECTED, SHARED
from didact.data.rows.detection import detect, turns_of
from didact.data.rows.reasoning import in_text, without_marked

ASK = {"role": "user", "content": "ما هو 2+2؟"}
TRACE, ANSWER = "两个加两个", "four"


def chat(*answers: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [m for answer in answers for m in (ASK, {"role": "assistant"} | answer)]}


def parsed(row: dict[str, Any], reasoning: Any = "keep") -> list[Any]:
    return turns_of(detect(row, {}), {}, reasoning)(row)


PARTS = [{"type": "thinking", "thinking": TRACE}, {"type": "text", "text": ANSWER}]
KINDS = {
    "reasoning_content": chat({"content": ANSWER, "reasoning_content": TRACE}),
    "reasoning": chat({"content": ANSWER, "reasoning": TRACE}),
    "thinking": chat({"content": ANSWER, "thinking": TRACE}),
    "a null beside it": chat({"content": ANSWER, "reasoning_content": None, "thinking": TRACE}),
    "parts of a trace": chat({"content": ANSWER, "reasoning": [{"type": "text", "text": TRACE}]}),
    "thinking part": chat({"content": PARTS}),
    "nested thinking part": chat(
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": TRACE}]}, ANSWER]}
    ),
    "reasoning part": chat({"content": [{"type": "reasoning", "text": TRACE}, ANSWER]}),
    "summary part": chat(
        {"content": [{"type": "reasoning", "summary": [{"text": TRACE}]}, ANSWER]}
    ),
    "a message of its own": {
        "conversations": [
            {"from": "human", "value": ASK["content"]},
            {"from": "thinking", "value": TRACE},
            {"from": "gpt", "value": ANSWER},
        ]
    },
    "beside a value": {
        "conversations": [
            {"from": "human", "value": ASK["content"]},
            {"from": "gpt", "value": ANSWER, "reasoning_content": TRACE},
        ]
    },
    "of a completion": {
        "prompt": [ASK],
        "completion": {"role": "assistant", "content": ANSWER, "reasoning_content": TRACE},
    },
}


@pytest.mark.parametrize("name", KINDS)
def test_a_trace_is_a_turn_before_its_answer(name):
    assert parsed(KINDS[name]) == [
        (SHARED, "user", ASK["content"], 0.0),
        (SHARED, "reasoning", TRACE, 1.0),
        (SHARED, "assistant", ANSWER, 1.0),
    ]


@pytest.mark.parametrize("name", KINDS)
def test_a_trace_can_be_left_out(name):
    assert [turn[1:3] for turn in parsed(KINDS[name], "drop")] == [
        ("user", ASK["content"]),
        ("assistant", ANSWER),
    ]


def test_what_is_no_trace_is_none():
    for answer in (
        {"content": ANSWER, "reasoning_content": ""},
        {"content": ANSWER, "reasoning": None, "thinking": True},
        {"content": ANSWER, "reasoning": {"effort": "high"}},
    ):
        assert len(parsed(chat(answer))) == 2
    asked = {"messages": [ASK | {"thinking": "of a user"}, {"role": "assistant", "content": "x"}]}
    assert [turn[1] for turn in parsed(asked)] == ["user", "assistant"]


def test_a_mapped_key_and_a_weight():
    row = chat({"content": ANSWER, "cot": TRACE, "thinking": "no", "weight": 0.5})
    assert turns_of("messages", {"reasoning": "cot"})(row)[1:] == [
        (SHARED, "reasoning", TRACE, 0.5),
        (SHARED, "assistant", ANSWER, 0.5),
    ]


def test_a_message_of_a_trace_and_a_call():
    call = {"reasoning_content": TRACE, "tool_calls": [{"name": "f"}]}
    assert [turn[1:3] for turn in parsed(chat(call))][1:] == [
        ("reasoning", TRACE),
        ("assistant", '[{"name":"f"}]'),
    ]
    assert [turn[1:3] for turn in parsed(chat({"thinking": TRACE}))][1:] == [
        ("reasoning", TRACE),
        ("assistant", ""),
    ]


def test_traces_of_a_pair_stay_with_their_answers():
    good, bad = (
        [ASK, {"role": "assistant", "content": text, "thinking": TRACE}] for text in ("4", "5")
    )
    assert [turn[:3] for turn in parsed({"chosen": good, "rejected": bad})] == [
        (SHARED, "user", ASK["content"]),
        (CHOSEN, "reasoning", TRACE),
        (CHOSEN, "assistant", "4"),
        (REJECTED, "reasoning", TRACE),
        (REJECTED, "assistant", "5"),
    ]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>\nhm\n</think>\n\nfour", "four"),
        ("  <thinking>hm</thinking>four", "four"),
        ("<|begin_of_thought|>hm<|end_of_thought|>\nfour", "four"),
        ("hm\n</think>\nfour", "four"),  # the opening mark was in the prompt
        ("<think>cut off", ""),
        ("four", "four"),
        ("the mark <think> opens, </think> ends", "the mark <think> opens, </think> ends"),
        ("x < think", "x < think"),
    ],
)
def test_traces_in_the_text_of_an_answer(text, left):
    assert without_marked(text) == left
    assert in_text(text) == (text != left)
    row = {"instruction": "q", "output": f"{text} " if not left else text}
    if left:
        assert [turn[2] for turn in parsed(row, "drop")] == ["q", left]
    assert parsed(row)[1][2] == row["output"]  # as it came, as trainers read it


def test_a_row_of_a_trace_alone_is_refused_when_traces_are_left_out():
    row = {"messages": [{"role": "assistant", "content": "", "reasoning_content": TRACE}]}
    assert len(parsed(row)) == 2
    with pytest.raises(ValueError, match="no text at all"):
        parsed(row, "drop")


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    row = chat({"content": "the answer", "reasoning_content": "so the question and so on"})
    plain = {"messages": [ASK, {"role": "assistant", "content": "the answer"}]}
    path = tmp_path / "traced.jsonl"
    path.write_bytes(orjson.dumps(row) + b"\n" + orjson.dumps(plain) + b"\n")
    return path


def test_text_counts_scores_and_training_hold_the_same_trace(traced, tiny_model):
    """Every place that counts or reads a sample has the trace, or none has."""
    pytest.importorskip("transformers")
    from didact.models.encode import Encoding
    from didact.models.language_model import open_tokenizer
    from didact.training.samples import Samples

    tokenizer = open_tokenizer(tiny_model)
    trace = "so the question and so on"
    settings = {"tokenizer": str(tiny_model / "tokenizer.json")}
    both = {how: didact.read(traced, reasoning=how, **settings) for how in ("keep", "drop")}
    for how, pool in both.items():
        held = how == "keep"
        columns = pool.read([0, 1], ["text", "completion", "record"])
        text, completion = (columns.column(c).to_pylist()[0] for c in ("text", "completion"))
        assert (trace in text) == (trace in completion) == held
        more = len(f"{trace}\n".encode()) if held else 0
        assert pool.n_bytes[0] - pool.n_bytes[1] == more
        assert pool.n_tokens[0] == len(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert pool.meta["learned_bytes"] == 2 * len("the answer") + held * len(trace)
        assert b"reasoning_content" in columns.column("record").to_pylist()[0]  # the row as it came
        lengths = didact.score(pool, "length", unit="bytes").values
        assert lengths[0] - lengths[1] == more
        scores = didact.score(pool, "perplexity", model=str(tiny_model))
        assert (scores.values[0] == scores.values[1]) != held
        samples = Samples(pool, [np.arange(2)], tokenizer, Encoding(kind="chat"))
        ids, weights = samples.tokens(np.arange(2)).sample(0)
        assert (trace in tokenizer.decode(ids)) == held
        assert (trace in tokenizer.decode(ids[weights > 0])) == held
    assert both["keep"].fingerprint != both["drop"].fingerprint
    assert both["keep"].content_hash[0] != both["keep"].content_hash[1]
    assert both["drop"].content_hash[0] == both["drop"].content_hash[1]


def test_a_table_fills_in_no_trace(tmp_path):
    rows = [
        chat({"content": "a", "reasoning_content": "hm"})["messages"],
        chat({"content": "b"})["messages"],
    ]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"messages": rows}), path)
    texts = didact.read(path).read([0, 1], ["text"]).column("text").to_pylist()
    assert [text.removeprefix(f"{ASK['content']}\n") for text in texts] == ["hm\na", "b"]
