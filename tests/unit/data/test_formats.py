"""Formats: from a row to turns. Expected turns are written out by hand from each format's definition."""

from __future__ import annotations

import json

import pytest

import didact
from didact.core.errors import ConfigError, DataError
from didact.core.render import CHOSEN, REJECTED, SHARED
from didact.data.export import flat
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import row_reader
from didact.data.rows.columns import RowError, get
from didact.data.rows.detection import check_columns, detect, turns_of

SYSTEM, USER, TOOL, ANSWER = "system", "user", "tool", "assistant"


def parse(row, columns=None, name=None):
    columns = columns or {}
    return turns_of(name or detect(row, columns), columns)(row)


def shared(*turns):
    return [(SHARED, role, text, weight) for role, text, weight in turns]


MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]

CASES = {
    "messages": ({"messages": MESSAGES}, shared((USER, "hi", 0.0), (ANSWER, "hello", 1.0))),
    "messages in conversations": (
        {"conversations": MESSAGES},
        shared((USER, "hi", 0.0), (ANSWER, "hello", 1.0)),
    ),
    "messages beside a null": (
        {"messages": None, "conversations": MESSAGES},
        shared((USER, "hi", 0.0), (ANSWER, "hello", 1.0)),
    ),
    "system and tools beside messages": (
        {"system": "be kind", "tools": [{"name": "f"}], "messages": MESSAGES},
        shared(
            (SYSTEM, "be kind", 0.0),
            (SYSTEM, '[{"name":"f"}]', 0.0),
            (USER, "hi", 0.0),
            (ANSWER, "hello", 1.0),
        ),
    ),
    "tools by their second name": (
        {"tools": "[]", "functions": [{"name": "f"}], "messages": MESSAGES},
        shared((SYSTEM, '[{"name":"f"}]', 0.0), (USER, "hi", 0.0), (ANSWER, "hello", 1.0)),
    ),
    "functions beside an instruction": (
        {"functions": '[{"name": "f"}]', "instruction": "hi", "output": "hello"},
        shared((SYSTEM, '[{"name": "f"}]', 0.0), (USER, "hi", 0.0), (ANSWER, "hello", 1.0)),
    ),
    "parts of tools, refusals and files": (
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": {"value": "انتظر"}},
                        {"type": "tool_use", "id": "1", "name": "天气", "input": {"城": "上海"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "1",
                            "content": [
                                {"type": "text", "text": "晴"},
                                {"type": "image", "source": {}},
                            ],
                        },
                        {"type": "tool_result", "tool_use_id": "2", "content": "حار"},
                        {"type": "tool_result", "content": {"t": 30}},
                        {"type": "document", "source": {}},
                    ],
                },
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "لا"}]},
            ]
        },
        shared(
            (
                ANSWER,
                'انتظر\n[{"type":"tool_use","id":"1","name":"天气","input":{"城":"上海"}}]',
                1.0,
            ),
            (
                USER,
                '晴\n<image>\nحار\n{"type":"tool_result","content":{"t":30}}\n<document>',
                0.0,
            ),
            (ANSWER, "لا", 1.0),
        ),
    ),
    "content parts": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {"type": "image_url", "image_url": {"url": "data:..."}},
                        "plain",
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "value": "a cat"}]},
            ]
        },
        shared((USER, "look\n<image_url>\nplain", 0.0), (ANSWER, "a cat", 1.0)),
    ),
    "tool calls and null content": (
        {
            "messages": [
                {"role": "user", "content": "sum"},
                {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]},
                {"role": "tool", "content": "3", "tool_call_id": "1"},
                {"role": "assistant", "content": "It is 3", "tool_calls": None},
            ]
        },
        shared(
            (USER, "sum", 0.0),
            (ANSWER, '[{"id":1}]', 1.0),
            (TOOL, "3", 0.0),
            (ANSWER, "It is 3", 1.0),
        ),
    ),
    "the older function_call": (
        {
            "messages": [
                {"role": "user", "content": "sum"},
                {"role": "assistant", "content": "so:", "function_call": {"name": "add"}},
            ]
        },
        shared((USER, "sum", 0.0), (ANSWER, 'so:\n{"name":"add"}', 1.0)),
    ),
    "weights a turn": (
        {
            "messages": [
                {"role": "user", "content": "a", "weight": 0.5},
                {"role": "assistant", "content": "b", "loss_weight": 0.0},
                {"role": "assistant", "content": "c", "train": True},
                {"role": "assistant", "content": "d", "training": False},
                {"role": "assistant", "content": "e", "weight": None},
            ]
        },
        shared(
            (USER, "a", 0.5),
            (ANSWER, "b", 0.0),
            (ANSWER, "c", 1.0),
            (ANSWER, "d", 0.0),
            (ANSWER, "e", 1.0),
        ),
    ),
    "roles in other spellings": (
        {"messages": [{"role": "Human", "content": "a"}, {"role": "ASSISTANT", "content": "b"}]},
        shared((USER, "a", 0.0), (ANSWER, "b", 1.0)),
    ),
    "an unknown role is kept": (
        {"messages": [{"role": "narrator", "content": "a"}, {"role": "assistant", "content": "b"}]},
        shared(("narrator", "a", 0.0), (ANSWER, "b", 1.0)),
    ),
    "sharegpt": (
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "o"},
                {"from": "gpt", "value": "a"},
            ],
            "tools": '[{"name": "f"}]',
        },
        shared(
            (SYSTEM, '[{"name": "f"}]', 0.0),
            (SYSTEM, "s", 0.0),
            (USER, "q", 0.0),
            (ANSWER, "{}", 1.0),
            (TOOL, "o", 0.0),
            (ANSWER, "a", 1.0),
        ),
    ),
    "sharegpt without tools": (
        {"conversations": [{"from": "human", "value": "q"}], "tools": "[]", "system": ""},
        shared((USER, "q", 0.0)),
    ),
    "alpaca": (
        {"instruction": "add", "input": "1 2", "output": "3"},
        shared((USER, "add\n1 2", 0.0), (ANSWER, "3", 1.0)),
    ),
    "alpaca with system and history": (
        {
            "system": "s",
            "history": [["q1", "a1"], ["q2", "a2"]],
            "instruction": "q3",
            "input": "",
            "output": "a3",
        },
        shared(
            (SYSTEM, "s", 0.0),
            (USER, "q1", 0.0),
            (ANSWER, "a1", 1.0),
            (USER, "q2", 0.0),
            (ANSWER, "a2", 1.0),
            (USER, "q3", 0.0),
            (ANSWER, "a3", 1.0),
        ),
    ),
    "prompt and completion": (
        {"prompt": "2+2=", "completion": "4"},
        shared((USER, "2+2=", 0.0), (ANSWER, "4", 1.0)),
    ),
    "prompt and completion as messages": (
        {
            "prompt": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ],
            "completion": {"role": "assistant", "content": "d"},
        },
        shared((USER, "a", 0.0), (ANSWER, "b", 0.0), (USER, "c", 0.0), (ANSWER, "d", 1.0)),
    ),
    "text": ({"text": "words\0 and a NUL"}, [(SHARED, "text", "words\0 and a NUL", 1.0)]),
    "text beside a class": ({"text": "w", "label": 3}, [(SHARED, "text", "w", 1.0)]),
    "chat beside a class": (
        {"messages": MESSAGES, "label": 3},
        shared((USER, "hi", 0.0), (ANSWER, "hello", 1.0)),
    ),
    "preference": (
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        [
            (SHARED, USER, "q", 0.0),
            (CHOSEN, ANSWER, "good", 1.0),
            (REJECTED, ANSWER, "bad", 1.0),
        ],
    ),
    "preference as messages": (
        {
            "prompt": [{"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "good"}],
            "rejected": [{"role": "assistant", "content": "bad"}],
        },
        [
            (SHARED, USER, "q", 0.0),
            (CHOSEN, ANSWER, "good", 1.0),
            (REJECTED, ANSWER, "bad", 1.0),
        ],
    ),
    "preference whose sides repeat the prompt's question": (
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
        },
        [
            (SHARED, "system", "s", 0.0),
            (SHARED, USER, "q", 0.0),
            (CHOSEN, ANSWER, "good", 1.0),
            (REJECTED, ANSWER, "bad", 1.0),
        ],
    ),
    "preference whose sides repeat the prompt": (
        {
            "prompt": "q",
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
            "score_chosen": 8.0,
        },
        [
            (SHARED, USER, "q", 0.0),
            (CHOSEN, ANSWER, "good", 1.0),
            (REJECTED, ANSWER, "bad", 1.0),
        ],
    ),
    "preference with an implicit prompt": (
        {
            "chosen": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "same"},
                {"role": "user", "content": "r"},
                {"role": "assistant", "content": "good"},
            ],
            "rejected": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "same"},
                {"role": "user", "content": "r"},
                {"role": "assistant", "content": "bad"},
            ],
        },
        [
            (SHARED, USER, "q", 0.0),
            (SHARED, ANSWER, "same", 0.0),
            (SHARED, USER, "r", 0.0),
            (CHOSEN, ANSWER, "good", 1.0),
            (REJECTED, ANSWER, "bad", 1.0),
        ],
    ),
    "equal answers are answers": (
        {
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        },
        [(SHARED, USER, "q", 0.0), (CHOSEN, ANSWER, "a", 1.0), (REJECTED, ANSWER, "a", 1.0)],
    ),
    "an implicit prompt in text": (
        {"chosen": "Human: q Assistant: good one", "rejected": "Human: q Assistant: golden"},
        [
            (SHARED, USER, "Human: q Assistant: ", 0.0),
            (CHOSEN, ANSWER, "good one", 1.0),
            (REJECTED, ANSWER, "golden", 1.0),
        ],
    ),
    "answers that share no word": (
        {"chosen": "yes", "rejected": "yet"},
        [(CHOSEN, ANSWER, "yes", 1.0), (REJECTED, ANSWER, "yet", 1.0)],
    ),
    "LLaMA-Factory's ranking": (
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        [
            (SHARED, USER, "q", 0.0),
            (CHOSEN, ANSWER, "good", 1.0),
            (REJECTED, ANSWER, "bad", 1.0),
        ],
    ),
    "LLaMA-Factory's ranking in alpaca": (
        {"instruction": "q", "input": "x", "chosen": "good", "rejected": "bad", "system": "s"},
        [
            (SHARED, SYSTEM, "s", 0.0),
            (SHARED, USER, "q\nx", 0.0),
            (CHOSEN, ANSWER, "good", 1.0),
            (REJECTED, ANSWER, "bad", 1.0),
        ],
    ),
    "LLaMA-Factory v1 pairs": (
        {
            "chosen_messages": [
                {"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0.0},
                {"role": "assistant", "content": [{"type": "text", "value": "good"}]},
            ],
            "rejected_messages": [
                {"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0.0},
                {"role": "assistant", "content": [{"type": "text", "value": "bad"}]},
            ],
        },
        [
            (SHARED, USER, "q", 0.0),
            (CHOSEN, ANSWER, "good", 1.0),
            (REJECTED, ANSWER, "bad", 1.0),
        ],
    ),
    "labelled": (
        {"prompt": "q", "completion": "a", "label": False},
        shared((USER, "q", 0.0), (ANSWER, "a", 1.0)),
    ),
    "labelled messages": (
        {"messages": MESSAGES, "label": True},
        shared((USER, "hi", 0.0), (ANSWER, "hello", 1.0)),
    ),
    "kto_tag in sharegpt": (
        {
            "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
            "kto_tag": True,
        },
        shared((USER, "q", 0.0), (ANSWER, "a", 1.0)),
    ),
    "kto_tag in alpaca, label null": (
        {"instruction": "q", "output": "a", "kto_tag": False, "label": None},
        shared((USER, "q", 0.0), (ANSWER, "a", 1.0)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_turns_of_a_row(name):
    row, expected = CASES[name]
    assert parse(row) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": MESSAGES}, "messages"),
        ({"conversations": MESSAGES}, "messages"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"messages": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"instruction": "a", "output": "b"}, "alpaca"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"text": "a"}, "text"),
        ({"text": "a", "label": 1}, "text"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "messages": MESSAGES}, "preference"),
        ({"chosen_messages": MESSAGES, "rejected_messages": MESSAGES}, "preference"),
        ({"prompt": "a", "completion": "b", "label": True}, "labelled"),
        ({"messages": MESSAGES, "kto_tag": False}, "labelled"),
        ({"messages": [], "text": "a"}, "messages"),
    ],
)
def test_detection(row, expected):
    assert detect(row, {}) == expected


