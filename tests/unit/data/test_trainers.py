"""The generated scripts: valid Python for every case, and rows read as the trainers want them."""

from __future__ import annotations

import ast
import itertools
import json
import sys
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from didact.core import registry
from didact.data.export.ordered import OrderedDataSet
from didact.data.rows.detection import formats as registered

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
    return registry.find("trainers", trainer)(folder / "trainer", data)


def write_all(folder, trainer, kind, formats):
    """Ending, validation, batch size and the trainer's files, for every case of them."""
    for i, (ending, validation, batch_size) in enumerate(FILES):
        yield ending, validation, batch_size, write(
            folder / str(i), trainer, kind, formats, data_files=[f"a.{ending}", f"b.{ending}"],
            validation_file=f"validation.{ending}" if validation else None,
            batch_size=batch_size, columns={"text": "it's \"odd\" {x}"}, epochs=3,
        )  # fmt: skip


@pytest.mark.parametrize(("kind", "formats"), CASES)
@pytest.mark.parametrize("trainer", registry.known("trainers"))
def test_every_trainer_writes_settings_and_perhaps_a_script(tmp_path, trainer, kind, formats):
    for ending, _, _, files in write_all(tmp_path, trainer, kind, formats):
        settings, *scripts = files
        assert settings.name == f"{trainer}.yaml"
        assert yaml.safe_load(settings.read_text())
        assert "3 epochs are written out" in settings.read_text()
        for script in [path for path in scripts if path.suffix == ".py"]:
            text = script.read_text()
            compile(text, script.name, "exec")
            assert f'DATA = ["a.{ending}", "b.{ending}"]' in text
            assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("kind", ["chat", "text", "pair", "labelled"])
@pytest.mark.parametrize("trainer", ["hf", "trl"])
def test_settings_and_scripts_of_hugging_face(tmp_path, trainer, kind):
    name = next(name for name, f in registered().items() if f.kind == kind)
    for _, validation, batch_size, files in write_all(tmp_path, trainer, kind, [name]):
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
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper())
    ]  # fmt: skip
    module = types.ModuleType("script")
    vars(module).update(json=json, Path=Path, __file__=str(path))
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
     {"messages": chat(("system", "s"), ("user", "x\ny"), ("assistant", '[{"n": 1}]'))}),
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
     {"chosen": "q a", "rejected": "q b"}),
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
     {"chosen": chat(("user", "q"), ("assistant", "a")),
      "rejected": chat(("user", "q"), ("assistant", "b"))}),
    ("pair", ["preference"], {},
     {"chosen_messages": chat(("user", "q"), ("assistant", "a")),
      "rejected_messages": chat(("user", "q"), ("assistant", "b"))},
     {"chosen": chat(("user", "q"), ("assistant", "a")),
      "rejected": chat(("user", "q"), ("assistant", "b"))}),
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
        known = set(sys.stdlib_module_names) | {"yaml", "datasets", "transformers", "trl"}
        assert imported <= known
