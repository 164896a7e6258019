"""Rows in the shape of trainers that read files by themselves."""

from __future__ import annotations

import json

import pytest
import yaml

from didact.core import registry
from didact.core.errors import DataError
from didact.data.export import flat
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import row_reader

CALL = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def turn(role, content="", **more):
    return {"role": role, "content": content, **more}


def chat(*turns):
    return [turn(*t) for t in turns]


def data_of(kind, formats, rows, **more):
    return OrderedDataSet(
        data_files=["train.jsonl"], validation_file=None, kind=kind, formats=formats, columns={},
        batch_size=4, epochs=1, rows=lambda: iter(rows), **more,
    )  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), [
    (chat(("user", "q"), ("assistant", "a")), chat(("user", "q"), ("assistant", "a"))),
    (chat(("system", "s"), ("system", "t"), ("user", "q"), ("assistant", "a")),
     chat(("system", "s\n\nt"), ("user", "q"), ("assistant", "a"))),
    (chat(("user", "q"), ("user", "r"), ("assistant", "a"), ("assistant", "b")),
     chat(("user", "q\n\nr"), ("assistant", "a\n\nb"))),
    (chat(("assistant", "a")), chat(("user", ""), ("assistant", "a"))),
    (chat(("system", "s"), ("assistant", "a"), ("user", "q")),
     chat(("system", "s"), ("user", ""), ("assistant", "a"), ("user", "q"), ("assistant", ""))),
    (chat(("bing", "q"), ("system", "late"), ("assistant", "a")),
     chat(("user", "q\n\nlate"), ("assistant", "a"))),
    (chat(("developer", "s"), ("user", "q"), ("assistant", "a")),
     chat(("system", "s"), ("user", "q"), ("assistant", "a"))),
    (chat(("tool", "1"), ("tool", "2"), ("assistant", "a")),
     chat(("tool", "1\n</tool_response>\n<tool_response>\n2"), ("assistant", "a"))),
    (chat(("system", "s")), chat(("system", "s"), ("user", ""), ("assistant", ""))),
])  # fmt: skip
def test_messages_alternate(given, expected):
    before = json.dumps(given)
    assert flat.alternating(given) == expected
    assert flat.alternating(expected) == expected
    assert json.dumps(given) == before


def test_joined_answers_keep_their_reasoning_and_calls():
    first = turn("assistant", "", tool_calls=[CALL])
    second = turn("assistant", "a", reasoning_content="r", tool_calls=[CALL])
    _, both = flat.alternating([turn("user", "q"), first, second])
    assert both == turn("assistant", "a", reasoning_content="r", tool_calls=[CALL, CALL])
    _, both = flat.alternating([turn("user", "q"), turn("assistant", "x"), second])
    assert both["content"] == "x\n\n<think>\nr\n</think>\n\na"


def test_a_prompt_ends_with_a_question():
    assert flat.alternating([], answered=False) == [turn("user")]
    asked = chat(("user", "q"), ("assistant", "a"))
    assert flat.alternating(asked, answered=False) == [*asked, turn("user")]


@pytest.mark.parametrize(("row", "expected"), [
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, (["q"], "a", "b")),
    ({"chosen": "one two", "rejected": "one three"}, (["one "], "two", "three")),
    ({"chosen": "two", "rejected": "three"}, ([""], "two", "three")),
    ({"chosen": chat(("user", "q"), ("assistant", "a")),
      "rejected": chat(("user", "q"), ("assistant", "b"))}, (["q"], "a", "b")),
    ({"chosen": chat(("user", "q"), ("assistant", "a")),
      "rejected": chat(("user", "q"), ("assistant", "a"))}, (["q"], "a", "a")),
])  # fmt: skip
def test_pairs_part_where_their_sides_do(row, expected):
    read, _ = row_reader(data_of("pair", ["preference"], [row]))
    shared, chosen, rejected = flat.pair(read(row), "it")
    assert ([t["content"] for t in shared], chosen["content"], rejected["content"]) == expected


def test_a_side_of_several_turns_is_refused():
    long = chat(("assistant", "a"), ("user", "q"), ("assistant", "b"))
    with pytest.raises(DataError, match="chosen has 3 turns of its own; it takes one .*: use trl"):
        flat.pair({"prompt": "q", "chosen": long, "rejected": "c"}, "it")


def written(folder, trainer, kind, formats, rows, **more):
    data = data_of(kind, formats, rows, **more)
    files = registry.find("trainers", trainer)(folder, data)
    told = [json.loads(line) for line in (folder / f"{trainer}.jsonl").read_text().splitlines()]
    return told, yaml.safe_load(files[0].read_text()), files[0].read_text()