def test_of_several_formats_one_goes_before_the_others():
    row = {
        "messages": MESSAGES, "instruction": "a", "output": "b", "prompt": "a", "completion": "b",
        "text": "a", "chosen": "b", "rejected": "c", "label": True,
    }  # fmt: skip
    for name, content in (
        ("preference", "chosen"), ("preference", "rejected"), ("labelled", "label"), ("messages", "messages"),
        ("alpaca", "output"), ("prompt_completion", "prompt"), ("text", "text"),
    ):  # fmt: skip
        assert detect(row, {}) == name
        del row[content]


def test_a_mapped_column_says_which_format_is_meant():
    row = {"messages": MESSAGES, "body": "long text"}
    assert detect(row, {}) == "messages"
    assert detect(row, {"text": "body"}) == "text"
    assert parse(row, {"text": "body"}) == [(SHARED, "text", "long text", 1.0)]


def test_columns_with_dots_and_other_names():
    columns = {
        "messages": "talk.turns", "role": "who", "content": "says", "weight": "w", "system": "a.b",
    }  # fmt: skip
    row = {
        "talk": {"turns": [{"who": "bot", "says": "x", "w": 0.25}, {"who": "user", "says": "y"}]},
        "a.b": "a key with a dot",
    }
    assert parse(row, columns) == shared(
        (SYSTEM, "a key with a dot", 0.0), (ANSWER, "x", 0.25), (USER, "y", 0.0)
    )


