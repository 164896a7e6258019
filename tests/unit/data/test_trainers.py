"""The generated scripts: valid Python for every case, and rows read as the trainers want them."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
import types
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

import didact
from didact.core import registry
from didact.core.errors import DataError
from didact.core.scores import TrainingOrder
from didact.data.export import flat
from didact.data.export.data_set import ExportSettings, check_trainer, export_notes
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import row_reader
from didact.data.rows.columns import RowError
from didact.data.rows.detection import detect, turns_of
from didact.data.rows.detection import formats as registered
from didact.testing import make_pool

CASES = [(f.kind, [name]) for name, f in registered().items()] + [
    ("chat", ["alpaca", "prompt_completion"]),
    ("chat", ["messages", "alpaca"]),
]
FILES = list(itertools.product(["jsonl", "jsonl.zst", "parquet"], [False, True], [None, 8]))


def write(folder, trainer="trl", kind="chat", formats=("messages",), **more):
    settings = {
        "data_files": ["train.jsonl"], "validation_file": None, "columns": {}, "batch_size": None,
        "epochs": 1, **more,
    }  # fmt: skip
    data = OrderedDataSet(kind=kind, formats=formats, **settings)
    return registry.find("trainers", trainer)(folder / "settings", data)


SCRIPTS = {"hf": {"chat", "text"}, "trl": {"chat", "text", "pair", "labelled"},
           "trl-grpo": {"chat"}, "trl-reward": {"pair"}}  # fmt: skip
READ_FILES = {"llama-factory": {"chat", "text", "pair", "labelled"}, "ms-swift": {"chat", "text", "pair"},
              "axolotl": {"chat", "text", "labelled"}}  # fmt: skip
SETTINGS = {"hf": {"pair", "labelled"}, "torchtitan": {"text"}, "nemo-automodel": {"chat", "text"},
            "verl": {"chat"}}  # fmt: skip


@pytest.mark.parametrize(("kind", "formats"), CASES)
@pytest.mark.parametrize("trainer", registry.known("trainers"))
def test_every_trainer_writes_settings_and_perhaps_a_script_or_refuses(
    tmp_path, trainer, kind, formats
):
    written = [kinds.get(trainer, ()) for kinds in (SCRIPTS, READ_FILES, SETTINGS)]
    if not any(kind in kinds for kinds in written):
        with pytest.raises(DataError, match=f"export.for: {trainer} .*: use .*"):
            write(tmp_path, trainer, kind, formats)
        assert not (tmp_path / "settings").exists()
        return
    settings, *others = write(tmp_path, trainer, kind, formats, epochs=3)
    assert settings.name == f"{trainer}.yaml"
    assert yaml.safe_load(settings.read_text())
    assert "3 epochs are written out" in settings.read_text()
    kinds = [{".py": 0, ".jsonl": 1}[f.suffix] for f in others if f.name != "dataset_info.json"]
    assert kinds == [i for i, those in enumerate(written[:2]) if kind in those]
    if trainer in {"torchtitan", "nemo-automodel", "verl"}:
        assert "# note: not run: " in settings.read_text()


@pytest.mark.parametrize(("trainer", "kind", "formats"),
    [(t, k, f) for t, kinds in SCRIPTS.items() for k, f in CASES if k in kinds])  # fmt: skip
def test_every_script_is_python_in_lines_of_100(tmp_path, trainer, kind, formats):
    columns = {"text": 'it\'s "odd" {x}'}
    script = write(tmp_path, trainer, kind, formats, columns=columns, batch_size=8,
                   data_files=["a.jsonl", "b.jsonl"], validation_file="validation.jsonl")[1]  # fmt: skip
    text = script.read_text()
    compile(text, script.name, "exec")
    assert 'DATA = ["a.jsonl", "b.jsonl"]' in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("kind", ["chat", "text", "pair", "labelled"])
@pytest.mark.parametrize("trainer", ["hf", "trl"])
def test_settings_and_scripts_of_hugging_face(tmp_path, trainer, kind):
    name = next(name for name, f in registered().items() if f.kind == kind)
    for i, (ending, validation, batch_size) in enumerate(FILES[::5]):
        files = write(
            tmp_path / str(i), trainer, kind, [name], batch_size=batch_size,
            data_files=[f"a.{ending}"], validation_file=f"v.{ending}" if validation else None,
        )  # fmt: skip
        expected = {
            "train_sampling_strategy": "sequential", "num_train_epochs": 1,
            "ignore_data_skip": False,
        }  # fmt: skip
        if batch_size is not None:
            expected["per_device_train_batch_size"] = batch_size
        if trainer == "trl" and kind in {"chat", "text"}:
            expected |= {"packing": False, "shuffle_dataset": False}
        assert yaml.safe_load(files[0].read_text()) == expected
        if trainer == "hf" and kind in {"pair", "labelled"}:
            assert len(files) == 1
            continue
        assert files[1].name == f"train_{trainer}.py"
        tree = ast.parse(files[1].read_text())
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        assert ("eval_dataset" in names) == validation
        assert ("per_device" in names) == (batch_size is not None)


def reader(path: Path) -> types.ModuleType:
    """The functions of a script, without what it imports and without its training."""
    tree = ast.parse(path.read_text())
    kept = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        or (isinstance(node, ast.AnnAssign) and ast.unparse(node.target).isupper())
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper())
    ]  # fmt: skip
    module = types.ModuleType("script")
    vars(module).update(
        json=json, Path=Path, __file__=str(path), Any=Any, Counter=Counter, cache=cache
    )
    exec(compile(ast.Module(kept, []), str(path), "exec"), vars(module))  # noqa: S102 - our own
    return module


def chat(*turns):
    return [{"role": r, "content": c} for r, c in turns]


READS = [
    ("chat", ["messages"], {}, {"messages": chat(("user", "q"), ("assistant", "a"))},
     {"messages": chat(("user", "q"), ("assistant", "a"))}),
    ("chat", ["messages"], {},
     {"system": "s", "conversations": [
         {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "value": "y"}]},
         {"role": "assistant", "content": None, "tool_calls": [{"n": 1}], "name": None}]},
     {"messages": [*chat(("system", "s"), ("user", "x\ny")),
                   {"role": "assistant", "content": "", "tool_calls": [{"n": 1}]}]}),
    ("chat", ["messages"], {"messages": "m.turns", "role": "who", "content": "says"},
     {"m": {"turns": [{"who": "gpt", "says": "a"}]}}, {"messages": chat(("assistant", "a"))}),
    ("chat", ["sharegpt"], {},
     {"conversations": [{"from": "human", "value": "q"}, {"from": "observation", "value": "o"},
                        {"from": "gpt", "value": "a"}]},
     {"messages": chat(("user", "q"), ("tool", "o"), ("assistant", "a"))}),
    ("chat", ["alpaca"], {"output": "response"},
     {"instruction": "q", "input": "x", "response": "a", "history": [["h", "i"]], "system": "s"},
     {"prompt": chat(("system", "s"), ("user", "h"), ("assistant", "i"), ("user", "q\nx")),
      "completion": chat(("assistant", "a"))}),
    ("chat", ["messages", "alpaca"], {}, {"instruction": "q", "input": "", "output": "a"},
     {"messages": chat(("user", "q"), ("assistant", "a"))}),
    ("chat", ["messages", "prompt_completion"], {}, {"prompt": "q", "completion": "a"},
     {"messages": chat(("user", "q"), ("assistant", "a"))}),
    ("chat", ["prompt_completion"], {}, {"prompt": "q", "completion": "a"},
     {"prompt": "q", "completion": "a"}),
    ("chat", ["alpaca", "prompt_completion"], {}, {"prompt": "q", "completion": "a"},
     {"prompt": chat(("user", "q")), "completion": chat(("assistant", "a"))}),
    ("chat", ["prompt_completion"], {},
     {"prompt": chat(("user", "q")), "completion": chat(("assistant", "a"))},
     {"prompt": chat(("user", "q")), "completion": chat(("assistant", "a"))}),
    ("text", ["text"], {"text": "body"}, {"body": "words", "text": "other"}, {"text": "words"}),
    ("pair", ["preference"], {}, {"prompt": "q", "chosen": "a", "rejected": "b"},
     {"prompt": "q", "chosen": "a", "rejected": "b"}),
    ("pair", ["preference"], {}, {"chosen": "q a", "rejected": "q b"},
     {"prompt": "q ", "chosen": "a", "rejected": "b"}),
    ("pair", ["preference"], {}, {"instruction": "q", "chosen": "a", "rejected": "b"},
     {"prompt": "q", "chosen": "a", "rejected": "b"}),
    ("pair", ["preference"], {},
     {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"},
      "rejected": {"from": "gpt", "value": "b"}},
     {"prompt": chat(("user", "q")), "chosen": chat(("assistant", "a")),
      "rejected": chat(("assistant", "b"))}),
    ("pair", ["preference"], {},
     {"prompt": "q", "chosen": chat(("user", "q"), ("assistant", "a")),
      "rejected": chat(("user", "q"), ("assistant", "b"))},
     {"prompt": chat(("user", "q")), "chosen": chat(("assistant", "a")),
      "rejected": chat(("assistant", "b"))}),
    ("pair", ["preference"], {},
     {"chosen_messages": chat(("user", "q"), ("assistant", "a")),
      "rejected_messages": chat(("user", "q"), ("assistant", "b"))},
     {"prompt": chat(("user", "q")), "chosen": chat(("assistant", "a")),
      "rejected": chat(("assistant", "b"))}),
    ("pair", ["preference"], {},
     {"prompt": chat(("system", "s"), ("user", "q")),
      "chosen": chat(("user", "q"), ("assistant", "a")),
      "rejected": chat(("user", "q"), ("assistant", "b"))},
     {"prompt": chat(("system", "s"), ("user", "q")), "chosen": chat(("assistant", "a")),
      "rejected": chat(("assistant", "b"))}),
    ("labelled", ["labelled"], {},
     {"messages": chat(("user", "q"), ("assistant", "a"), ("user", "bye")), "label": 0},
     {"prompt": chat(("user", "q")), "completion": chat(("assistant", "a")), "label": False}),
    ("chat", ["messages"], {},
     {"messages": [*chat(("user", "q"), ("tool_call", '{"name": "f"}'), ("tool_response", "r"))]},
     {"messages": [*chat(("user", "q")), {"role": "assistant", "content": "", "tool_calls": [
         {"type": "function", "function": {"name": "f"}}]}, *chat(("tool", "r"))]}),
    ("labelled", ["labelled"], {}, {"prompt": "q", "completion": "a", "label": False},
     {"prompt": "q", "completion": "a", "label": False}),
    ("labelled", ["labelled"], {},
     {"messages": chat(("user", "q"), ("assistant", "a")), "kto_tag": True},
     {"prompt": chat(("user", "q")), "completion": chat(("assistant", "a")), "label": True}),
    ("labelled", ["labelled"], {}, {"instruction": "q", "output": "a", "kto_tag": True},
     {"prompt": "q", "completion": "a", "label": True}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "formats", "columns", "row", "expected"), READS)
def test_how_scripts_read_rows(tmp_path, kind, formats, columns, row, expected):
    script = reader(write(tmp_path, "trl", kind, formats, columns=columns)[1])
    assert script.read_row(row) == expected


def test_columns_that_the_first_row_lacks_are_kept(tmp_path):
    datasets = pytest.importorskip("datasets")
    script = reader(write(tmp_path)[1])
    vars(script).update(Dataset=datasets.Dataset, inspect=inspect)
    rows = [{"messages": SAID}, {"messages": SAID, "tools": "[{}]"}]
    assert list(script.as_dataset(rows)["tools"]) == [None, "[{}]"]


@pytest.mark.parametrize(("refused", "role"), [
    ("", "developer"),
    ("{% if m.role == 'developer' %}{% continue %}{% endif %}", "system"),
    ("{% if m.role == 'developer' %}{{ raise_exception('roles') }}{% endif %}", "system"),
])  # fmt: skip
def test_developers_that_a_template_does_not_show_are_the_system(
    tmp_path, tiny_model, refused, role
):
    transformers = pytest.importorskip("transformers")
    script = reader(write(tmp_path)[1])
    script.tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    script.tokenizer.chat_template = (
        "{% for m in messages %}" + refused + "<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    row = script.fitted({"messages": chat(("developer", "d"), ("user", "q"))})
    assert row["messages"] == chat((role, "d"), ("user", "q"))
    assert sum(script.SAID.values()) == (role == "system")
    row = script.fitted({"messages": chat(("system", "s"), ("developer", "d"), ("user", "q"))})
    system = [("system", "s\nd")] if role == "system" else [("system", "s"), ("developer", "d")]
    assert row["messages"] == chat(*system, ("user", "q"))


CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
AS_THE_READER = [
    ("messages", [{"role": "USER", "content": "q"}, {"role": "Assistant", "content": "a"}]),
    ("conversations", [{"from": "Human", "value": "q"}, {"from": "bing", "value": "b"},
                       {"from": "ChatGPT", "value": "c"}]),
    ("messages", [{"role": "user", "content": "q"},
                  {"role": "assistant", "content": "a", "reasoning_content": "r"}]),
    ("messages", [{"role": "user", "content": "q"},
                  {"role": "assistant", "thinking": "r", "content": None}]),
    ("messages", [{"role": "user", "content": "q", "reasoning": "no trace: not an answer"},
                  {"role": "reasoning", "content": "r"}, {"role": "assistant", "content": "a"}]),
    ("messages", [{"role": "user", "content": [{"type": "text", "text": "x"}, "y"]},
                  {"role": "assistant", "content": [{"type": "thinking", "thinking": "r"},
                                                    {"type": "text", "text": "a"}]}]),
    ("messages", [{"role": "user", "content": "q"},
                  {"role": "assistant", "content": "x", "tool_calls": [CALL]},
                  {"role": "ipython", "content": "t"}, {"role": "model", "content": "a"}]),
    ("messages", json.dumps([{"role": "user", "content": "q"}, {"role": "bot", "content": "a"}])),
]  # fmt: skip


def as_turns(read):
    """Messages of a script as the reader has them."""
    for turn in read:
        if "reasoning_content" in turn:
            yield "reasoning", turn["reasoning_content"]
        calls = (
            json.dumps(turn["tool_calls"], separators=(",", ":")) if "tool_calls" in turn else ""
        )
        yield turn["role"], "\n".join(filter(None, [turn["content"], calls]))


@pytest.mark.parametrize(("name", "value"), AS_THE_READER)
def test_scripts_read_messages_as_the_reader_does(tmp_path, name, value):
    row = {name: value}
    turns = turns_of(detect(row, {}), {})(row)
    script = reader(write(tmp_path, "trl", "chat", ["messages", "sharegpt"])[1])
    read = script.complete(row, script.read_row(row))
    assert list(as_turns(read["messages"])) == [(role, text) for _, role, text, _ in turns]
    again = flat.turns(row_reader(ordered())[0](row))
    assert list(as_turns(again)) == [(role, text) for _, role, text, _ in turns]


def ordered(kind="chat", formats=("messages", "sharegpt"), **more):
    settings = {"data_files": ["train.jsonl"], "validation_file": None, "columns": {},
                "batch_size": 2, "epochs": 1, **more}  # fmt: skip
    return OrderedDataSet(kind=kind, formats=formats, **settings)


SAID = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ROWS_AS_THE_READER = [
    {"messages": SAID, "system": "", "tools": "null"},
    {"messages": SAID, "tools": " [] "},
    {"messages": [SAID[0], SAID[1] | {"tool_calls": " null"}]},
    {"messages": [SAID[0], SAID[1] | {"tool_calls": "look()"}]},
    {"messages": [SAID[0], SAID[1] | {"tool_calls": "[]", "function_call": [{"name": "f"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "content": "q"}]}, SAID[1]]},
    {
        "messages": [
            {"role": "user", "content": [{"type": "thinking", "thinking": "r"}, "q"]},
            SAID[1],
        ]
    },
    {"prompt": "q", "completion": "a", "tools": "[]"},
]


@pytest.mark.parametrize("row", ROWS_AS_THE_READER)
def test_what_is_nothing_to_the_reader_is_nothing_to_scripts(row):
    name = detect(row, {})
    read = row_reader(ordered(formats=[name]))[0](row)
    turns = turns_of(name, {})(row)
    assert list(as_turns(flat.turns(read))) == [(role, text) for _, role, text, _ in turns]
    if "completion" in row:
        assert read == {"prompt": "q", "completion": "a"}  # without a chat template


@pytest.mark.parametrize("deep", ["[" * n + "]" * n for n in (600, 100_000)])
def test_json_text_that_nobody_can_walk_is_text(deep):
    row = {"messages": [SAID[0], SAID[1] | {"tool_calls": deep}]}
    read = row_reader(ordered())[0](row)
    assert [turn[2] for turn in turns_of("messages", {})(row)] == ["q", f"a\n{deep}"]
    assert read["messages"][1] == {"role": "assistant", "content": f"a\n{deep}"}
    with pytest.raises(RowError, match="expected a list of messages: .* nested deep"):
        turns_of("messages", {})({"messages": deep})


def test_what_a_row_may_hold_is_walked():
    deep = json.loads("[" * 500 + '{"a": null}' + "]" * 500)
    row = {"messages": [SAID[0], SAID[1] | {"tool_calls": deep}], "tools": deep}
    read = row_reader(ordered(nulls_are_filled_in=True))[0](row)
    assert json.loads(read["tools"]) == json.loads("[" * 500 + "{}" + "]" * 500)
    trace = json.loads('{"text": ' * 500 + '"r"' + "}" * 500)
    row = {"messages": [SAID[0], SAID[1] | {"reasoning": trace}]}
    assert row_reader(ordered())[0](row)["messages"][1]["reasoning_content"] == "r"
    assert turns_of("messages", {})(row)[1][2] == "r"


def test_functions_are_tools():
    tools = [{"name": "f"}]
    read, found = row_reader(ordered())
    assert json.loads(read({"messages": SAID, "tools": "[]", "functions": tools})["tools"]) == tools
    assert found == {"tools": 1}
    assert "tools" not in row_reader(ordered(columns={"tools": "t"}))[0](
        {"messages": SAID, "functions": tools}
    )


def test_functions_that_are_no_tools_are_none_to_scripts(tmp_path):
    row = {"messages": SAID, "functions": ["def f(): pass"]}
    read, found = row_reader(ordered())
    assert (read(dict(row)), found) == ({"messages": SAID}, {})
    script = reader(write(tmp_path, "trl", "chat", ["messages"])[1])
    assert script.taken(row) == {"messages": SAID}
    tools = {**row, "functions": json.dumps([{"name": "f"}])}
    assert script.taken(tools) == tools


def test_images_of_a_column_that_is_named_reach_the_trainer():
    read, found = row_reader(ordered(columns={"images": "pictures", "videos": "v.film"}))
    row = {"messages": SAID, "pictures": ["a.png"], "v": {"film": "a.mp4"}}
    assert read(row)["images"] == ["a.png"]
    assert found == {"images": 1, "audio or video": 1}
    read = row_reader(ordered(columns={"images": "image"}))[0]
    assert read({"messages": SAID, "image": "a.png"})["images"] == ["a.png"]


@pytest.mark.parametrize(("trainer", "row", "formats", "counted"), [
    ("trl", {"instruction": "q", "output": "a", "history": [["b", "c"]]}, ["alpaca"], 1),
    ("trl", {"instruction": "q", "output": "a"}, ["alpaca"], 0),
    ("hf", {"instruction": "q", "output": "a", "history": [["b", "c"]]}, ["alpaca"], 0),
    ("trl", {"prompt": [*SAID, SAID[0]], "completion": "a"}, ["prompt_completion"], 0),
    ("trl", {"messages": [*SAID, SAID[0]]}, ["messages"], 0),
])  # fmt: skip
def test_answers_that_a_script_only_shows_are_said(tmp_path, trainer, row, formats, counted):
    script = reader(write(tmp_path, trainer, "chat", formats)[1])
    assert script.answers_before(script.read_row(row)) == counted


@pytest.mark.parametrize("value", ["[]", "null", "", [], None])
def test_no_images_are_no_images_whatever_they_are_written_as(value):
    read, found = row_reader(ordered())
    assert "images" not in read({"messages": SAID, "images": value})
    assert found == {}
    assert read({"messages": SAID, "images": '["a.png"]'})["images"] == ["a.png"]


@pytest.mark.parametrize(("more", "columns", "counted"), [
    ({"weight": 0}, {}, "untrained answers"),
    ({"w": 0}, {"weight": "w"}, "untrained answers"),
    ({"weight": 0.5}, {}, "weighted answers"),
    ({"w": 2, "weight": 0}, {"weight": "w"}, "weighted answers"),
    ({"weight": None, "train": False}, {}, "untrained answers"),
    ({"weight": 1, "train": False}, {}, None),
    ({"loss_weight": 1.0}, {}, None),
])  # fmt: skip
def test_weights_that_trainers_do_not_take_are_counted(more, columns, counted):
    read, found = row_reader(ordered(columns=columns))
    row = {"messages": [SAID[0], SAID[1] | more]}
    assert read(row) == {"messages": SAID}
    assert found == ({counted: 1} if counted else {})
    weight = turns_of("messages", columns)(row)[-1][3]
    assert counted == {0.0: "untrained answers", 1.0: None}.get(weight, "weighted answers")


def test_what_is_shown_alone_has_no_weight_to_be_counted():
    read, found = row_reader(ordered(formats=["prompt_completion"]))
    read({"prompt": [SAID[0], SAID[1] | {"weight": 0}, SAID[0]], "completion": "a"})
    assert found == {}


ENDS = "<{{ m.role }}>{{ m.content }}</>{% endfor %}"
TEMPLATES = {
    "reasoning": "{% for m in messages %}{{ m.reasoning }}" + ENDS,
    "reasoning_content": "{% for m in messages %}[{{ m.reasoning_content }}]" + ENDS,
    "named in a comment": "{# reasoning_content #}{% for m in messages %}" + ENDS,
    "cut off": "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}"
               "{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize(("template", "key", "said"), [
    ("reasoning", "reasoning", []),
    ("reasoning_content", "reasoning_content", []),
    ("named in a comment", None, ["stands in the text"]),
    ("cut off", None, ["stands in the text", "left out by the chat template"]),
])  # fmt: skip
def test_scripts_put_reasoning_where_the_template_takes_it(
    tmp_path, tiny_model, template, key, said
):
    transformers = pytest.importorskip("transformers")
    script = reader(write(tmp_path)[1])
    script.tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    script.tokenizer.chat_template = TEMPLATES[template]
    row = {"messages": [SAID[0], SAID[1] | {"thinking": "because"}]}
    read = script.fitted(script.complete(row, script.read_row(row)))
    script.unsaid(read)
    assert script.reasoning_key() == key
    text = "a" if key else "<think>\nbecause\n</think>\n\na"
    assert read["messages"][-1] == SAID[1] | {"content": text} | ({key: "because"} if key else {})
    assert len(script.SAID) == len(said)
    assert all(any(words in line for line in script.SAID) for words in said)


@pytest.mark.parametrize(("condition", "shown", "said"), [
    ("true", True, 0),
    ("m.role != 'tool'", False, 1),
    ("m.role != 'tool' or raise_exception('no tools')", None, 0),
])  # fmt: skip
def test_scripts_count_the_turns_that_a_template_leaves_out(
    tmp_path, tiny_model, condition, shown, said
):
    transformers = pytest.importorskip("transformers")
    script = reader(write(tmp_path)[1])
    script.tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    script.tokenizer.chat_template = (
        "{% for m in messages %}{% if " + condition + " %}{{ m.content }}{% endif %}{% endfor %}"
    )
    script.unsaid({"messages": chat(("user", "q"), ("tool", "4"), ("tool", "5"), ("user", ""))})
    assert script.shows("tool") is shown
    assert script.shows("user") is True
    assert sum(script.SAID.values()) == said


@pytest.mark.parametrize("trainer", ["trl", "llama-factory", "ms-swift"])
@pytest.mark.parametrize("row", [
    {"prompt": "q", "chosen": "a", "rejected": None},
    {"prompt": "q", "chosen": None, "rejected": SAID[1:]},
    {"chosen": "q a", "rejected": None},
    {"chosen_messages": SAID[1:], "rejected_messages": None, "prompt": "q"},
])  # fmt: skip
def test_an_answer_of_a_pair_that_is_null_is_empty(tmp_path, trainer, row):
    data = ordered("pair", ["preference"], rows=lambda: iter([row]))
    registry.find("trainers", trainer)(tmp_path / "settings", data)
    read = row_reader(data)[0](row)
    _, *answers = flat.pair(read, "it")
    turns = turns_of("preference", {})(row)
    assert [a["content"] for a in answers] == [t[2] for t in turns if t[0]]


def test_reasoning_is_left_out_where_the_pool_was_read_without():
    read, found = row_reader(ordered(reasoning="drop"))
    row = {"messages": [{"role": "assistant", "content": "<think>r</think>a", "reasoning": "r"}]}
    assert read(row) == {"messages": chat(("assistant", "a"))}
    assert found == {}


def test_what_rows_hold_is_counted():
    read, found = row_reader(ordered())
    said = read({"messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x.png"}}]},
        {"role": "assistant", "content": "a", "thinking": "r", "tool_calls": [CALL], "train": False},
    ], "tools": [{"type": "function", "function": {"name": "f"}}], "images": ["y.png"]})  # fmt: skip
    assert found == dict.fromkeys(
        ["tools", "tool calls", "reasoning", "images", "untrained answers"], 1
    )
    assert said["images"] == ["y.png", "x.png"]
    assert json.loads(said["tools"]) == [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(("given", "label"), [(True, True), (0, False), (1, True), ("true", True),
                                              ("False", False), ("1", True), (" 0", False)])  # fmt: skip
def test_labels_of_every_spelling(given, label):
    read, _ = row_reader(ordered("labelled", ["labelled"]))
    assert read({"prompt": "q", "completion": "a", "label": given})["label"] is label


def test_nulls_of_parquet_are_no_arguments():
    call = {"function": {"name": "f", "arguments": {"a": 1, "b": None}}}
    row = {"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]}
    for filled_in, arguments in ((True, {"a": 1}), (False, {"a": 1, "b": None})):
        read, _ = row_reader(ordered(nulls_are_filled_in=filled_in))
        (turn,) = read(row)["messages"]
        assert turn["tool_calls"][0]["function"]["arguments"] == arguments


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.zst", "parquet"])
def test_scripts_read_every_file_in_order(tmp_path, ending):
    names = [f"train-{i}.{ending}" for i in range(2)]
    rows = [{"text": f"a\u2028{i}"} for i in range(6)]
    for i, name in enumerate(names):
        part = rows[3 * i : 3 * i + 3]
        data = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in part).encode()
        if ending == "parquet":
            pq.write_table(pa.Table.from_pylist(part), tmp_path / name)
        else:
            (tmp_path / name).write_bytes(zstandard.compress(data) if "zst" in ending else data)
    script = reader(write(tmp_path, kind="text", formats=["text"], data_files=names)[1])
    assert [script.read_row(r) for name in script.DATA for r in script.rows(name)] == rows


def test_scripts_do_not_need_didact(tmp_path):
    for trainer in ("hf", "trl"):
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(write(tmp_path, trainer)[1].read_text()))
            for name in (
                [a.name for a in node.names] if isinstance(node, ast.Import)
                else [node.module] if isinstance(node, ast.ImportFrom) else []
            )
        }  # fmt: skip
        known = set(sys.stdlib_module_names) | {"yaml", "datasets", "torch", "transformers", "trl"}
        assert imported <= known


def test_what_a_trainer_cannot_take_is_refused_without_an_order(tmp_path):
    pool = make_pool([{"prompt": "q", "chosen": "a", "rejected": "b"}], tmp_path)
    check_trainer(pool, ExportSettings(trainer="trl"))
    with pytest.raises(DataError, match="axolotl shuffles preference pairs"):
        check_trainer(pool, ExportSettings(trainer="axolotl"))


def test_a_run_is_refused_before_it_scores(tmp_path):
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (tmp_path / "pool.jsonl").write_text(json.dumps(row) + "\n")
    config = {"data": {"path": str(tmp_path / "pool.jsonl")}, "score": {"method": "length"},
              "export": {"for": "axolotl"}}  # fmt: skip
    with pytest.raises(DataError, match="use trl, llama-factory or ms-swift"):
        didact.run(config, tmp_path / "out")
    assert not (tmp_path / "out" / "scores.parquet").exists()


def test_notes_of_settings_are_said(tmp_path):
    answer = {"role": "assistant", "content": "a", "reasoning_content": "r"}
    pool = make_pool([{"messages": [{"role": "user", "content": "q"}, answer]}], tmp_path)
    order = TrainingOrder(np.arange(1), pool.fingerprint, "keep")
    files = didact.export(pool, order, tmp_path / "out", trainer="ms-swift")
    (note,) = export_notes(pool, ExportSettings(trainer="ms-swift"), files)
    assert note == "1 row holds reasoning, which stands in the text between <think> and </think>"


SIDES = {"chosen": SAID, "rejected": [SAID[0], {"role": "assistant", "content": "b"}]}
SYSTEM = {"role": "system", "content": "s"}


@pytest.mark.parametrize("row", [
    SIDES,
    {"prompt": [SYSTEM, SAID[0]], **SIDES},
    {"prompt": [SYSTEM, SAID[0]], "chosen": [SYSTEM, *SAID], "rejected": [SYSTEM, *SIDES["rejected"]]},
    {"prompt": SAID, "chosen": SAID[1:], "rejected": SIDES["rejected"][1:]},
    {"prompt": SAID, **SIDES},
    {"chosen": SAID[1:], "rejected": SIDES["rejected"][1:]},
    {"system": "s", "chosen": "q a", "rejected": "q b"},
    {"input": "not of the prompt", "chosen": "q a", "rejected": "q b"},
    {"instruction": "q", "input": "x", "chosen": "a", "rejected": "b", "history": [["h", "i"]]},
    {"messages": [SYSTEM, SAID[0]], "chosen": "a", "rejected": "b"},
    {"prompt": "q", "chosen": "<think>r</think>a", "rejected": "b"},
    {"chosen": "q <think>r</think>a", "rejected": "q <think>r</think>b"},
])  # fmt: skip
@pytest.mark.parametrize("reasoning", ["keep", "drop"])
def test_pairs_part_as_the_reader_parts_them(row, reasoning):
    read = row_reader(ordered("pair", ["preference"], reasoning=reasoning))[0](row)
    sides = zip(("prompt", "chosen", "rejected"), ("user", "assistant", "assistant"), strict=True)
    said = [
        (side, turn["role"], turn["content"])
        for side, (name, role) in enumerate(sides)
        for turn in ([{"role": role, "content": read[name]}] if isinstance(read[name], str)
                     else read[name])
    ]  # fmt: skip
    assert said == [turn[:3] for turn in turns_of("preference", {}, reasoning)(row)]


def test_a_trace_before_an_answer_with_one_of_its_own_is_kept():
    row = {"messages": [{"role": "thinking", "content": "r"}, SAID[1] | {"reasoning_content": "s"}]}
    assert row_reader(ordered())[0](row)["messages"] == [SAID[1] | {"reasoning_content": "r\ns"}]