AGENT = {
    "messages": [
        turn("user", "q"),
        turn("assistant", "x", tool_calls=[CALL], thinking="r"),
        turn("tool", "t"),
        turn("assistant", "a"),
    ],
    "tools": [{"name": "f"}],
}
TOOLS = [{"type": "function", "function": {
    "description": "", "name": "f", "parameters": {"type": "object", "properties": {}}}}]  # fmt: skip


def test_agents_for_llama_factory(tmp_path):
    (row,), settings, text = written(tmp_path, "llama-factory", "chat", ["messages"], [AGENT])
    called = (
        '<think>\nr\n</think>\n\nx<tool_call>[{"name": "f", "arguments": {"a": 1}}]</tool_call>'
    )
    assert row["messages"] == chat(
        ("user", "q"), ("function", called), ("observation", "t"), ("assistant", "a")
    )
    assert json.loads(row["tools"]) == TOOLS
    info = json.loads((tmp_path / "dataset_info.json").read_text())["didact"]
    assert info["file_name"] == "llama-factory.jsonl"
    assert info["columns"] == {"messages": "messages", "tools": "tools"}
    assert settings["disable_shuffling"] is True
    assert settings["per_device_train_batch_size"] == 4
    assert "# note: 1 row holds reasoning" in text


def test_agents_for_ms_swift(tmp_path):
    (row,), settings, text = written(tmp_path, "ms-swift", "chat", ["messages"], [AGENT])
    assert row["messages"] == chat(
        ("user", "q"), ("assistant", "<think>\nr\n</think>\n\nx"),
        ("tool_call", '{"name": "f", "arguments": {"a": 1}}'), ("tool", "t"), ("assistant", "a"),
    )  # fmt: skip
    assert json.loads(row["tools"]) == TOOLS
    assert settings["strict"] is True  # what it cannot read stops it, and is not dropped
    assert "# agent_template: " in text


def test_agents_for_axolotl(tmp_path):
    (row,), settings, text = written(tmp_path, "axolotl", "chat", ["messages"], [AGENT])
    assert "reasoning, which stands in the text" not in text
    _, called, *_ = json.loads(row["messages"])
    function = {"name": "f", "arguments": {"a": 1}}
    assert called == turn("assistant", "x", reasoning_content="r",
                          tool_calls=[{"type": "function", "function": function}])  # fmt: skip
    assert json.loads(row["tools"]) == TOOLS
    keys = ["role", "content", "tool_calls", "reasoning_content"]
    assert settings["datasets"][0]["message_property_mappings"] == {k: k for k in keys}
    assert settings["curriculum_sampling"] is True
    assert settings["shuffle_merged_datasets"] is False


def test_pairs_for_ms_swift_and_what_it_drops(tmp_path):
    rows = [{"prompt": "q", "chosen": "a", "rejected": r} for r in ("b", "a")]
    told, settings, text = written(tmp_path, "ms-swift", "pair", ["preference"], rows)
    assert told[0] == {
        "messages": chat(("user", "q"), ("assistant", "a")),
        "rejected_response": "b",
    }
    assert settings["rlhf_type"] == "dpo"
    assert "# note: 1 pair has two equal answers: ms-swift drops such" in text


def test_ms_swift_goes_through_the_rows_twice(tmp_path):
    read = []
    rows = [{"prompt": "q", "chosen": "a", "rejected": r} for r in ("b", "a", "a")]
    data = OrderedDataSet(
        data_files=["train.jsonl"], validation_file=None, kind="pair", formats=["preference"],
        columns={}, batch_size=4, epochs=1, rows=lambda: (read.append(1) or r for r in rows),
    )  # fmt: skip
    files = registry.find("trainers", "ms-swift")(tmp_path, data)
    assert "# note: 2 pairs have two equal answers" in files[0].read_text()
    assert len(read) == 2 * len(rows)  # for what is in them, and to write them


def test_weights_are_said_not_to_be_taken(tmp_path):
    rows = [{"messages": [turn("user", "q"), turn("assistant", "a", weight=0.5)]}]
    (row,), _, text = written(tmp_path, "axolotl", "chat", ["messages"], rows)
    assert json.loads(row["messages"])[-1] == turn("assistant", "a")
    assert "# note: 1 row weighs answers more or less than 1; axolotl weighs them all" in text


