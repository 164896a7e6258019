"""Held-out files as tasks of lm-eval that need no network: YAML and JSON lines in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import yaml

from didact.core.arrays import Int1D
from didact.core.atomic import replacing, write_text
from didact.core.errors import DataError
from didact.core.render import SHARED
from didact.evaluation.evaluate import HeldOut
from didact.evaluation.options import (
    Options,
    Turn,
    last_answer,
    lettered,
    options_of,
    with_answer,
)
from didact.evaluation.settings import ChoicesFrom

NUMBER: Final = r"(-?[0-9][0-9,]*(?:\.[0-9]+)?)"  # thousands may have commas
_SOLVED: Final = re.compile(r"####\s*" + NUMBER + r"\s*\Z")
MOST_LABELS: Final = 200  # answers of a source that are taken for labels unasked
LEAST_USES: Final = 4  # and how often each must stand there on average


def write_tasks(
    files: Sequence[tuple[HeldOut, Int1D]],
    folder: Path,
    choices: ChoicesFrom | None = None,
    *,
    chat: bool = True,
) -> list[str]:
    """Write held-out files as tasks of lm-eval, one for each file and source; their names.

    The kind of a task follows from its rows. Worked answers that end with "#### number", as in
    GSM8K: `generate_until`, exact match of the last number said. Rows with options (`choices`, or
    letters in the prompt), and answers that repeat, as intents do: `multiple_choice`. Anything
    else: `loglikelihood`, whether the answer is the likeliest continuation.

    Args:
        files: The held-out files, and which of their rows.
        folder: Where `NAME.yaml` and `NAME.jsonl` go.
        choices: Where options come from; found by what the rows look like when not given.
        chat: Whether they are for a model with a chat template; else a new line parts prompt and
            answer.

    Raises:
        DataError: A row has no prompt or no answer, or its options are wrong; two tasks would have
            one name.
    """
    names: list[str] = []
    for file, every in files:
        codes = file.pool.source_codes[every]
        used = np.unique(codes).tolist()
        for code in used:
            source = file.pool.source_names[code]
            stem = file.name.split(".")[0]
            name = _plain(stem if len(used) == 1 else f"{stem}_{source.split('/')[-1]}")
            if name in names:
                raise DataError(
                    f"{file.path}: a second task would be named {name!r}; rename the file, or the "
                    f"source {source!r}"
                )
            rows = every[codes == code]
            _write_task(name, file, rows, folder, choices, chat=chat)
            names.append(name)
    return names


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _write_task(
    name: str, file: HeldOut, rows: Any, folder: Path, choices: ChoicesFrom | None, *, chat: bool
) -> None:
    turns = file.pool.read(rows, ["turns"]).column("turns").to_pylist()
    samples = list(_samples(file, rows, turns))
    options = _options(file, rows, turns, choices)
    task: dict[str, Any] = {
        "task": name, "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((folder / f"{name}.jsonl").absolute())}},
        "test_split": "test", "doc_to_text": "{{prompt}}", "target_delimiter": "\n",
        "num_fewshot": 0, "metadata": {"version": 1.0},
    }  # fmt: skip
    if options is not None:
        task |= {
            "output_type": "multiple_choice", "doc_to_choice": "{{options}}",
            "doc_to_target": "{{right}}",
            "metric_list": [_mean(metric) for metric in ("acc", "acc_norm")],
        }  # fmt: skip
        for sample, found in zip(samples, options, strict=True):
            sample |= {"options": list(found.texts), "right": found.right}
    elif all(_SOLVED.search(sample["answer"]) for sample in samples):
        task |= {
            "output_type": "generate_until", "doc_to_target": "{{number}}",
            "generation_kwargs": {"until": ["<|im_end|>", "\n\n\n"], "do_sample": False,
                                  "max_gen_toks": 256},
            "filter_list": [{"name": "last-number", "filter": [
                {"function": "regex", "group_select": -1, "regex_pattern": NUMBER},
                {"function": "take_first"}]}],
            "metric_list": [{**_mean("exact_match"), "regexes_to_ignore": [","],
                             "ignore_case": True}],
        }  # fmt: skip
        for sample in samples:
            found_number = _SOLVED.search(sample["answer"])
            sample["number"] = found_number[1].replace(",", "") if found_number else ""
    else:
        task |= {
            "output_type": "loglikelihood",
            # lm-eval puts no delimiter here, unlike before the options of a multiple choice
            "doc_to_target": "{{answer}}" if chat else "\n{{answer}}",
            "metric_list": [_mean("acc")],
        }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{name}.jsonl") as temporary:
        temporary.write_bytes(b"".join(orjson.dumps(s) + b"\n" for s in samples))
    text = yaml.safe_dump(task, sort_keys=False, allow_unicode=True)
    write_text(folder / f"{name}.yaml", text)


def _mean(metric: str) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}


def _samples(
    file: HeldOut, rows: Any, all_turns: Sequence[Sequence[Turn]]
) -> Iterator[dict[str, Any]]:
    """Id, prompt and answer of each row."""
    ids = file.pool.read(rows, ["id"]).column("id").to_pylist()
    for row, id_, turns in zip(rows.tolist(), ids, all_turns, strict=True):
        answer = last_answer(turns)
        before = [t["content"] for t in with_answer(turns, "")[:-1] if t["part"] == SHARED]
        prompt = "\n".join(before)
        if not prompt.strip() or answer is None:
            raise DataError(
                f"{file.path}: row {row + 1}: has no {'prompt' if answer else 'answer'}; lm-eval "
                "needs both: remove the row"
            )
        yield {"id": id_, "prompt": prompt, "answer": answer}


def _options(
    file: HeldOut, rows: Any, all_turns: Sequence[Sequence[Turn]], choices: ChoicesFrom | None
) -> list[Options] | None:
    """Options of a task's rows; None where not all of them have some."""
    answers = [(last_answer(turns) or "").strip() for turns in all_turns]
    labels = tuple(sorted(set(answers)))
    of_labels = [Options(labels, labels.index(answer)) for answer in answers]
    found: list[Options | None]
    if choices == "labels":
        found = [*of_labels]
    else:
        found = [None] * len(answers)
        if choices in {None, "column"}:
            found = options_of(file.pool, rows, choices, (), file.name)
        if choices == "letters" or (choices is None and None in found):
            places = [f"{file.name}: row {row + 1}" for row in rows.tolist()]
            found = [lettered(t, place) for t, place in zip(all_turns, places, strict=True)]
        repeat = 2 <= len(labels) <= MOST_LABELS and len(answers) >= LEAST_USES * len(labels)
        if choices is None and None in found and repeat:
            found = [*of_labels]
    whole = [each for each in found if each is not None]
    return whole if len(whole) == len(answers) else None
