"""The script with which HF Trainer and TRL train on rows as the reader reads them."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Callable
from pprint import pformat
from typing import Any, Final

from didact.core.errors import DataError
from didact.core.nesting import DEEPEST, deeper_than
from didact.core.render import REASONING, REASONING_KEYS, THINK
from didact.data.export import script_rows
from didact.data.export.ordered import OrderedDataSet
from didact.data.formats import preference
from didact.data.rows import json_text, reasoning
from didact.data.rows.columns import Row
from didact.data.rows.detection import formats
from didact.data.rows.labels import NAMES, SPELLINGS
from didact.data.rows.marks import MEDIA, MEDIA_NAMES
from didact.data.rows.turns import (
    CALL_PARTS,
    CALL_ROLES,
    CALLS,
    CONTENT_TEXTS,
    LEARNED,
    RESULT_PARTS,
    ROLES,
    TOOLS,
    WEIGHTS,
    are_tools,
    is_call_part,
    weight_beside,
)


def script_text(
    data: OrderedDataSet,
    *,
    name: str,
    settings: str,
    imports: str,
    body: str,
    model: str = "AutoModelForCausalLM.from_pretrained(model_name)",
    generates: bool = False,
    learns_prompts: bool = False,
) -> str:
    """A training script in Python that needs no didact.

    Args:
        data: What it trains on.
        name: Its file name.
        settings: The file name of its settings.
        imports: What it imports of the trainer.
        body: What makes `trainer` from `model`, `tokenizer`, `settings`, `output_dir`,
            `train_dataset` and, with a validation file, `eval_dataset`; `as_dataset(rows)` makes
            one of other rows.
        model: What makes `model` from `model_name`.
        generates: Whether the trainer makes answers of its own: it takes no tools from rows, and
            OrderGuard cannot judge it.
        learns_prompts: Whether the trainer learns all of a row, a prompt as its answer.

    Raises:
        DataError: The rows are of formats that no one function reads.
    """
    return _SCRIPT.format(
        first=data.data_files[0],
        script=name,
        imports=imports,
        model=model,
        tools_column=not generates,
        learns_prompts=learns_prompts,
        guard="" if generates else _GUARD,
        model_class=model.partition(".")[0],
        data_files=json.dumps(list(data.data_files)),
        read=_read_source(data),
        open_rows=_OPEN_ROWS[data.data_files[0].rpartition(".")[2]],
        settings=settings,
        batch="" if data.batch_size is None else _BATCH.format(batch_size=data.batch_size),
        validation=(
            f"eval_dataset = load([{data.validation_file!r}])\n" if data.validation_file else ""
        ),
        body=body.strip("\n"),
    )


def row_reader(
    data: OrderedDataSet, *, marked: bool = False
) -> tuple[Callable[[Row], Row], Counter[str]]:
    """The function of a script that reads rows, here, and what it has found in them so far.

    It gives `text`, `messages`, `prompt` and `completion`, or `chosen` and `rejected`, and beside
    them `label`, `tools` as JSON text, and `images`.

    Args:
        data: The rows.
        marked: Whether messages of answers that are not learned have the key `untrained`, where
            another of the row is learned.

    Raises:
        DataError: The rows are of formats that no one function reads.
    """
    names: dict[str, Any] = {"json": json, "Counter": Counter, "Any": Any}
    exec(compile(_read_source(data), "<read_row>", "exec"), names)  # noqa: S102 - a format's own code
    read_row, complete = names["read_row"], names["complete"]

    def read(row: Row) -> Row:
        row = names["taken"](row)
        found = read_row(row)
        chats = [turns for turns in found.values() if isinstance(turns, list)]
        answers = [t for turns in chats for t in turns if t["role"] == LEARNED]
        if marked and any(turn.get("weight") != 0 for turn in answers):
            for turn in answers:
                turn.update({"untrained": True} if turn.get("weight") == 0 else {})
        completed: Row = complete(row, found)
        return completed

    return read, names["FOUND"]


def _read_source(data: OrderedDataSet) -> str:
    """Python that reads a row: columns, roles, functions, `read_row`."""
    functions = inspect.getsource(script_rows).partition(_FROM_HERE)[2].partition("\n\n")[2]
    functions = "\n\n".join([*(inspect.getsource(function) for function in _SHARED), functions])
    return _READ.format(
        columns=json.dumps(dict(data.columns), ensure_ascii=False),
        constants="".join(
            f"{name} = {pformat(value, width=96 - len(name), sort_dicts=False)}\n"
            for name, value in _CONSTANTS.items()
        ),
        nulls=data.nulls_are_filled_in,
        left_out=data.reasoning == "drop",
        functions=functions.strip("\n"),
        read_row=_read_row(data).strip("\n"),
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


_FROM_HERE: Final = "# -- from here"

_SHARED: Final[tuple[Callable[..., Any], ...]] = (  # functions that stand there, too
    deeper_than,
    *(json_text.there, reasoning.without_marked, reasoning.in_text, reasoning.trace_of),
    *(reasoning.trace_beside, reasoning.is_trace, reasoning.is_trace_part),
    *(is_call_part, are_tools, weight_beside),
    *(preference.answer_columns, preference.shared_words, preference.repeated),
    preference.shared_turns,
)
_CONSTANTS: Final = {
    "ROLES": dict(ROLES),
    "WEIGHTS": WEIGHTS,
    "DEEPEST": DEEPEST,
    "ANSWERS": preference.ANSWERS,
    "TOOLS": TOOLS,
    "CALLS": CALLS,
    "CALL_ROLES": CALL_ROLES,
    "MESSAGE_KEYS": json_text.MESSAGE_KEYS,
    "CONTENT_TEXTS": CONTENT_TEXTS,
    "NOTHING": json_text.NOTHING,
    "THINK": THINK,
    "LEARNED": LEARNED,
    "REASONING": REASONING,
    "REASONING_KEYS": REASONING_KEYS,
    "ROW_KEYS": reasoning.ROW_KEYS,
    "LOOSE_KEYS": reasoning.LOOSE_KEYS,
    "TRACE_KEYS": reasoning.TRACE_KEYS,
    "TRACE_TEXTS": reasoning.TRACE_TEXTS,
    "FLAGS": reasoning.FLAGS,
    "PARTS": reasoning.PARTS,
    "MARKS": reasoning.MARKS,
    "CALL_PARTS": CALL_PARTS,
    "RESULT_PARTS": RESULT_PARTS,
    "LABELS": SPELLINGS,
    "LABEL_NAMES": NAMES,
    "MEDIA": MEDIA,
    "MEDIA_NAMES": MEDIA_NAMES,
}
_READ: Final = '''\
COLUMNS = {columns}  # name here: column in the files
NULLS_ARE_FILLED_IN = {nulls}  # by Parquet, in nested objects
LEAVE_REASONING_OUT = {left_out}
{constants}

{functions}


def taken(row):
    """A row with images and the like under the names that are known, and no false tools."""
    media = {{name: column(row, name) for name in MEDIA_NAMES if name in COLUMNS}}
    theirs = [COLUMNS[name] for name in media]
    row = {{**{{name: row[name] for name in row if name not in theirs}}, **media}}
    found = parsed(row.get("functions"))
    found = [parsed(item) for item in (found if isinstance(found, list) else [found])]
    if "tools" not in COLUMNS and not are_tools(found):
        row.pop("functions", None)
    return row


{read_row}
'''

_SCRIPT: Final = '''\
"""Train on {first} in the order it was written. Usage: python {script} MODEL OUTPUT_DIR