def test_mapped_tools_have_no_second_name():
    row = {"functions": [{"name": "f"}], "t": [{"name": "g"}], "messages": MESSAGES}
    assert parse(row, {"tools": "t"})[0] == (SHARED, SYSTEM, '[{"name":"g"}]', 0.0)
    assert parse(row, {"tools": "-"}) == parse({"messages": MESSAGES})


def test_a_mapping_of_other_columns_keeps_messages():
    row = {"messages": MESSAGES, "key": 1}
    assert parse(row, {"id": "key"}) == CASES["messages"][1]


def test_get():
    row = {"a": {"b": {"c": 1}}, "a.b": 2, "n": None}
    assert get(row, "a.b") == 2
    assert get(row, "a.b.c") == 1
    assert get(row, "a.x", "none") == "none"
    assert get(row, "n.x", "none") == "none"
    assert get(row, "n", "none") is None


DEEP: list[object] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"messages": "hi"}, {}, r"messages is 'hi' \(str\); expected a list of messages"),
        ({"messages": []}, {}, "messages is empty; expected at least one message"),
        ({"messages": [3]}, {}, r"messages\[0\] is 3; expected an object with 'role'"),
        ({"messages": [{"content": "a"}]}, {}, r"messages\[0\] has the keys .*columns.role="),
        ({"messages": [{"role": 3, "content": "a"}]}, {}, r"messages\[0\] has role 3"),
        ({"messages": [{"role": [], "content": "a"}]}, {}, r"messages\[0\] has role \[\]"),
        ({"messages": [*MESSAGES, {"role": "user"}]}, {}, r"messages\[2\].*expected 'content'"),
        (
            {"messages": [{"role": "user", "content": 5}]},
            {},
            r"messages\[0\].content is 5 \(int\); expected text",
        ),
        ({"messages": [{"role": "user", "content": [5]}]}, {}, r"has the part 5; expected text"),
        ({"messages": [{"role": "user", "content": DEEP}]}, {}, r"has the part \[\[\["),
        ({"messages": [{"role": "user", "content": "a", "weight": "x"}]}, {}, "weight is 'x'"),
        ({"messages": [{"role": "user", "content": "a", "weight": -1}]}, {}, "weight is -1"),
        (
            {"messages": [{"role": "user", "content": "a", "weight": float("nan")}]},
            {},
            "weight is nan; expected a number from 0",
        ),
        ({"messages": [{"role": "user", "content": "a", "weight": 10**400}]}, {}, "weight is 1000"),
        ({"messages": [{"role": "user", "content": ""}]}, {}, "no text at all"),
        ({"messages": MESSAGES, "system": 5}, {}, r"system is 5 \(int\); expected text"),
        ({"instruction": 5, "output": "a"}, {}, "instruction is 5"),
        ({"instruction": "q", "output": ["a"]}, {}, "output is"),
        ({"instruction": "q", "output": "a", "input": 3}, {}, "input is 3"),
        ({"instruction": "q", "output": "a", "history": "x"}, {}, "history is 'x'"),
        ({"instruction": "q", "output": "a", "history": [["x"]]}, {}, r"history\[0\] is \['x'\]"),
        ({"instruction": "q", "output": "a", "history": [["x", 1]]}, {}, r"history\[0\]\[1\] is 1"),
        ({"prompt": 1, "completion": "a"}, {}, "prompt is 1"),
        ({"prompt": "q", "completion": []}, {}, "completion is empty"),
        ({"text": 5}, {}, "text is 5"),
        ({"body": 5}, {"text": "body"}, "body is 5"),
        ({"text": ""}, {}, "no text at all"),
        ({"chosen": "a", "rejected": 5, "prompt": "q"}, {}, "rejected is 5"),
        (
            {"chosen": MESSAGES[:1], "rejected": MESSAGES},
            {},
            "one is the beginning of the other",
        ),
        ({}, {}, r"no known format has the columns \[\]; expected one of messages"),
        ({"a": 1, "b": 2}, {"text": "c"}, r"columns \['a', 'b'\] \(nothing is at text=c\)"),
        ({"input_ids": [1, 2]}, {}, "already tokenized"),
    ],
)  # fmt: skip
def test_what_is_refused(row, columns, message):
    with pytest.raises(RowError, match=message):
        parse(row, columns)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("messages", {"text": "a"}, r"column 'messages' is missing; the row has \['text'\]"),
        ("text", {"text": None}, r"column 'text' is null"),
        ("labelled", {"prompt": "a", "completion": "b", "label": 2}, "label is 2; expected true"),
        ("labelled", {"prompt": "a", "completion": "b"}, "label is None; expected true or false"),
        ("preference", {"chosen": "a"}, "column 'rejected' is missing"),
        ("alpaca", {"instruction": "a"}, "column 'output' is missing"),
    ],
)
def test_a_row_of_another_format_is_refused(name, row, message):
    with pytest.raises(RowError, match=message):
        parse(row, {}, name)


