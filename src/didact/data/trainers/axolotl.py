"""axolotl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from didact.core.atomic import write_text
from didact.core.errors import DataError
from didact.core.findings import counted
from didact.core.pool import Kind
from didact.data.export.flat import (
    alternating,
    calls,
    said,
    said_of_text,
    survey,
    tools_text,
    turns,
    whole,
    write_shaped,
)
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.trainer_settings import settings_text
from didact.data.rows.columns import Row

NAME: Final = "axolotl"
_UNTRAINED: Final = "untrained answers"
_KEYS: Final = ("role", "content", "reasoning_content", "name", "tool_call_id")
_TYPES: Final[dict[Kind, str]] = {
    "chat": "chat_template",
    "text": "completion",
    "labelled": "chatml.argilla_chat",
}


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`axolotl.yaml`, and the rows as axolotl reads them.

    Raises:
        DataError: The samples are pairs: DPO shuffles them whatever it is told.
    """
    if data.kind == "pair":
        raise DataError(
            "export.for: axolotl shuffles preference pairs (DPO) whatever it is told; expected "
            "another trainer for them: use trl, llama-factory or ms-swift"
        )
    found = survey(data, _shape(data.kind, ()))
    columns = tuple(n for n in ("tools", "tool calls", "reasoning", _UNTRAINED) if found[n])
    shape = _shape(data.kind, columns)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{NAME}.yaml", folder / f"{NAME}.jsonl"]
    write_shaped(paths[1], data.rows(), data, shape)
    if data.validation_file:
        paths.append(folder / f"{NAME}-validation.jsonl")
        write_shaped(paths[2], data.validation_rows(), data, shape)
    if data.kind == "chat":
        # templates have a place for the first, messages for the second; the third stays as it is
        del found["reasoning"], found[_UNTRAINED], found["open question"]
    notes = list(said_of_text(found) if data.kind == "text" else said(found, NAME, images=""))
    if data.kind == "text":
        notes.append("axolotl makes several samples of a text over sequence_len; later steps move")
    if data.kind == "labelled":
        notes.append(
            "axolotl writes labelled answers in ChatML; llama3.argilla_chat is for Llama 3"
        )
        if n := found["tools"]:
            holds = counted(n, "row holds", "rows hold")
            notes.append(f"{holds} tools, which stand in the system prompt, as JSON")
    write_text(paths[0], settings_text(_settings(data, columns), data, notes) + _COMMENTS)
    return paths


def _settings(data: OrderedDataSet, columns: tuple[str, ...]) -> dict[str, Any]:
    about: dict[str, Any] = {"ds_type": "json", "type": _TYPES[data.kind], "split": "train"}
    if data.kind == "chat":
        about["field_messages"] = "messages"
        keys = {"tool calls": "tool_calls", "reasoning": "reasoning_content"}
        named = [keys[name] for name in columns if name in keys]
        if named:  # else it looks for them in templates that call a message `message`, no others
            about["message_property_mappings"] = {k: k for k in ("role", "content", *named)}
        if _UNTRAINED in columns:
            about["message_field_training"] = "training"
    settings: dict[str, Any] = {
        "base_model": "MODEL",
        "output_dir": "trained",
        "datasets": [{"path": f"{NAME}.jsonl", **about}],
        "curriculum_sampling": True,
        "shuffle_merged_datasets": False,
        "sample_packing": False,
        "val_set_size": 0.0,
        "sequence_len": 2048,
        "excess_length_strategy": "truncate",
        "num_epochs": 1,
        "micro_batch_size": data.batch_size or 8,
        "gradient_accumulation_steps": 1,
        "optimizer": "adamw_torch",
        "lr_scheduler": "cosine",
        "learning_rate": 1e-5,
    }
    if data.kind == "chat":
        settings["chat_template"] = "tokenizer_default"
    if data.kind == "labelled":
        settings |= {"rl": "kto", "remove_unused_columns": False}
    if data.validation_file:
        settings["test_datasets"] = [{"path": f"{NAME}-validation.jsonl", **about}]
    return settings


def _shape(kind: Kind, columns: tuple[str, ...]) -> Any:
    """Row as `read_row` gives it → as axolotl takes it.

    Messages are JSON text: as a column of objects, a key that first appears after many rows would
    be an error, and tool calls would get each other's arguments.
    """

    def message(turn: Row) -> Row:
        out: Row = {k: turn[k] for k in _KEYS if k in turn}
        if turn.get("tool_calls"):
            out["tool_calls"] = [{"type": "function", "function": c} for c in calls(turn)]
        if "untrained" in turn:
            out["training"] = False
        return out

    def shape(row: Row) -> Row:
        if kind == "text":
            return {"text": row["text"]}
        if kind == "labelled":
            tools = [{"role": "system", "content": row["tools"]}] if "tools" in row else []
            messages = alternating(tools + turns(row))
            said = [{"role": t["role"], "content": whole(t)} for t in messages]
            return {"completion": said, "label": row["label"]}
        said = [message(turn) for turn in turns(row)]
        if not any(turn["role"] == "assistant" for turn in said):
            said.append({"role": "assistant", "content": ""})  # or it drops the row
        out = {"messages": json.dumps(said, ensure_ascii=False)}
        if "tools" in columns:
            out["tools"] = tools_text(row) or "[]"
        return out

    return shape


_COMMENTS: Final = """\
# In this folder: axolotl train axolotl.yaml --base-model MODEL
# A step: micro_batch_size x gradient_accumulation_steps x devices samples.
"""
