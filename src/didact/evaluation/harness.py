"""Accuracy through lm-eval: its own tasks, or those written by `evaluation.tasks`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from didact.core.errors import ConfigError, DataError, need
from didact.core.protocols import Device, Dtype
from didact.evaluation.intervals import NOTHING, Interval, Z, share_interval
from didact.evaluation.model import EvaluatedModel
from didact.execution.devices import local_devices
from didact.models.chat_template import rendered
from didact.models.folder import opening

LONGEST: Final = 256  # tokens of a generated answer; half the context where that is less
_LOWER_IS_BETTER: Final = frozenset({"perplexity", "word_perplexity", "byte_perplexity",
                                     "bits_per_byte", "brier_score"})  # fmt: skip
_SHARES: Final = frozenset({"acc", "acc_norm", "exact_match"})


def run_tasks(
    model: EvaluatedModel,
    tasks: Sequence[str],
    *,
    folder: Path | None = None,
    limit: int | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: int = 8,
) -> list[dict[str, Any]]:
    """Run tasks of lm-eval on a model, in its chat template where it has one.

    Args:
        model: The model.
        tasks: Names of tasks.
        folder: Where `write_tasks` wrote them; then no network is used. None for lm-eval's own,
            whose data it fetches.
        limit: Most samples of a task; all when not given.
        device: Where it runs.
        dtype: Type of weights and arithmetic.
        batch_size: Samples of a batch.

    Returns:
        Records as of `results.summarise`; `low` and `high` are 95 % over samples.

    Raises:
        MissingDependencyError: lm-eval is not installed.
        ConfigError: There is no such task.
        DataError: The data of a task cannot be reached.

    **Source:** lm-eval (Gao et al., "A framework for few-shot language model evaluation").
    **Cost:** a forward pass for each option or answer, and one for each token generated; not
    metered.
    """
    need("evaluating with lm-eval", "eval")
    with _offline(folder is not None):
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        manager = TaskManager(
            include_path=None if folder is None else str(folder), include_defaults=folder is None
        )
        unknown = [name for name in tasks if name not in manager.all_tasks]
        if unknown:
            raise ConfigError(
                f"--tasks {unknown[0]}: lm-eval knows no such task; 'lm-eval ls tasks' lists them"
            )
        arguments: dict[str, Any] = {
            "pretrained": str(model.path), "device": local_devices(device)[0], "dtype": dtype,
            "trust_remote_code": False,
        }  # fmt: skip
        if model.adapted:
            arguments["peft"] = str(model.folder)
        arguments["tokenizer"] = str(model.tokenizer_folder)
        short = model.spec().context // 2
        generated = {"max_gen_toks": short} if short < LONGEST else None
        with opening(model.given, "lm-eval cannot open it"):
            opened = HFLM(**arguments, batch_size=batch_size)
        try:
            opened.apply_chat_template = partial(shown, opened.tokenizer)
            found = simple_evaluate(
                model=opened, tasks=list(tasks), limit=limit, task_manager=manager,
                apply_chat_template=model.has_chat_template, bootstrap_iters=100, log_samples=False,
                gen_kwargs=generated,
            )  # fmt: skip
        except (OSError, ConnectionError) as error:
            raise DataError(
                f"the data of {', '.join(tasks)} cannot be reached ({error}); give held-out files "
                "with --lm-eval instead, which need no network"
            ) from error
    return list(_records(found, model.given))


def shown(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool = True,  # noqa: FBT001, FBT002 - as lm-eval calls it
) -> str:
    """A conversation as lm-eval shows it, in a chat template that is bounded."""
    from jinja2.exceptions import TemplateError

    how = {"prompt": add_generation_prompt, "unfinished": not add_generation_prompt}
    try:
        return rendered(tokenizer, messages, **how)
    except TemplateError:  # of the system's role, lm-eval holds
        rest = [message for message in messages if message["role"] != "system"]
    try:
        return rendered(tokenizer, rest, **how)
    except TemplateError as error:
        raise DataError(
            f"the model's chat template refuses a conversation of {len(rest)} messages ({error}); "
            "leave the task out, or take the template out of the tokenizer"
        ) from error


def _records(found: Mapping[str, Any], model: str) -> Iterator[dict[str, Any]]:
    """Results of lm-eval as records."""
    for task, results in found["results"].items():
        n = found.get("n-samples", {}).get(task, {}).get("effective")
        directions = found.get("higher_is_better", {}).get(task, {})
        for key, value in results.items():
            name, _, kind = key.partition(",")
            if not kind or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = results.get(f"{name}_stderr,{kind}")
            known = isinstance(error, int | float) and math.isfinite(error)
            ends = _ends(name, float(value), float(error) if known else None, n)
            yield {
                "model": model, "file": "", "task": task, "source": "",
                "metric": name if kind == "none" else f"{name} ({kind})",
                "higher_is_better": bool(directions.get(name, name not in _LOWER_IS_BETTER)),
                "value": float(value), "low": ends[0], "high": ends[1], "n": n, "unit": "samples",
            }  # fmt: skip


def _ends(name: str, value: float, error: float | None, n: int | None) -> Interval:
    """The interval of a result: of a share that of shares, else ±1.96 standard errors."""
    if name in _SHARES and n:
        return share_interval(value * n, n)
    return NOTHING if error is None else (value - Z * error, value + Z * error)


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:  # noqa: FBT001 - one condition
    """A block in which libraries of the hub fetch nothing, where that is wanted."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if wanted else ()
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