def test_a_long_value_is_shown_short():
    with pytest.raises(RowError) as raised:
        parse({"messages": "x" * 10**6})
    assert len(str(raised.value)) < 300
    with pytest.raises(RowError) as raised:
        parse({f"column {i}" * 50: 1 for i in range(500)})
    assert len(str(raised.value)) < 1000


def test_an_unknown_name_in_a_mapping():
    with pytest.raises(ConfigError, match="unknown name 'mesages'; did you mean 'messages'"):
        check_columns({"mesages": "x"})
    check_columns({"messages": "x", "tools": "y"})


ASK = {"role": "user", "content": "ما العاصمة؟"}
RULE = {"role": "system", "content": "简短"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("好", "坏"))
PAIRED = [(SHARED, USER, "ما العاصمة؟", 0.0), (CHOSEN, ANSWER, "好", 1.0),
          (REJECTED, ANSWER, "坏", 1.0)]  # fmt: skip
RULED = [(SHARED, SYSTEM, "简短", 0.0), *PAIRED]
PAIRS = [
    ({"messages": [RULE, ASK, GOOD], "rejected_response": "坏"}, RULED),
    ({"messages": [RULE, ASK, GOOD], "rejected_response": BAD}, RULED),
    ({"messages": [RULE, ASK, GOOD], "rejected_response": None, "rejected": "坏"}, RULED),
    ({"messages": [RULE, ASK, GOOD], "rejected_messages": [RULE, ASK, BAD]}, RULED),
    ({"messages": [RULE, ASK, GOOD], "rejected_messages": [ASK, BAD]}, RULED),
    ({"messages": json.dumps([RULE, ASK, GOOD]), "rejected_messages": json.dumps([BAD])}, RULED),
    ({"prompt": "ما العاصمة؟", "completion": "好", "rejected": "坏"}, PAIRED),
    ({"prompt": [RULE, ASK], "completion": [GOOD], "rejected": [BAD]}, RULED),
    ({"instruction": "ما العاصمة؟", "output": "好", "rejected_response": "坏"}, PAIRED),
    *(({name: "ما العاصمة؟", "chosen": "好", "rejected": "坏"}, PAIRED)
      for name in ("input", "question", "query", "instruction", "prompt")),
    *(({question: "ما العاصمة؟", chosen: "好", "rejected_response": "坏"}, PAIRED)
      for question in ("prompt", "query", "instruction") for chosen in ("response", "chosen_response")),
    ({"messages": [RULE, ASK], "chosen_response": "好", "rejected_response": "坏"}, RULED),
    ({"messages": [RULE, ASK, GOOD], "response": "好", "rejected_response": "坏"}, RULED),
    ({"system": "简短", "question": "ما العاصمة؟", "chosen": "好", "rejected": "坏"}, RULED),
    ({"prompt": [RULE, ASK], "chosen": [ASK, GOOD], "rejected": [ASK, BAD]}, RULED),
    ({"prompt": [ASK], "chosen": [RULE, ASK, GOOD], "rejected": [RULE, ASK, BAD]}, RULED),
    ({"prompt": "ما العاصمة؟", "chosen": [RULE, ASK, GOOD], "rejected": [RULE, ASK, BAD]}, RULED),
    ({"system": "简短", "chosen": [RULE, ASK, GOOD], "rejected": [RULE, ASK, BAD]}, RULED),
    ({"system": "简短", "prompt": [RULE, ASK], "chosen": [GOOD], "rejected": [BAD]}, RULED),
    ({"input": {"messages": [RULE, ASK], "tools": [], "parallel_tool_calls": True},
      "preferred_output": [GOOD], "non_preferred_output": [BAD]}, RULED),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), PAIRS)