@pytest.mark.parametrize("trainer", ["llama-factory", "axolotl"])
def test_labels(tmp_path, trainer):
    rows = [{"prompt": "q", "completion": "a", "label": label} for label in (1, "false")]
    told, *_ = written(tmp_path, trainer, "labelled", ["labelled"], rows)
    assert [row["label"] for row in told] == [True, False]


def test_images_go_along_or_are_said_to_be_left_out(tmp_path):
    rows = [{"messages": [turn("user", "<image>what?"), turn("assistant", "a")], "images": "a.png"},
            {"messages": chat(("user", "q"), ("assistant", "b"))}]  # fmt: skip
    told, _, text = written(tmp_path, "llama-factory", "chat", ["messages"], rows)
    assert [row["images"] for row in told] == [["a.png"], []]
    assert "1 row holds images: they are in the column 'images'" in text
    told, _, text = written(tmp_path, "axolotl", "chat", ["messages"], rows)
    assert set(told[0]) == {"messages"}
    assert "# note: 1 row holds images, which are left out" in text


def test_every_image_has_a_mark_for_llama_factory(tmp_path):
    rows = [{"messages": [turn("user", "q"), turn("assistant", "a")], "images": ["a.png", "b.png"]},
            {"messages": [turn("user", [{"type": "image", "image": "c.png"}, "q"]),
                          turn("assistant", "a")]},
            {"messages": [turn("user", "q", images=["d.png"]), turn("assistant", "a")]},
            {"messages": [turn("user", [{"type": "input_audio", "input_audio": {"data": "x"}}]),
                          turn("assistant", "a")]}]  # fmt: skip
    told, _, text = written(tmp_path, "llama-factory", "chat", ["messages"], rows)
    assert [row["images"] for row in told] == [["a.png", "b.png"], ["c.png"], ["d.png"], []]
    assert [row["messages"][0]["content"] for row in told] == [
        "<image><image>q", "<image>\nq", "<image>q", "<audio>",
    ]  # fmt: skip
    assert "# note: 1 row holds audio or video, which are left out" in text


def test_a_row_that_cannot_be_shaped_is_named_before_any_is_written(tmp_path):
    long = chat(("assistant", "a"), ("user", "q"), ("assistant", "b"))
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b"},
            {"prompt": "q", "chosen": long, "rejected": "b"}]  # fmt: skip
    with pytest.raises(DataError, match="row 2 of the order: chosen has 3 turns"):
        written(tmp_path, "llama-factory", "pair", ["preference"], rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "format_", "row"), [
    ("chat", "prompt_completion", {"prompt": "q", "completion": "<think>T</think>a"}),
    ("pair", "preference", {"chosen": "q <think>T</think>a", "rejected": "q <think>T</think>b"}),
    ("labelled", "labelled", {"prompt": "q", "completion": "<think>T</think>a", "label": True}),
])  # fmt: skip
def test_texts_lose_their_reasoning_where_it_is_dropped(tmp_path, kind, format_, row):
    (told,), *_ = written(tmp_path, "llama-factory", kind, [format_], [row], reasoning="drop")
    assert "think" not in json.dumps(told)
    (kept,), *_ = written(tmp_path, "llama-factory", kind, [format_], [row])
    assert "think" in json.dumps(kept)


UNTRAINED = [
    {"prompt": chat(("user", "q"), ("assistant", "old"), ("user", "r")),
     "completion": chat(("assistant", "a"))},
    {"prompt": "q", "completion": "a"},
]  # fmt: skip


def test_answers_of_a_prompt_are_not_trained_or_said_to_be(tmp_path):
    told, _, text = written(tmp_path, "ms-swift", "chat", ["prompt_completion"], UNTRAINED)
    assert [t.get("loss") for t in told[0]["messages"]] == [None, False, None, None]
    assert "# note" not in text
    told, settings, text = written(tmp_path, "axolotl", "chat", ["prompt_completion"], UNTRAINED)
    turns = json.loads(told[0]["messages"])
    assert [t.get("training") for t in turns] == [None, False, None, None]
    assert settings["datasets"][0]["message_field_training"] == "training"
    assert "# note" not in text
    *_, text = written(tmp_path, "llama-factory", "chat", ["prompt_completion"], UNTRAINED)
    assert "# note: 1 row marks answers as not to be trained; LLaMA-Factory trains them" in text