MODEL is a local folder or a model name. The settings beside this file keep the order.
"""

import inspect
import json
import os
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from transformers import {model_class}, AutoTokenizer
{imports}

HERE = Path(__file__).resolve().parent
DATA = {data_files}  # in order
{read}


def rows(name):
{open_rows}


def writes(word):
    """Whether the chat template has a place for something."""
    return word in str(tokenizer.chat_template or "")


@cache
def shows(role):
    """Whether the chat template shows what a role says; None where it refuses such a turn."""
    mark, asked = "didact-7f3a", {{"role": "user", "content": "?"}}
    turn = {{"role": role, "content": mark}}
    try:
        turns = [turn, asked] if role in ("developer", "system") else [asked, turn]
        return mark in tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:
        return None


@cache
def reasoning_key():
    """The key of messages in which the chat template takes reasoning; None where it has none."""
    mark, asked = "didact-7f3a", {{"role": "user", "content": "?"}}
    for key in REASONING_KEYS if tokenizer.chat_template else ():
        turns = [asked, {{"role": "assistant", "content": "!", key: mark}}]
        if mark in tokenizer.apply_chat_template(turns, tokenize=False):
            return key
    return None


def fitted(row):
    """A row as the chat template takes it: what that has no place for stands in the text."""
    row.pop("images", None)
    chats = [value for value in row.values() if isinstance(value, list)]
    for turns in chats:
        developed(turns)
    for turn in (turn for turns in chats for turn in turns):
        thought = turn.pop("reasoning_content", "")
        if thought and reasoning_key():
            turn[reasoning_key()] = thought
        elif thought:
            turn["content"] = THINK[0] + thought + THINK[1] + turn["content"]
            SAID["reasoning stands in the text, between <think> and </think>"] += 1
        if "tool_calls" in turn and not writes("tool_calls"):
            calls = json.dumps(turn.pop("tool_calls"), ensure_ascii=False)
            turn["content"] = "\\n".join(filter(None, [turn["content"], calls]))
            SAID["tool calls stand in the text, as JSON"] += 1
    if "text" in row and row.pop("tools", None):
        SAID["tools beside a text are left out"] += 1
    if "tools" in row and not (TOOLS_COLUMN and writes("tools")):
        tools = {{"role": "system", "content": row.pop("tools")}}
        for turns in chats if "prompt" not in row else [row["prompt"]]:
            if turns and turns[0]["role"] == "system":
                turns[0]["content"] += "\\n" + tools["content"]
            else:
                turns.insert(0, tools)
        SAID["tools stand in the system prompt, as JSON"] += 1
    return row


def developed(turns):
    """Make what a developer says a part of the system prompt, where the template shows it not."""
    for turn in [turn for turn in turns if turn["role"] == "developer"]:
        if not shows("developer"):
            SAID["what a developer says stands in the system prompt"] += 1
            if turns[0]["role"] == "system":
                turns[0]["content"] += "\\n" + turn["content"]
                turns.remove(turn)
            else:
                turn["role"] = "system"


def thought_of(turn):
    """The reasoning of a turn as the chat template is handed it; "" without any."""
    first, found, _ = turn["content"].partition(THINK[1])
    inside = first.removeprefix(THINK[0]) if found and first.startswith(THINK[0]) else ""
    return (turn.get(reasoning_key()) or inside).strip()


def unsaid(row):
    """Count what the chat template leaves out of a row."""
    turns = [turn for turns in row.values() if isinstance(turns, list) for turn in turns]
    for role in {{turn["role"] for turn in turns if turn["content"]}}:
        if shows(role) is False:
            SAID[f"what {{role}} says is left out by the chat template"] += 1
    for part in ("messages", "completion", "chosen", "rejected"):
        turns = row.get(part) if tokenizer.chat_template else None
        thoughts = [thought_of(turn) for turn in turns] if isinstance(turns, list) else []
        if any(thoughts):
            before = row.get("prompt", []) if part != "messages" else []
            text = tokenizer.apply_chat_template(before + turns, tokenize=False)
            if any(thought not in text for thought in thoughts):
                SAID["reasoning is left out by the chat template, of some turns or of all"] += 1


SAID = Counter()
TOOLS_COLUMN = {tools_column}  # the trainer hands the column to the chat template
LEARNS_PROMPTS = {learns_prompts}
KEEP = ()  # columns of the files that go to the trainer as they are


def answers_before(read):
    """Whether answers of a row count as learned, and stand in a prompt that is not."""
    prompt = read.get("prompt") if "completion" in read and not LEARNS_PROMPTS else None
    turns = prompt if isinstance(prompt, list) else []
    return any(turn["role"] == "assistant" and turn.get("weight") != 0 for turn in turns)


def load(names):
    """Rows as trainers take them; says what is not as it was."""
    SAID.clear()
    FOUND.clear()
    found = []
    for row in (taken(row) for name in names for row in rows(name)):
        read = read_row(row)
        SAID["answers before the last are shown, and not trained"] += answers_before(read)
        read = fitted(complete(row, read))
        unsaid(read)
        found.append(read | {{name: row.get(name) for name in KEEP}})
    texts = sum(isinstance(row.get("prompt"), str) and len(row) > 1 for row in found)
    if texts == len(found) and tokenizer.chat_template:  # beside chats they become chats
        SAID["a text and its answer are trained as they stand, without the chat template"] = texts
    left_out = "are left out: this script trains on text, with marks like <image> in their place"
    SAID.update({{
        f"images {{left_out}}": FOUND["images"],
        f"audio or video {{left_out}}": FOUND["audio or video"],
        "answers marked as not to be trained are trained": FOUND["untrained answers"],
        "answers are weighed more or less than 1, and trained alike": FOUND["weighted answers"],
        "what stands behind the last answer is left out": FOUND["turns behind the answer"],
        "an empty answer stands where there is none": FOUND["no answer"],
    }})
    for what, times in (+SAID).items():
        print(f"{{', '.join(names)}}: {{times}} times {{what}}", file=sys.stderr)
    return as_dataset(found)


def as_dataset(rows):
    """A data set that keeps every message's own keys, which Arrow would fill up with nulls.

    Where some rows have messages, texts of others become messages. Columns are those of all rows:
    `datasets` would take those of the first.
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    rows = [{{name: row.get(name) for name in columns}} for row in rows]
    sides = {{"prompt": "user", **dict.fromkeys(("completion", "chosen", "rejected"), "assistant")}}
    if any(isinstance(row.get(name), list) for row in rows for name in sides):
        for row in rows:
            texts = [name for name in sides if isinstance(row.get(name), str)]
            row.update((name, side(row[name], sides[name])) for name in texts)
            if row.get("prompt") == []:  # by an empty list trainers do not know a chat
                row["prompt"] = side("", "user")
    nested = any(key in turn for row in rows for turns in row.values() if isinstance(turns, list)
                 for turn in turns for key in ("tool_calls", *REASONING_KEYS))
    if not nested:
        return Dataset.from_list(rows)
    if "on_mixed_types" not in inspect.signature(Dataset.from_list).parameters:
        raise SystemExit("tool calls and reasoning need datasets 4.8: pip install -U datasets")
    return Dataset.from_list(rows, on_mixed_types="use_json")


