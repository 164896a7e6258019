"""trl: TRL's trainer for the kind of sample: SFT, DPO or KTO."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from didact.core.atomic import write_text
from didact.core.pool import Kind
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import script_text, sequential, settings_text

_CLASSES: Final[dict[Kind, tuple[str, str]]] = {
    "chat": ("SFTTrainer", "SFTConfig"),
    "text": ("SFTTrainer", "SFTConfig"),
    "pair": ("DPOTrainer", "DPOConfig"),
    "labelled": ("KTOTrainer", "KTOConfig"),
}


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`trl.yaml`, the settings, and `train_trl.py`, a script that uses them."""
    settings, script = folder / "trl.yaml", folder / "train_trl.py"
    values = sequential(data)
    if data.kind in {"chat", "text"}:
        values |= {"packing": False, "shuffle_dataset": False}
    note = "# max_length: 2048  # TRL cuts samples at 1,024 tokens unless it is set\n"
    write_text(settings, settings_text(values, data) + note)
    trainer, config = _CLASSES[data.kind]
    evaluate = "\n    eval_dataset=eval_dataset," if data.validation_file else ""
    text = script_text(
        data,
        name=script.name,
        settings=settings.name,
        imports=f"from trl import {config}, {trainer}",
        body=_BODY.format(trainer=trainer, config=config, evaluate=evaluate),
    )
    write_text(script, text)
    return [settings, script]


_BODY: Final = """
trainer = {trainer}(
    model=model,
    args={config}(output_dir=output_dir, **settings),
    train_dataset=train_dataset,{evaluate}
    processing_class=tokenizer,
)
"""