def test_what_is_not_learned_is_not_joined_with_what_is(tmp_path):
    row = {"messages": [turn("user", "q"), turn("assistant", "x", weight=0),
                        turn("assistant", "a"), turn("user", "bye")]}  # fmt: skip
    (told,), *_ = written(tmp_path, "ms-swift", "chat", ["messages"], [row])
    assert [(t["content"], t.get("loss")) for t in told["messages"]] == [
        ("q", None), ("x", False), ("a", None), ("bye", None), ("", False),
    ]  # fmt: skip
    *_, text = written(tmp_path, "llama-factory", "chat", ["messages"], [row])
    assert "# note: 1 row ends without an answer; LLaMA-Factory trains an empty one" in text


@pytest.mark.parametrize("trainer", ["llama-factory", "axolotl"])
def test_labelled_chats_end_with_their_last_answer(tmp_path, trainer):
    rows = [{"messages": chat(("user", "q"), ("assistant", "a"), ("user", "bye")), "label": False},
            {"prompt": chat(("user", "q")), "completion": chat(("assistant", "a"), ("user", "bye")),
             "label": True}]  # fmt: skip
    told, _, text = written(tmp_path, trainer, "labelled", ["labelled"], rows)
    said = [row["messages" if trainer == "llama-factory" else "completion"] for row in told]
    assert said == [chat(("user", "q"), ("assistant", "a"))] * 2
    assert "# note: 2 rows say more behind the last answer, which is left out" in text


def test_tools_of_labelled_answers_stand_in_axolotls_system_prompt(tmp_path):
    row = {"prompt": "q", "completion": "a", "label": True, "tools": [{"name": "f"}]}
    (told,), _, text = written(tmp_path, "axolotl", "labelled", ["labelled"], [row])
    assert told["completion"][0] == turn("system", '[{"name": "f"}]')
    assert "# note: 1 row holds tools, which stand in the system prompt" in text


@pytest.mark.parametrize("trainer", ["llama-factory", "ms-swift", "axolotl"])
def test_what_stands_beside_texts_is_said_to_be_left_out(tmp_path, trainer):
    row = {"text": "words", "images": ["a.png"], "tools": [{"name": "f"}]}
    told, _, text = written(tmp_path, trainer, "text", ["text"], [row])
    assert "images" not in told[0]
    for name in ("images", "tools"):
        assert f"# note: 1 row holds {name} beside the text; left out" in text


@pytest.mark.parametrize(("tool", "name", "parameters"), [
    ("f", "f", {}),
    ({"function": "f"}, "f", {}),
    ({"function": None, "name": "f"}, "f", {}),
    ({"function": '{"name": "f"}'}, "f", {}),
    ({"name": "f", "parameters": '{"required": ["x"]}'}, "f", {"required": ["x"]}),
    ({"name": "f", "parameters": "none"}, "f", {}),
])  # fmt: skip
def test_tools_of_other_shapes(tool, name, parameters):
    (described,) = json.loads(flat.tools_text({"tools": json.dumps([tool])}))
    assert described["function"]["name"] == name
    about = {"type": "object", "properties": {}, **parameters}
    assert described["function"]["parameters"] == about


@pytest.mark.parametrize(("call", "expected"), [
    ("f(1)", {"name": "f(1)", "arguments": {}}),
    ({"function": "f", "arguments": '{"a": 1}'}, {"name": "f", "arguments": {"a": 1}}),
    ({"function": None, "name": "f"}, {"name": "f", "arguments": {}}),
    ({"function": {"name": None, "arguments": "x"}},
     {"name": "", "arguments": {"arguments": "x"}}),
    ({"function": {"name": "f", "arguments": None}}, {"name": "f", "arguments": {}}),
    ({"name": "f", "arguments": "[1]"}, {"name": "f", "arguments": {"arguments": [1]}}),
])  # fmt: skip
def test_calls_of_other_shapes(call, expected):
    assert flat.calls(turn("assistant", tool_calls=[call])) == [expected]


@pytest.mark.parametrize(("trainer", "key"), [("ms-swift", "loss"), ("axolotl", "training")])
def test_something_is_trained_of_every_row_or_the_trainer_drops_it(tmp_path, trainer, key):
    rows = [{"messages": [turn("user", "q"), turn("assistant", "a", weight=0)]},
            {"messages": chat(("user", "q"))}]  # fmt: skip
    told, _, text = written(tmp_path, trainer, "chat", ["messages"], rows)
    found = [row["messages"] for row in told]
    found = [json.loads(m) if isinstance(m, str) else m for m in found]
    assert [m[-1] for m in found] == [turn("assistant", "a"), turn("assistant", "")]
    assert not any(key in m for messages in found for m in messages)
    assert "# note: 1 row marks all answers as not to be trained" in text
    assert "# note: 1 row has no answer; an empty one stands in its place" in text
