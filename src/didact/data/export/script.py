"""What trainers of Hugging Face's kind share: settings as YAML, and the script that uses them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from didact.core.errors import DataError
from didact.data.export.ordered import OrderedDataSet
from didact.data.rows.detection import formats


def sequential(data: OrderedDataSet) -> dict[str, Any]:
    """The arguments of `TrainingArguments` that keep the order."""
    settings: dict[str, Any] = {
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 1,
        "ignore_data_skip": False,
    }
    if data.batch_size is not None:
        settings["per_device_train_batch_size"] = data.batch_size
    return settings


def settings_text(settings: Mapping[str, Any], data: OrderedDataSet) -> str:
    """Settings as YAML, with what they are for."""
    first = data.data_files[0]
    lines = [f"# Settings that keep the order of {first}: add yours beside them, change none.\n"]
    if data.epochs > 1:
        lines.append(f"# {data.epochs} epochs are written out in the files.\n")
    lines += [f"{name}: {json.dumps(value)}\n" for name, value in settings.items()]
    return "".join(lines)


def script_text(data: OrderedDataSet, *, name: str, settings: str, imports: str, body: str) -> str:
    """A training script in Python that needs no didact.

    Args:
        data: What it trains on.
        name: Its file name.
        settings: The file name of its settings.
        imports: What it imports of the trainer.
        body: What makes `trainer` from `model`, `tokenizer`, `settings`, `output_dir`,
            `train_dataset` and, with a validation file, `eval_dataset`.

    Raises:
        DataError: The rows are of formats that no one function reads.
    """
    return _SCRIPT.format(
        first=data.data_files[0],
        script=name,
        imports=imports,
        data_files=json.dumps(list(data.data_files)),
        columns=json.dumps(dict(data.columns), ensure_ascii=False),
        open_rows=_OPEN_ROWS[data.data_files[0].rpartition(".")[2]],
        read_row=_read_row(data).strip("\n"),
        settings=settings,
        batch="" if data.batch_size is None else _BATCH.format(batch_size=data.batch_size),
        validation=(
            f"eval_dataset = load([{data.validation_file!r}])\n" if data.validation_file else ""
        ),
        body=body.strip("\n"),
    )


def _read_row(data: OrderedDataSet) -> str:
    """The function of a script that reads the rows of every format there is."""
    present = set(data.formats)
    for name, row_format in formats().items():
        if name in present and present <= {name, *row_format.reads_too}:
            return row_format.read_row
    raise DataError(
        f"no training script reads rows of {', '.join(data.formats)} from one file; expected "
        "formats that go together: export with trainer none, or run them apart"
    )


_SCRIPT: Final = '''\
"""Train on {first} in the order it was written. Usage: python {script} MODEL OUTPUT_DIR

MODEL is a local folder or a model name. The settings beside this file keep the order.
"""

import json
import os
import sys
from pathlib import Path

import yaml
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
{imports}

HERE = Path(__file__).resolve().parent
DATA = {data_files}  # in order
COLUMNS = {columns}  # name here: column in the files
ROLES = {{"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}}


def column(row, name):
    """A value of a row; dots in a column's name reach into nested objects."""
    name = COLUMNS.get(name, name)
    if name in row:
        return row[name]
    for part in name.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def message(given):
    """A message as role and text; tool calls as JSON text."""
    role = given.get(COLUMNS.get("role", "role")) or given.get("from")
    text = given.get(COLUMNS.get("content", "content"))
    text = given.get("value") if text is None else text
    if isinstance(text, list):
        parts = [p if isinstance(p, str) else p.get("text") or p.get("value") or "" for p in text]
        text = "\\n".join(parts)
    calls = given.get("tool_calls") or given.get("function_call")
    if calls:
        text = "\\n".join(filter(None, [text, json.dumps(calls, ensure_ascii=False)]))
    return {{"role": ROLES.get(role, role), "content": text or ""}}


def side(value, role):
    """A prompt or an answer, which may be text, as messages."""
    if isinstance(value, str):
        return [{{"role": role, "content": value}}]
    return [message(m) for m in ([value] if isinstance(value, dict) else value)]


def chat(row):
    """The messages of a row."""
    value = column(row, "messages")
    value = row.get("conversations") if value is None else value
    return None if value is None else [message(m) for m in value]


def opening(row):
    """The system prompt that stands beside the messages, and earlier exchanges."""
    system, turns = column(row, "system"), []
    if system:
        turns.append({{"role": "system", "content": system}})
    for question, answer in column(row, "history") or []:
        turns += side(question, "user") + side(answer, "assistant")
    return turns


def question(row):
    """An instruction with its input."""
    parts = [column(row, "instruction"), column(row, "input")]
    return "\\n".join(p for p in parts if p)


{read_row}


def rows(name):
{open_rows}


def load(names):
    return Dataset.from_list([read_row(row) for name in names for row in rows(name)])


model_name, output_dir = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(model_name)
model = AutoModelForCausalLM.from_pretrained(model_name)
settings = yaml.safe_load((HERE / "{settings}").read_text(encoding="utf-8"))
{batch}train_dataset = load(DATA)
{validation}{body}
# With didact installed, a step that is not in the order stops the training, and steps.jsonl tells
# what every step did:
# from didact.callbacks import OrderGuard, Telemetry
# trainer.add_callback(OrderGuard(HERE.parent))
# trainer.add_callback(Telemetry())
trainer.train()
trainer.save_model(output_dir)
'''

_OPEN_ROWS: Final = {
    "jsonl": """\
    with open(HERE.parent / name, encoding="utf-8", newline="\\n") as lines:
        yield from map(json.loads, lines)""",
    "zst": """\
    import zstandard

    with zstandard.open(HERE.parent / name, "rt", encoding="utf-8", newline="\\n") as lines:
        yield from map(json.loads, lines)""",
    "parquet": """\
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(HERE.parent / name).iter_batches():
        yield from batch.to_pylist()""",
}

_BATCH: Final = """\
# {batch_size} samples per optimizer step over all devices, as the order was made for
world, per_device = int(os.environ.get("WORLD_SIZE", "1")), settings["per_device_train_batch_size"]
if {batch_size} % (per_device * world):
    raise SystemExit(
        f"{batch_size} samples per step do not divide over {{world}} devices of {{per_device}}: "
        "change per_device_train_batch_size"
    )
settings["gradient_accumulation_steps"] = {batch_size} // (per_device * world)
"""