model_name, output_dir = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(model_name)
model = {model}
settings = yaml.safe_load((HERE / "{settings}").read_text(encoding="utf-8"))
if not torch.accelerator.is_available():
    settings = {{"use_cpu": True, "bf16": False, **settings}}
elif torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
    settings = {{"bf16": False, "fp16": True, **settings}}
{batch}train_dataset = load(DATA)
{validation}{body}
{guard}trainer.train()
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

_GUARD: Final = """\
# With didact installed, a step that is not in the order stops the training, and steps.jsonl tells
# what every step did:
# from didact.callbacks import OrderGuard, Telemetry
# trainer.add_callback(OrderGuard(HERE.parent))
# trainer.add_callback(Telemetry())
"""

_BATCH: Final = """\
# {batch_size} samples per optimizer step over all devices, as the order was made for
world, per_device = int(os.environ.get("WORLD_SIZE", "1")), settings["per_device_train_batch_size"]
of_one = settings.get("num_generations", 1)  # GRPO: a prompt is answered so often
if {batch_size} * of_one % (per_device * world):
    raise SystemExit(
        f"{batch_size} samples per step do not divide over {{world}} devices of {{per_device}}: "
        "change per_device_train_batch_size"
    )
settings["gradient_accumulation_steps"] = {batch_size} * of_one // (per_device * world)
"""
