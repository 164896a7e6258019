"""trl: TRL's trainer for the kind of sample (SFT, DPO or KTO), for GRPO, and for reward models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from didact.core.atomic import write_text
from didact.core.errors import DataError
from didact.core.pool import Kind
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import script_text
from didact.data.export.trainer_settings import sequential, settings_text

_CLASSES: Final[dict[Kind, tuple[str, str]]] = {
    "chat": ("SFTTrainer", "SFTConfig"),
    "text": ("SFTTrainer", "SFTConfig"),
    "pair": ("DPOTrainer", "DPOConfig"),
    "labelled": ("KTOTrainer", "KTOConfig"),
}
_LENGTH: Final = """\
# max_length: 2048  # unless set TRL cuts samples at 1,024 tokens, and drops those whose prompt is
#                     as long, which moves all later steps
"""
_REWARD_LENGTH: Final = """\
# max_length: 2048  # unless set TRL drops pairs of more than 1,024 tokens, which moves all later
#                     steps
"""
_PROMPT: Final = "in which the prompt leaves no room"
_GENERATIONS: Final = 8  # TRL's own default


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`trl.yaml`, the settings, and `train_trl.py`, a script that uses them."""
    trainer, config = _CLASSES[data.kind]
    values = sequential(data)
    if trainer == "SFTTrainer":
        values |= {"packing": False, "shuffle_dataset": False}
    evaluate = "\n    eval_dataset=eval_dataset," if data.validation_file else ""
    text = script_text(
        data,
        name="train_trl.py",
        settings="trl.yaml",
        imports=f"from trl import {config}, {trainer}",
        body=_BODY.format(trainer=trainer, config=config, evaluate=evaluate, dropped=_PROMPT),
    )
    return _written(folder, "trl", settings_text(values, data) + _LENGTH, text)


def write_reward(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`trl-reward.yaml` and `train_trl-reward.py`: a reward model out of pairs.

    Raises:
        DataError: The samples are no pairs.
    """
    if data.kind != "pair":
        raise DataError(
            f"export.for: trl-reward learns from pairs; the samples are of kind {data.kind}: "
            "use trl"
        )
    evaluate = "\n    eval_dataset=eval_dataset," if data.validation_file else ""
    text = script_text(
        data,
        name="train_trl-reward.py",
        settings="trl-reward.yaml",
        imports="from trl import RewardConfig, RewardTrainer",
        model="AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=1)",
        body=_REWARD
        + _BODY.format(
            trainer="RewardTrainer",
            config="RewardConfig",
            evaluate=evaluate,
            dropped="which one of the two goes beyond",
        ),
    )
    values = settings_text(sequential(data), data) + _REWARD_LENGTH
    return _written(folder, "trl-reward", values, text)


def write_grpo(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`trl-grpo.yaml` and `train_trl-grpo.py`: the prompts of chats, and a reward to be replaced.

    GRPO has a sampler of its own, which `train_sampling_strategy` does not reach.

    Raises:
        DataError: The samples are no chats.
    """
    if data.kind != "chat":
        raise DataError(
            f"export.for: trl-grpo takes the prompts of chats; the samples are of kind "
            f"{data.kind}: use trl"
        )
    values: dict[str, Any] = {
        **sequential(data),
        "shuffle_dataset": False,
        "num_generations": _GENERATIONS,
        "per_device_train_batch_size": _GENERATIONS,
    }
    notes = ["GRPO leaves out the last rows where they are fewer than a step takes"]
    evaluate = "\n    eval_dataset=prompts(eval_dataset)," if data.validation_file else ""
    text = script_text(
        data,
        name="train_trl-grpo.py",
        settings="trl-grpo.yaml",
        imports="from trl import GRPOConfig, GRPOTrainer",
        body=_GRPO.format(evaluate=evaluate),
        generates=True,
    )
    return _written(folder, "trl-grpo", settings_text(values, data, notes), text)


def _written(folder: Path, name: str, settings: str, script: str) -> list[Path]:
    paths = [folder / f"{name}.yaml", folder / f"train_{name}.py"]
    for path, text in zip(paths, (settings, script), strict=True):
        write_text(path, text)
    return paths


_BODY: Final = """
trainer = {trainer}(
    model=model,
    args={config}(output_dir=output_dir, **settings),
    train_dataset=train_dataset,{evaluate}
    processing_class=tokenizer,
)
lost = 0 if settings.get("packing") else len(train_dataset) - len(trainer.train_dataset)
if lost > 0:
    print(
        f"TRL drops {{lost}} of {{len(train_dataset)}} samples, for max_length: "
        f"{{trainer.args.max_length}}, {dropped}: the steps are not "
        "those of the order; set a larger one, or leave such samples out",
        file=sys.stderr,
    )
"""

_REWARD: Final = """
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
model.config.pad_token_id = tokenizer.pad_token_id
"""

_GRPO: Final = """

def reward(completions, answer, **columns):
    \"\"\"1 where a completion ends with the row's own answer. Write yours here.\"\"\"
    said = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [float(s.rstrip().endswith(a.strip())) for s, a in zip(said, answer)]


def prompts(dataset):
    \"\"\"What stands before the last answer, and that answer for the reward.\"\"\"
    found = []
    for row in dataset:
        turns = row.pop("messages", None)
        if turns is None:
            prompt, answer = row.pop("prompt"), row.pop("completion")
        else:
            last = max((i for i, t in enumerate(turns) if t["role"] == "assistant"), default=None)
            prompt, answer = turns[:last], turns[last:] if last is not None else []
        if not isinstance(answer, str):
            answer = answer[0]["content"] if answer else ""
        found.append({{"prompt": prompt, "answer": answer, **row}})
    return as_dataset(found)


if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
trainer = GRPOTrainer(
    model=model,
    args=GRPOConfig(output_dir=output_dir, **settings),
    train_dataset=prompts(train_dataset),{evaluate}
    processing_class=tokenizer,
    reward_funcs=reward,
)
"""
