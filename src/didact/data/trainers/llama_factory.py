"""llama-factory: LLaMA-Factory, with its dataset_info.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from didact.core.atomic import write_text
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

NAME: Final = "llama-factory"
_STAGES: Final[dict[Kind, str]] = {"chat": "sft", "text": "pt", "pair": "dpo", "labelled": "kto"}
_TAGS: Final = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "observation",
    "function_tag": "function",
    "system_tag": "system",
}


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`llama-factory.yaml`, `dataset_info.json`, and the rows as LLaMA-Factory reads them.

    It drops rows whose turns do not alternate; they are joined so that they do.
    """
    found = survey(data, _shape(data.kind, ()))
    columns = tuple(name for name in ("tools", "images") if found[name])
    shape = _shape(data.kind, columns)
    parts = {"didact": (f"{NAME}.jsonl", data.rows)}
    if data.validation_file:
        parts["didact_validation"] = (f"{NAME}-validation.jsonl", data.validation_rows)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.values():
        write_shaped(folder / name, rows(), data, shape)
    info = {name: _about(file, data.kind, columns) for name, (file, _) in parts.items()}
    paths = [folder / f"{NAME}.yaml", folder / "dataset_info.json"]
    notes = said_of_text(found) if data.kind == "text" else said(found, "LLaMA-Factory")
    write_text(paths[0], settings_text(_settings(data), data, notes) + _COMMENTS)
    write_text(paths[1], json.dumps(info, indent=2) + "\n")
    return [*paths, *(folder / name for name, _ in parts.values())]


def _settings(data: OrderedDataSet) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "model_name_or_path": "MODEL",
        "output_dir": "trained",
        "stage": _STAGES[data.kind],
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": ".",
        "dataset": "didact",
        "cutoff_len": 2048,
        "disable_shuffling": True,
        "packing": False,
        "neat_packing": False,
        "streaming": False,
        "val_size": 0.0,
        "num_train_epochs": 1,
        "per_device_train_batch_size": data.batch_size or 8,
        "gradient_accumulation_steps": 1,
    }
    if data.validation_file:
        settings |= {"eval_dataset": "didact_validation", "eval_strategy": "epoch"}
    return settings


def _about(file: str, kind: Kind, columns: tuple[str, ...]) -> dict[str, Any]:
    """The entry of a file in dataset_info.json."""
    if kind == "text":
        return {"file_name": file, "columns": {"prompt": "text"}}
    about: dict[str, Any] = {
        "file_name": file,
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": _TAGS,
    }
    if kind == "pair":
        about["ranking"] = True
        about["columns"] |= {"chosen": "chosen", "rejected": "rejected"}
    if kind == "labelled":
        about["columns"]["kto_tag"] = "label"
    about["columns"] |= {name: name for name in columns}
    return about


def _shape(kind: Kind, columns: tuple[str, ...]) -> Any:
    """Row as `read_row` gives it → as LLaMA-Factory takes it, with the columns any row has."""

    def shape(row: Row) -> Row:
        if kind == "text":
            return {"text": row["text"]}
        out: Row = {}
        if kind == "pair":
            shared, chosen, rejected = pair(row, "LLaMA-Factory")
            said = [_message(turn) for turn in alternating(shared, answered=False)]
            out["chosen"] = {"role": "assistant", "content": whole(chosen)}
            out["rejected"] = {"role": "assistant", "content": whole(rejected)}
        else:
            said = [_message(turn) for turn in alternating(turns(row))]
        out["messages"] = said
        if kind == "labelled":
            out["label"] = row["label"]
        if "tools" in columns:
            out["tools"] = tools_text(row)
        if "images" in columns:
            out["images"] = row.get("images", [])
            missing = len(out["images"]) - sum(turn["content"].count("<image>") for turn in said)
            asked = next(turn for turn in said if turn["role"] != "system")
            asked["content"] = "<image>" * missing + asked["content"]  # it wants a mark for each
        return out

    return shape


def _message(turn: Message) -> Message:
    """A message in LLaMA-Factory's roles; text beside calls stands outside of their marks."""
    role, content = turn["role"], thought(turn)
    if turn.get("tool_calls"):
        made = json.dumps(calls(turn), ensure_ascii=False)
        role, content = "function", f"{content}<tool_call>{made}</tool_call>" if content else made
    return {"role": "observation" if role == "tool" else role, "content": content}


_COMMENTS: Final = """\
# In this folder: llamafactory-cli train llama-factory.yaml model_name_or_path=MODEL template=NAME
# template: without one, the tokenizer's own is taken.
# A step: per_device_train_batch_size x gradient_accumulation_steps x devices samples.
# max_samples and num_samples of dataset_info.json leave rows out, the second in a random order.
"""