def test_pairs_however_their_columns_are_called(row, expected):
    assert detect(row, {}) == "preference"
    assert parse(row) == expected


@pytest.mark.parametrize(("row", "expected"), PAIRS)
def test_a_script_reads_the_same_pairs(row, expected):
    read = row_reader(
        OrderedDataSet(kind="pair", formats=["preference"], data_files=["x.jsonl"], epochs=1,
                       validation_file=None, columns={}, batch_size=2)
    )[0]  # fmt: skip
    shared, *answers = flat.pair(read(dict(row)), "it")
    turns = [(0, turn) for turn in shared] + list(zip((CHOSEN, REJECTED), answers, strict=True))
    assert [(branch, turn["role"], turn["content"]) for branch, turn in turns] == [
        turn[:3] for turn in expected
    ]


def test_dialogues_that_part_early_share_what_they_begin_with():
    again = {"role": "user", "content": "再说"}
    row = {"messages": [ASK, GOOD, again, GOOD], "rejected_messages": [ASK, BAD, again, BAD]}
    assert [turn[:3] for turn in parse(row)] == [
        (SHARED, USER, "ما العاصمة؟"),
        *((CHOSEN, role, text) for role, text in ((ANSWER, "好"), (USER, "再说"), (ANSWER, "好"))),
        *(
            (REJECTED, role, text)
            for role, text in ((ANSWER, "坏"), (USER, "再说"), (ANSWER, "坏"))
        ),
    ]


