"""ms-swift: ModelScope's swift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from didact.core.atomic import write_text
from didact.core.errors import DataError
from didact.core.findings import counted
from didact.core.pool import Kind
from didact.data.export.flat import (
    Message,
    alternating,
    calls,
    pair,
    said,
    said_of_text,
    survey,
    thought,
    tools_text,
    turns,
    whole,
    write_shaped,
)
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.trainer_settings import settings_text
from didact.data.rows.columns import Row

NAME: Final = "ms-swift"
_EQUAL: Final = "equal answers"
_COMMANDS: Final[dict[Kind, str]] = {"chat": "sft", "text": "pt", "pair": "rlhf"}


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`ms-swift.yaml`, and the rows as ms-swift reads them.

    It discards pairs of `prompt`, `chosen`, `rejected` without a word, and takes `messages` with a
    `rejected_response`.

    Raises:
        DataError: The samples are labelled: KTO shuffles them whatever it is told.
    """
    if data.kind == "labelled":
        raise DataError(
            "export.for: ms-swift shuffles labelled answers (KTO) whatever it is told; expected "
            "another trainer for them: use trl or llama-factory"
        )
    found = survey(data, _shape(data.kind, ()), _equal)
    columns = tuple(name for name in ("tools", "images") if found[name])
    shape = _shape(data.kind, columns)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{NAME}.yaml", folder / f"{NAME}.jsonl"]
    write_shaped(paths[1], data.rows(), data, shape)
    if data.validation_file:
        paths.append(folder / f"{NAME}-validation.jsonl")
        write_shaped(paths[2], data.validation_rows(), data, shape)
    del found["untrained answers"], found["open question"]  # their messages say so
    notes = list(said_of_text(found) if data.kind == "text" else said(found, NAME))
    if n := found[_EQUAL]:
        pairs = counted(n, "pair has", "pairs have")
        notes.append(f"{pairs} two equal answers: ms-swift drops such, and later steps move")
    text = settings_text(_settings(data), data, notes)
    text += _COMMENTS.format(command=_COMMANDS[data.kind])
    write_text(paths[0], text + (_AGENT if found["tools"] or found["tool calls"] else ""))
    return paths


def _settings(data: OrderedDataSet) -> dict[str, Any]:
    settings: dict[str, Any] = {"model": "MODEL", "output_dir": "trained"}
    if data.kind == "pair":
        settings["rlhf_type"] = "dpo"
    settings |= {
        "tuner_type": "full",
        "dataset": f"{NAME}.jsonl",
        "dataset_shuffle": False,
        "train_dataloader_shuffle": False,
        "split_dataset_ratio": 0.0,
        "strict": data.kind != "pair",
        "packing": False,
        "group_by_length": False,
        "truncation_strategy": "right",
        "max_length": 2048,
        "num_train_epochs": 1,
        "per_device_train_batch_size": data.batch_size or 8,
        "gradient_accumulation_steps": 1,
    }
    if data.kind == "text":
        settings["use_chat_template"] = False
    if data.validation_file:
        settings["val_dataset"] = f"{NAME}-validation.jsonl"
    return settings


def _equal(row: Row) -> list[str]:
    """What it drops whatever the shape: pairs whose answers are equal."""
    equal = row["messages"][-1]["content"] == row.get("rejected_response")
    return [_EQUAL] if equal else []


def _shape(kind: Kind, columns: tuple[str, ...]) -> Any:
    """Row as `read_row` gives it → as ms-swift takes it, with the columns any row has."""

    def shape(row: Row) -> Row:
        if kind == "text":
            return {"messages": [{"role": "assistant", "content": row["text"]}]}
        if kind == "pair":
            shared, chosen, rejected = pair(row, NAME)
            out: Row = {
                "messages": [
                    *(m for t in alternating(shared, answered=False) for m in _messages(t)),
                    {"role": "assistant", "content": whole(chosen)},
                ],
                "rejected_response": whole(rejected),
            }
        else:
            said = alternating(turns(row), apart="untrained")
            out = {"messages": [m for turn in said for m in _messages(turn)]}
        if "tools" in columns:
            out["tools"] = tools_text(row) or "[]"
        if "images" in columns:
            out["images"] = row.get("images", [])
        return out

    return shape


def _messages(turn: Message) -> list[Message]:
    """A message as ms-swift has them: tool calls are messages of their own."""
    made = [
        {"role": "tool_call", "content": json.dumps(call, ensure_ascii=False)}
        for call in calls(turn)
    ]
    text = thought(turn)
    out = [{"role": turn["role"], "content": text}, *made] if text or not made else made
    return [m | {"loss": False} for m in out] if "untrained" in turn else out


_AGENT: Final = "# agent_template: hermes  # how tools are written, where the template has no way\n"
_COMMENTS: Final = """\
# In this folder: swift {command} ms-swift.yaml --model MODEL
# A step: per_device_train_batch_size x gradient_accumulation_steps x devices samples.
"""
