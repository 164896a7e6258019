"""Ready settings for trainers that keep the order. Most shuffle unless they are told not to.

What keeps the order, by trainer (each run on a small model by the test suite, where installed):

- HF `Trainer` and TRL, transformers ≥ 5.2: `train_sampling_strategy: sequential`.
- TRL's `packing` reorders by length under its default strategy `bfd`; `packing: false` here.
- TRL's `shuffle_dataset` stays false.
- Epochs are written out as data, so `num_train_epochs: 1`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from didact.core.atomic import write_text
from didact.core.pool import Kind

TrainerName = Literal["none", "hf", "trl"]

_TRL_CLASS: Final[dict[Kind, tuple[str, str]]] = {
    "chat": ("SFTTrainer", "SFTConfig"),
    "text": ("SFTTrainer", "SFTConfig"),
    "pair": ("DPOTrainer", "DPOConfig"),
    "labelled": ("KTOTrainer", "KTOConfig"),
}


def order_settings(trainer: TrainerName, kind: Kind, batch_size: int | None) -> dict[str, Any]:
    """The arguments that keep the order, for `TrainingArguments` or TRL's config of this kind."""
    settings: dict[str, Any] = {
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 1,
        "ignore_data_skip": False,
    }
    if batch_size is not None:
        settings["per_device_train_batch_size"] = batch_size
    if trainer == "trl" and kind in {"chat", "text"}:
        settings |= {"packing": False, "shuffle_dataset": False}
    return settings


def write_trainer_files(
    folder: Path,
    *,
    trainer: TrainerName,
    data_files: Sequence[str],
    validation_file: str | None,
    kind: Kind,
    formats: Sequence[str],
    columns: Mapping[str, str],
    batch_size: int | None,
    epochs: int,
) -> list[Path]:
    """`<trainer>.yaml`, the settings, and `train_<trainer>.py`, a script that uses them.

    HF's `Trainer` has no loss for preference pairs and labelled completions: settings alone then.

    Args:
        folder: Where they go, beside the data files' folder.
        trainer: Whose.
        data_files: Names of the ordered files, in order.
        validation_file: Name of the validation split's file.
        kind: What the samples are.
        formats: The formats of their rows.
        columns: The user's column mapping.
        batch_size: Samples per optimizer step over all devices.
        epochs: How often each sample is written out.
    """
    settings = folder / f"{trainer}.yaml"
    write_text(settings, _settings_text(trainer, kind, data_files[0], batch_size, epochs))
    if trainer == "hf" and kind in {"pair", "labelled"}:
        return [settings]
    script = folder / f"train_{trainer}.py"
    parts = _Parts(trainer, kind, evaluate=validation_file is not None)
    shape = "messages" if {"messages", "sharegpt"} & set(formats) else "prompt_completion"
    if shape != "messages" and "alpaca" not in formats:
        shape = "strings"
    text = _SCRIPT.format(
        first=data_files[0],
        script=script.name,
        imports=parts.imports,
        data_files=json.dumps(list(data_files)),
        columns=json.dumps(dict(columns), ensure_ascii=False),
        open_rows=_OPEN_ROWS[data_files[0].rpartition(".")[2]],
        read_row=(_READ_CHAT[shape] if kind == "chat" else _READ_ROW[kind]).strip("\n"),
        settings=settings.name,
        batch=_BATCH.format(batch_size=batch_size) if batch_size is not None else "",
        validation=f"eval_dataset = load([{validation_file!r}])\n" if validation_file else "",
        body=parts.body.strip("\n"),
    )
    write_text(script, text)
    return [settings, script]


def _settings_text(
    trainer: TrainerName, kind: Kind, first: str, batch_size: int | None, epochs: int
) -> str:
    lines = [f"# Settings that keep the order of {first}: add yours beside them, change none.\n"]
    if epochs > 1:
        lines.append(f"# {epochs} epochs are written out in the files.\n")
    for name, value in order_settings(trainer, kind, batch_size).items():
        lines.append(f"{name}: {json.dumps(value)}\n")
    if trainer == "trl":
        lines.append("# max_length: 2048  # TRL cuts samples at 1,024 tokens unless it is set\n")
    return "".join(lines)