FOUR = {"prompt": "ما العاصمة؟", "chosen": "好", "rejected": "坏", "response": "x",
        "rejected_response": "y"}  # fmt: skip


@pytest.mark.parametrize(("row", "columns"), [
    (FOUR, {}),
    ({**FOUR, "chosen": "v", "best": "好", "worst": "坏"}, {"chosen": "best", "rejected": "worst"}),
    ({**FOUR, "chosen_response": "z"}, {}),
])  # fmt: skip
def test_what_is_called_chosen_goes_before_other_names(row, columns):
    assert detect(row, columns) == "preference"
    assert parse(row, columns) == PAIRED
    data = OrderedDataSet(kind="pair", formats=["preference"], data_files=["x.jsonl"], epochs=1,
                          validation_file=None, columns=columns, batch_size=2)  # fmt: skip
    assert row_reader(data)[0](dict(row)) == {name: FOUR[name] for name in list(FOUR)[:3]}


def test_the_remedy_for_several_rejected_answers_works():
    row = {"instruction": "ما العاصمة؟", "response": "好", "rejected_response": ["坏", "差"]}
    with pytest.raises(RowError, match=r"list of 2 texts.*columns\.rejected=-"):
        parse(row)
    columns = {"rejected": "-", "output": "response"}
    assert parse(row, columns) == parse({"instruction": "ما العاصمة؟", "output": "好"})


