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
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import row_reader
from didact.data.rows.detection import detect, formats, turns_of
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
    "details": chat(
        {
            "content": ANSWER,
            "reasoning_details": [
                {"type": "reasoning.summary", "summary": TRACE},
                {"type": "reasoning.encrypted", "data": "x"},
            ],
        }
    ),
    "blocks": chat(
        {
            "content": ANSWER,
            "thinking_blocks": [{"type": "thinking", "thinking": TRACE, "signature": "x"}],
        }
    ),
    "steps": chat({"content": ANSWER, "reasoning": {"steps": [TRACE]}}),
    **{
        key: chat({"content": ANSWER, key: TRACE})
        for key in (
            "thought",
            "thoughts",
            "cot",
            "chain_of_thought",
            "analysis",
            "rationale",
            "reasoning_text",
            "thinking_content",
        )
    },
    "thought part": chat({"content": [{"type": "thought", "text": TRACE}, {"text": ANSWER}]}),
    "thought flag": chat({"content": [{"thought": True, "text": TRACE}, {"text": ANSWER}]}),
    "redacted part": chat(
        {
            "reasoning": TRACE,
            "content": [
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": ANSWER},
            ],
        }
    ),
    "channel": {
        "messages": [
            ASK,
            {"role": "assistant", "channel": "analysis", "content": TRACE},
            {"role": "assistant", "channel": "final", "content": ANSWER},
        ]
    },
    "beside messages": chat({"content": ANSWER}) | {"reasoning_content": TRACE},
    "of an instruction": {
        "instruction": ASK["content"],
        "output": ANSWER,
        "reasoning_content": TRACE,
    },
    "of a text": {"prompt": ASK["content"], "completion": ANSWER, "thinking": TRACE},
    "of a labelled answer": {
        "prompt": ASK["content"],
        "completion": ANSWER,
        "cot": TRACE,
        "label": True,
    },
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
def test_a_script_reads_the_same_traces(name):
    form = detect(KINDS[name], {})
    read, found = row_reader(
        OrderedDataSet(
            kind=formats()[form].kind,
            formats=[form],
            data_files=["x.jsonl"],
            validation_file=None,
            columns={},
            batch_size=2,
            epochs=1,
        )
    )
    answers = read(KINDS[name])
    last = (answers.get("completion") or answers["messages"])[-1]
    assert last == {"role": "assistant", "content": ANSWER, "reasoning_content": TRACE}
    assert found == {"reasoning": 1}


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
        {"content": ANSWER, "reasoning": "high"},
        {"content": ANSWER, "analysis": [{"text": "x"}]},
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


def test_a_trace_beside_a_row_is_of_its_last_answer_if_that_has_none():
    last = [turn[1:3] for turn in parsed(chat({"content": "1"}, {"content": "2"}) | {"cot": TRACE})]
    assert last[-2:] == [("reasoning", TRACE), ("assistant", "2")]
    assert last[:2] == [("user", ASK["content"]), ("assistant", "1")]
    for own in (
        {"content": "2", "thinking": "own"},
        {"content": "<think>own</think>2"},
        {"content": f"{TRACE}: 2"},
    ):
        assert TRACE not in [turn[2] for turn in parsed(chat(own) | {"reasoning": TRACE})]
    switch = {"prompt": "q", "completion": "a", "reasoning": "on"}
    assert len(parsed(switch)) == 2


def test_traces_beside_the_answers_of_a_pair():
    row = {
        "prompt": "q",
        "chosen": "a",
        "rejected": "b",
        "chosen_reasoning": TRACE,
        "rejected_thinking": "لأن",
    }
    assert [turn[:3] for turn in parsed(row)] == [
        (SHARED, "user", "q"),
        (CHOSEN, "reasoning", TRACE),
        (CHOSEN, "assistant", "a"),
        (REJECTED, "reasoning", "لأن"),
        (REJECTED, "assistant", "b"),
    ]
    assert [turn[2] for turn in parsed(row, "drop")] == ["q", "a", "b"]


def test_a_mapped_column_of_a_row_goes_first_and_a_dash_hides_all():
    row = {"prompt": "q", "completion": "a", "meta": {"why": TRACE}, "thinking": "other"}
    told = {
        own: [t[2] for t in turns_of("prompt_completion", {"reasoning": own})(row)]
        for own in ("meta.why", "gone", "-")
    }
    assert told == {"meta.why": ["q", TRACE, "a"], "gone": ["q", "other", "a"], "-": ["q", "a"]}


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("[THINK]想[/THINK]答", "答"),
        ("<|START_THINKING|>想<|END_THINKING|>答", "答"),
        ("<|channel|>analysis<|message|>想<|end|>答", "答"),
    ],
)
def test_marks_of_other_models(text, rest, tmp_path):
    assert without_marked(text) == rest
    path = tmp_path / "x.jsonl"
    path.write_bytes(orjson.dumps(chat({"content": text})))
    assert [found.kind for found in didact.read(path).findings] == ["reasoning"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_is_said_of_traces_beside_rows(ending, tmp_path):
    row = {"prompt": "q", "completion": "a", "rationale": "因为"}
    pair = {"prompt": "q", "chosen": "a", "rejected": "b", "reasoning": "因为"}

    def kinds(row, **settings):
        path = tmp_path / f"x.{ending}"
        if ending == "jsonl":
            path.write_bytes(orjson.dumps(row))
        else:
            pq.write_table(pa.Table.from_pylist([row]), path)
        return [found.kind for found in didact.read(path, **settings).findings]

    assert kinds(row) == ["unread_reasoning"]
    assert kinds(row, columns={"reasoning": "rationale"}) == ["reasoning"]
    assert kinds(row, columns={"reasoning": "rationale"}, reasoning="drop") == ["reasoning_dropped"]
    assert kinds(pair) == ["pair_reasoning"]
    assert kinds(pair | {"chosen_cot": "因"}, reasoning="drop") == [
        "reasoning_dropped",
        "pair_reasoning",
    ]
    traced = {"instruction": "q", "output": "a", "thinking": "因为"}
    assert kinds(traced) == ["reasoning"]
    assert kinds(traced, reasoning="drop") == ["reasoning_dropped"]
