"""hf: Hugging Face's `Trainer`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from didact.core.atomic import write_text
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import script_text
from didact.data.export.trainer_settings import sequential, settings_text


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`hf.yaml`, the settings, and `train_hf.py`, a script that uses them.

    `Trainer` has no loss for preference pairs and labelled completions: settings alone then.
    """
    settings = folder / "hf.yaml"
    write_text(settings, settings_text(sequential(data), data))
    if data.kind in {"pair", "labelled"}:
        return [settings]
    script = folder / "train_hf.py"
    evaluate = "\n    eval_dataset=tokenized(eval_dataset)," if data.validation_file else ""
    body = _BODY.format(evaluate=evaluate)
    text = script_text(
        data, name=script.name, settings=settings.name, imports=_IMPORTS, body=body,
        learns_prompts=True,
    )  # fmt: skip
    write_text(script, text)
    return [settings, script]


_IMPORTS: Final = """\
from transformers import (
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)"""

_BODY: Final = """

def as_text(row):
    \"\"\"The text of a row, and whether the chat template made it.\"\"\"
    if "text" in row:
        return row["text"], False
    if "messages" not in row and isinstance(row["prompt"], str):
        return row["prompt"] + row["completion"], False
    turns = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
    if tokenizer.chat_template is None:
        return "\\n".join(turn["content"] for turn in turns), False
    tools = json.loads(row["tools"]) if row.get("tools") else None
    return tokenizer.apply_chat_template(turns, tools=tools, tokenize=False), True


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
