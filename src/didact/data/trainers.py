"""Ready settings for trainers that keep the order. Most trainers shuffle unless they are told not to.

What keeps the order, by trainer (each run on a small model by the test suite where it is installed):

- HF `Trainer` and TRL, transformers ≥ 5.2: `train_sampling_strategy: sequential`.
- TRL's `packing` reorders by length under its default strategy `bfd`; `packing: false` here.
- TRL's `shuffle_dataset` stays false.
- Epochs are written out as data, so `num_train_epochs: 1`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from didact.core.pool import Kind
from didact.data.atomic import write_text

TrainerName = Literal["none", "hf", "trl"]

_HEADER = """\
# Settings that keep the order of {first}: add your own beside them, change none of these.
"""

_TRL_CLASS: dict[Kind, tuple[str, str]] = {
    "chat": ("SFTTrainer", "SFTConfig"),
    "text": ("SFTTrainer", "SFTConfig"),
    "pair": ("DPOTrainer", "DPOConfig"),
    "labelled": ("KTOTrainer", "KTOConfig"),
}

# row → what the trainer reads, by the rows' format; C maps didact's names to the user's columns
_READ_ROW: dict[str, str] = {
    "messages": """\
    return {"messages": row[C.get("messages", "messages" if "messages" in row else "conversations")]}""",
    "sharegpt": """\
    roles = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}
    turns = row[C.get("messages", "conversations" if "conversations" in row else "messages")]
    return {"messages": [{"role": roles.get(t["from"], t["from"]), "content": t["value"]} for t in turns]}""",
    "alpaca": """\
    parts = [row[C.get("instruction", "instruction")], row.get(C.get("input", "input")) or ""]
    return {"prompt": "\\n".join(p for p in parts if p), "completion": row[C.get("output", "output")]}""",
    "prompt_completion": """\
    return {"prompt": row[C.get("prompt", "prompt")], "completion": row[C.get("completion", "completion")]}""",
    "text": """\
    return {"text": row[C.get("text", "text")]}""",
    "preference": """\
    if "chosen_messages" in row:
        return {"chosen": row["chosen_messages"], "rejected": row["rejected_messages"]}
    keep = {k: row[C.get(k, k)] for k in ("prompt", "chosen", "rejected") if C.get(k, k) in row}
    if "conversations" in row:  # LLaMA-Factory's ranking format
        roles = {"human": "user", "gpt": "assistant"}
        turn = lambda t: {"role": roles.get(t["from"], t["from"]), "content": t["value"]}
        keep = {"prompt": [turn(t) for t in row["conversations"]],
                "chosen": [turn(row["chosen"])], "rejected": [turn(row["rejected"])]}
    return keep""",
    "labelled": """\
    label = row[C.get("label", "label" if "label" in row else "kto_tag")]
    if "messages" in row:
        return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:], "label": label}
    return {"prompt": row["prompt"], "completion": row["completion"], "label": label}""",
}

_SCRIPT = '''\
"""Train on {first} in the order it was written. Usage: python {script} MODEL OUTPUT_DIR

MODEL is a local folder or a model name. The settings beside this file keep the order.
"""

import json
import sys
from pathlib import Path

import yaml
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
{imports}

HERE = Path(__file__).resolve().parent
DATA = {data_files}  # in order
C = {columns}  # name here: column in the file


def read_row(row):
{read_row}


def read(names):
    for name in names:
        with open(HERE.parent / name, encoding="utf-8") as lines:
            for line in lines:
                yield read_row(json.loads(line))


model_name, output_dir = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(model_name)
model = AutoModelForCausalLM.from_pretrained(model_name)
settings = yaml.safe_load((HERE / "{settings}").read_text(encoding="utf-8"))
{batch}train_dataset = Dataset.from_list(list(read(DATA)))
{validation}{body}
'''

_BATCH = '''\
# {batch_size} samples per optimizer step over all devices, as the order was made for
world = int(__import__("os").environ.get("WORLD_SIZE", "1"))
per_device = settings["per_device_train_batch_size"]
if {batch_size} % (per_device * world):
    raise SystemExit(f"{batch_size} samples per step do not divide over {{world}} devices of {{per_device}}")
settings["gradient_accumulation_steps"] = {batch_size} // (per_device * world)
'''

_TRL_BODY = '''\
trainer = {trainer}(
    model=model,
    args={config}(output_dir=output_dir, **settings),
    train_dataset=train_dataset,
    processing_class=tokenizer,{eval_argument}
)
trainer.train()'''

_HF_BODY = '''\

def tokenize(row):
    if "messages" in row:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    else:
        text = row.get("text") or "\\n".join([row["prompt"], row["completion"]])
    return tokenizer(text, truncation=True, max_length=2048)


if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
trainer = Trainer(
    model=model,
    args=TrainingArguments(output_dir=output_dir, **settings),
    train_dataset=train_dataset.map(tokenize, remove_columns=train_dataset.column_names),
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),{eval_argument}
)
trainer.train()'''


def order_settings(
    trainer: TrainerName, kind: Kind, batch_size: int | None
) -> dict[str, Any]:
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

    The script reads JSONL; for other files only the settings are written.
    """
    settings_path = folder / f"{trainer}.yaml"
    lines = [_HEADER.format(first=data_files[0])]
    if epochs > 1:
        lines.append(f"# {epochs} epochs are written out in the files.\n")
    for name, value in order_settings(trainer, kind, batch_size).items():
        lines.append(f"{name}: {json.dumps(value)}\n")
    write_text(settings_path, "".join(lines))
    if not data_files[0].endswith(".jsonl") or (trainer == "hf" and kind in {"pair", "labelled"}):
        return [settings_path]
    script = f"train_{trainer}.py"
    names = _TRL_CLASS[kind]
    has_eval = validation_file is not None
    eval_argument = "\n    eval_dataset=eval_dataset," if has_eval else ""
    if trainer == "trl":
        imports = f"from trl import {names[1]}, {names[0]}"
        body = _TRL_BODY.format(trainer=names[0], config=names[1], eval_argument=eval_argument)
    else:
        imports = "from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments"
        if has_eval:
            eval_argument = (
                "\n    eval_dataset=eval_dataset.map("
                "tokenize, remove_columns=eval_dataset.column_names),"
            )
        body = _HF_BODY.format(eval_argument=eval_argument)
    text = _SCRIPT.format(
        first=data_files[0],
        script=script,
        imports=imports,
        data_files=list(data_files),
        columns=dict(columns),
        read_row=_READ_ROW[formats[0]],
        settings=settings_path.name,
        batch=_BATCH.format(batch_size=batch_size) if batch_size is not None else "",
        validation=f"eval_dataset = Dataset.from_list(list(read([{validation_file!r}])))\n" if has_eval else "",
        body=body,
    )
    write_text(folder / script, text)
    return [settings_path, folder / script]