def test_what_is_no_half_of_a_pair():
    for value in (True, "no", "Rejected", 3, None, "", []):
        assert detect({"messages": [ASK, GOOD], "rejected": value}, {}) == "messages"
    row = {"messages": [ASK, GOOD], "rejected_response": "坏"}
    assert detect(row, {"rejected": "-"}) == "messages"
    assert parse(row | {"rejected_response": ""}, name="preference")[-1] == (
        REJECTED, ANSWER, "", 1.0)  # fmt: skip
    with pytest.raises(RowError, match=r"list of 2 texts.*columns\.rejected=-"):
        parse({"messages": [ASK, GOOD], "rejected": ["坏", "差"]})
    with pytest.raises(RowError, match=r"end without one.*columns\.rejected=-"):
        parse({"messages": [ASK], "rejected": "坏"})


def test_half_a_pair_among_chats_is_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [{"messages": [ASK, GOOD]}, {"messages": [ASK, GOOD], "rejected_response": "坏"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"row 2: .*'rejected_response'.*columns\.rejected=-"):
        didact.read(path)
    assert didact.read(path, columns={"rejected": "-"}).kind == "chat"
    path.write_text(json.dumps({"prompt": "q", "response": "a", "rejected_response": "b"}))
    with pytest.raises(DataError, match=r"row 1: .*is read without it.*columns\.rejected=-"):
        didact.read(path, columns={"completion": "response"})


BEFORE = [["س", "ج"], ["问", "答"]]
TOLD = [(USER, "س"), (ANSWER, "ج"), (USER, "问"), (ANSWER, "答"), (USER, "hi"), (ANSWER, "hello")]
HISTORIES = [
    {"messages": MESSAGES},
    {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    {"prompt": "hi", "completion": "hello"},
    {"prompt": MESSAGES[:1], "completion": MESSAGES[1:], "label": True},
    {"instruction": "hi", "output": "hello"},
]


@pytest.mark.parametrize("row", HISTORIES)
def test_exchanges_that_went_before_are_read_in_every_chat_and_by_its_script(row):
    spoken = [{"role": role, "content": text} for role, text in TOLD[:4]]
    for history in (BEFORE, json.dumps(BEFORE), spoken):
        whole = row | {"history": history}
        assert [turn[1:3] for turn in parse(whole)] == TOLD
        form = detect(whole, {})
        read = row_reader(
            OrderedDataSet(kind="chat", formats=[form], data_files=["x.jsonl"], epochs=1,
                           validation_file=None, columns={}, batch_size=2)
        )[0](whole)  # fmt: skip
        assert [(turn["role"], turn["content"]) for turn in flat.turns(read)] == TOLD
    for nothing in (None, [], "", "[]"):
        assert [turn[1:3] for turn in parse(row | {"history": nothing})] == TOLD[4:]
    with pytest.raises(RowError, match=r"history is 'yes'.*columns\.history=-"):
        parse(row | {"history": "yes"})
    assert len(parse(row | {"history": "yes"}, {"history": "-"})) == 2


def test_exchanges_before_a_pair_and_a_prompt_are_only_shown():
    for row in ({"prompt": "hi", "completion": "hello"},
                {"prompt": "hi", "chosen": "hello", "rejected": "no"}):  # fmt: skip
        turns = parse(row | {"history": BEFORE})
        assert [turn[2] for turn in turns][:5] == ["س", "ج", "问", "答", "hi"]
        assert {turn[3] for turn in turns[:5]} == {0.0}


def test_functions_are_read_where_they_are_tools():
    tools = [{"name": "f"}, {"type": "function", "function": {"name": "天气"}}]
    for functions in (tools, tools[0], json.dumps(tools), [json.dumps(tools[1])]):
        assert parse({"messages": MESSAGES, "functions": functions})[0][1] == SYSTEM
    for functions in (["add", "sub"], "def f(): return 1", {"main": "code"}, [{"code": "x"}], 3,
                      [tools[0], "add"]):  # fmt: skip
        row = {"messages": MESSAGES, "functions": functions}
        assert parse(row) == parse({"messages": MESSAGES})
        assert len(parse(row, {"tools": "functions"})) == 3


@pytest.mark.parametrize(("more", "weight"), [
    ({"loss": False}, 0.0), ({"loss": True}, 1.0), ({"loss": 2.3}, 1.0), ({"loss": None}, 1.0),
    ({"loss_scale": 0.3}, 0.3), ({"loss_scale": 2, "loss": False}, 2.0),
])  # fmt: skip
def test_weights_as_ms_swift_calls_them(more, weight):
    turns = parse({"messages": [ASK, GOOD | more]})
    assert turns[-1][3] == weight
    with pytest.raises(RowError, match=r"loss_scale is \[1, 2\].*expected a number"):
        parse({"messages": [ASK, GOOD | {"loss_scale": [1, 2]}]})


@pytest.mark.parametrize(("loss", "columns", "weight"), [
    (0.0, {}, 1.0), ({"ce": 2.0}, {}, 1.0), (False, {}, 0.0), (0.5, {"weight": "loss"}, 0.5),
])  # fmt: skip
def test_a_loss_is_a_weight_where_it_is_a_switch_or_named(loss, columns, weight):
    row = {"messages": [ASK, GOOD | {"loss": loss}]}
    assert parse(row, columns)[-1][3] == weight
    data = OrderedDataSet(kind="chat", formats=["messages"], data_files=["x.jsonl"], epochs=1,
                          validation_file=None, columns=columns, batch_size=2)  # fmt: skip
    read, found = row_reader(data)
    read(row)
    told = {0.0: "untrained answers", 0.5: "weighted answers"}
    assert found == ({told[weight]: 1} if weight in told else {})


def test_messages_as_python_prints_them_are_refused():
    asked, said = str([ASK]), str([GOOD])
    for row in (
        {"prompt": asked, "completion": said},
        {"prompt": "q", "completion": str(GOOD)},
        {"prompt": "q", "chosen": said, "rejected": str([BAD])},
        {"chosen": f"array([{ASK},\n {GOOD}], dtype=object)", "rejected": "x"},
    ):
        with pytest.raises(RowError, match=r"Python's way to write messages.*json\.dumps"):
            parse(row)
    for text in (f"print({asked})", "{'role': 'user'}", "a {'role': 'x', 'content': 'y'}",
                 "[{'role': 'user', 'content': 'hi'}] is a list"):  # fmt: skip
        assert parse({"prompt": text, "completion": "a"})[0][2] == text