class _Parts:
    """The parts of a script that depend on the trainer."""

    def __init__(self, trainer: TrainerName, kind: Kind, *, evaluate: bool) -> None:
        if trainer == "trl":
            trainer_class, config_class = _TRL_CLASS[kind]
            self.imports = f"from trl import {config_class}, {trainer_class}"
            self.body = _TRL_BODY.format(
                trainer=trainer_class,
                config=config_class,
                evaluate="\n    eval_dataset=eval_dataset," if evaluate else "",
            )
        else:
            self.imports = (
                "from transformers import (\n    DataCollatorForLanguageModeling,\n    Trainer,\n"
                "    TrainingArguments,\n)"
            )
            self.body = _HF_BODY.format(
                evaluate="\n    eval_dataset=tokenized(eval_dataset)," if evaluate else ""
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

_READ_CHAT: Final = {
    "messages": """
def read_row(row):
    turns = chat(row)
    if turns is None and column(row, "output") is not None:
        turns = side(question(row), "user") + side(column(row, "output"), "assistant")
    elif turns is None:
        turns = side(column(row, "prompt"), "user") + side(column(row, "completion"), "assistant")
    return {"messages": opening(row) + turns}
""",
    "prompt_completion": """
def read_row(row):
    if column(row, "output") is not None:
        prompt, answer = question(row), column(row, "output")
    else:
        prompt, answer = column(row, "prompt"), column(row, "completion")
    return {"prompt": opening(row) + side(prompt, "user"), "completion": side(answer, "assistant")}
""",
    "strings": """
def read_row(row):
    prompt, answer = column(row, "prompt"), column(row, "completion")
    if isinstance(prompt, str) and isinstance(answer, str):
        return {"prompt": prompt, "completion": answer}  # as they are, without a chat template
    return {"prompt": opening(row) + side(prompt, "user"), "completion": side(answer, "assistant")}
""",
}

_READ_ROW: Final[dict[Kind, str]] = {
    "text": """
def read_row(row):
    return {"text": column(row, "text")}
""",
    "pair": """
def read_row(row):
    chosen, rejected = row.get("chosen_messages"), row.get("rejected_messages")
    if chosen is None:
        chosen, rejected = column(row, "chosen"), column(row, "rejected")
    prompt = column(row, "prompt")
    if prompt is None:
        prompt = question(row) or chat(row)
    if isinstance(chosen, str) and (prompt is None or isinstance(prompt, str)):
        out = {"chosen": chosen, "rejected": rejected}
        return {"prompt": prompt, **out} if prompt is not None else out
    chosen, rejected = side(chosen, "assistant"), side(rejected, "assistant")
    if prompt is None or chosen[0]["role"] != "assistant":
        return {"chosen": chosen, "rejected": rejected}  # both begin with the prompt
    prompt = opening(row) + side(prompt, "user")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
""",
    "labelled": """
def read_row(row):
    label = column(row, "label")
    label = row["kto_tag"] if label is None else label
    turns = chat(row)
    if turns is not None:
        turns = opening(row) + turns
        return {"prompt": turns[:-1], "completion": turns[-1:], "label": label}
    if column(row, "prompt") is None:
        prompt, answer = question(row), column(row, "output")
    else:
        prompt, answer = column(row, "prompt"), column(row, "completion")
    if isinstance(prompt, str) and isinstance(answer, str) and not opening(row):
        return {"prompt": prompt, "completion": answer, "label": label}
    prompt = opening(row) + side(prompt, "user")
    return {"prompt": prompt, "completion": side(answer, "assistant"), "label": label}
""",
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

_TRL_BODY: Final = """
trainer = {trainer}(
    model=model,
    args={config}(output_dir=output_dir, **settings),
    train_dataset=train_dataset,{evaluate}
    processing_class=tokenizer,
)
"""

_HF_BODY: Final = """

def as_text(row):
    \"\"\"The text of a row, and whether the chat template made it.\"\"\"
    if "text" in row:
        return row["text"], False
    if "messages" not in row and isinstance(row["prompt"], str):
        return row["prompt"] + row["completion"], False
    turns = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
    if tokenizer.chat_template is None:
        return "\\n".join(turn["content"] for turn in turns), False
    return tokenizer.apply_chat_template(turns, tokenize=False), True


def tokenize(row):
    text, templated = as_text(row)
    if not templated:
        text += tokenizer.eos_token or ""
    return tokenizer(
        text, truncation=True, max_length=MAX_LENGTH, add_special_tokens=not templated
    )


def tokenized(dataset):
    return dataset.map(tokenize, remove_columns=dataset.column_names)


MAX_LENGTH = 2048  # tokens; longer samples are cut
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
trainer = Trainer(
    model=model,
    args=TrainingArguments(output_dir=output_dir, **settings),
    train_dataset=tokenized(train_dataset),{evaluate}
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
"""
