"""Training a causal language model on a pool, in the order given."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Int1D, UInt64s
from didact.core.atomic import write_text
from didact.core.cost import Cost, Meter
from didact.core.errors import BudgetError, ConfigError, DataError
from didact.core.manifest import fingerprint
from didact.core.pieces import ignore
from didact.core.pool import Pool
from didact.core.protocols import Progress, ignore_progress
from didact.core.scores import TrainingOrder, check_pool
from didact.execution.devices import local_devices
from didact.models.architecture import default_lora_targets
from didact.models.encode import Encoding, check_chat_template
from didact.models.folder import RECORD, digest, find
from didact.models.language_model import LanguageModel, open_model, torch_dtype
from didact.models.saving import check_free, quiet, saving
from didact.training.adapters import NewAdapters, add_adapters, save_merged
from didact.training.averaging import Averager, last_ones, moving
from didact.training.foresight import encoding, executed_flops
from didact.training.loop import Recipe, train_in_place
from didact.training.ranks import is_first, meet, one_first, own_device, processes
from didact.training.samples import Samples, foretold, steps_ahead
from didact.training.settings import DEFAULT_BATCH, Seeds, TrainSettings, tokens_per_batch
from didact.training.telemetry import Step, cost_so_far, rows_digest
from didact.training.trained import AVERAGED, Trained, read_trained, seen_by, write_trained
from didact.training.utilization import device_name, peak_flops_per_second


def train(
    pool: Pool,
    order: TrainingOrder | npt.ArrayLike,
    model: str | Path,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    seeds: Seeds | None = None,
    replace_other: bool = False,
    progress: Callable[[Progress], None] = ignore_progress,
    meter: Meter | None = None,
    tell: Callable[[str], None] = ignore,
) -> Trained:
    """Train a model on rows of a pool, in exactly this sequence, once through.

    The new model appears at `out` whole or not at all. Until then `.OUT.training` beside it holds
    the checkpoints from which the same call goes on; a finished `out` is not trained again. On the
    CPU the same call gives the same weights, interrupted or not. Under `accelerate launch` or
    torchrun each step is shared out among the processes; its rows, its loss and its learning rate
    are those of one process.

    Args:
        pool: The pool of the samples.
        order: Rows in sequence; epochs are written out in it.
        model: A folder with a causal language model (safetensors), or a hub name.
        out: Folder of the trained model.
        settings: The settings of the training.
        seeds: `init` is that of adapters and of dropout, where there are any; masks belong to step
            and sample, however a step is split into micro-batches. The others are only noted.
        replace_other: Remove a model of another training at `out`, or its checkpoints, instead of
            refusing to go on.
        progress: Told of every step.
        meter: Charged with FLOPs and tokens; what an interrupted or a finished run spent is value.
        tell: Called with a message where a checkpoint is damaged.

    Raises:
        ConfigError: `out` or its checkpoints belong to another training, or a setting does not fit.
        DataError: The model cannot be opened; no sample has a loss.
        ExecutionError: Loss or gradient stop being finite, or memory runs out; names step and rows.

    **Source:** AdamW (arXiv:1711.05101), cosine schedule (arXiv:1608.03983), LoRA
    (arXiv:2106.09685).
    **Cost:** about 6 FLOPs per parameter and token, and attention; see `accounting.flops`.
    """
    settings, seeds, meter = settings or TrainSettings(), seeds or Seeds(init=0), meter or Meter()
    out = Path(out)
    rows = _rows(pool, order)
    epochs = order.epochs if isinstance(order, TrainingOrder) else 1
    path = find(model)
    batch_size = _batch_size(settings, order)
    device = own_device(local_devices(settings.device)[0])
    precise = settings.dtype == "float64"
    adapters = _adapters(path, settings, seeds)
    with quiet(), open_model(path, device=device, dtype="float64" if precise else "float32") as lm:
        how = _encoding(pool, lm.tokenizer, settings, lm.context)
        key = fingerprint(
            [digest(path), pool.fingerprint, rows_digest(rows), epochs, asdict(settings),
             batch_size, seeds.init]
        )  # fmt: skip
        with one_first(device):
            if (found := _finished(out, key, replace_other=replace_other)) is not None:
                meter.found(found.cost)
                return found
            work = _checkpoints_folder(out, key, replace_other=replace_other)
        training = lm if adapters is None else add_adapters(lm, adapters)
        recipe = _recipe(settings, seeds, batch_size, device)
        samples = Samples(pool, [rows], lm.tokenizer, how, passes=epochs)
        flops = executed_flops(lm.spec, settings)
        ending = _ending(samples, recipe, settings, flops, progress)
        recipe, n_steps = replace(recipe, max_steps=ending.steps), ending.steps
        read = rows[: n_steps * batch_size]  # it may end before the order does
        averager = _averager(settings)
        arithmetic = torch_dtype(settings.dtype, device)
        steps, earlier = train_in_place(
            training, samples, recipe, work, flops=flops, meter=meter,
            mixed=arithmetic.itemsize == 2, progress=progress,
            callbacks=[averager] if averager else [], tell=tell,
        )  # fmt: skip
        before, whole = cost_so_far(steps[:earlier]), cost_so_far(steps)
        meter.found(before)
        meter.add(Cost(flops=whole.flops - before.flops, tokens=whole.tokens - before.tokens))
        about = {
            "fingerprint": key, "pool": pool.fingerprint, "model": digest(path),
            "settings": {**asdict(settings), "batch_size": batch_size}, "seeds": asdict(seeds),
            "set": fingerprint(np.unique(pool.content_hash[read]).tolist()),
            "rows": len(np.unique(read)), "epochs": epochs, "batch_size": batch_size,
            "n_params": lm.spec.n_total, "flops": whole.flops, "tokens": whole.tokens,
            "foretold_flops": ending.flops,
            **_speed(steps, device, str(arithmetic).removeprefix("torch.")),
            "notes": [*ending.notes, *_notes(lm, settings, seeds)],
        }  # fmt: skip
        if is_first():
            with saving(out) as folder:
                _save(training, path, averager, settings, folder)
                spent = meter.bill.own
                cost = replace(
                    whole, cpu_seconds=spent.cpu_seconds, device_seconds=spent.device_seconds
                )
                seen = _seen(pool, read, path)
                write_trained(folder, steps, seen, {**about, "weights": "last step"}, cost)
                if averager is not None:
                    average = {**about, "weights": settings.average}
                    write_trained(folder / AVERAGED, steps, seen, average, cost)
            shutil.rmtree(work)
        meet(device)
    return replace(read_trained(out), reused=False)


def _recipe(settings: TrainSettings, seeds: Seeds, batch_size: int, device: str) -> Recipe:
    same = {f.name for f in fields(Recipe)} & {f.name for f in fields(TrainSettings)}
    given = {name: getattr(settings, name) for name in same}
    given["batch_size"] = batch_size
    given["tokens_per_batch"] = settings.tokens_per_batch or tokens_per_batch(device)
    return Recipe(**given, seed=seeds.init or 0)


def _speed(steps: Sequence[Step], device: str, dtype: str) -> dict[str, Any]:
    """Where the steps ran, how long they took, and what of the device they used."""
    last = steps[-1]
    seconds = float(last.seconds or 0)
    padded = sum(s.executed or 0 for s in steps)
    useful = (last.total_flops or 0) * (last.total_tokens or 0) / max(padded, 1)
    peak = processes() * peak_flops_per_second(device, dtype)
    return {
        "seconds": seconds, "device": device_name(device), "devices": processes(),
        "dtype": dtype, "peak_flops_per_second": peak, "mfu": useful / max(seconds, 1e-9) / peak,
    }  # fmt: skip


def _adapters(path: Path, settings: TrainSettings, seeds: Seeds) -> NewAdapters | None:
    if settings.lora_rank is None:
        return None
    return NewAdapters(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha or 2.0 * settings.lora_rank,
        dropout=settings.lora_dropout,
        targets=settings.lora_targets or default_lora_targets(path),
        seed=seeds.init or 0,
    )


@dataclass(frozen=True, slots=True)
class _Ending:
    """Where a training ends, before it begins.

    Attributes:
        steps: Number of its steps.
        flops: What they are foretold to execute.
        notes: Sentences on what ends it.
    """

    steps: int
    flops: float
    notes: tuple[str, ...] = ()


def _ending(
    samples: Samples,
    recipe: Recipe,
    settings: TrainSettings,
    flops: Callable[[int, float], float],
    progress: Callable[[Progress], None],
) -> _Ending:
    """The steps that are done: all, or those that the FLOPs pay, counted as they will be executed.

    Raises:
        BudgetError: They do not pay the first step.
    """
    steps = samples.steps(recipe.batch_size, recipe.max_steps)
    shape = {
        "batch_size": recipe.batch_size, "steps": steps, "tokens_per_batch": recipe.tokens_per_batch
    }  # fmt: skip
    if settings.flops is None:
        expected = foretold(samples, **shape)
        return _Ending(steps, flops(expected.tokens, expected.squares))
    ahead = steps_ahead(samples, **shape, devices=processes(), progress=progress)
    so_far = np.cumsum([flops(ran.tokens, ran.squares) for ran in ahead])
    paid = int(np.searchsorted(so_far, settings.flops, side="right"))
    if not paid:
        raise BudgetError(
            f"train.flops={settings.flops:.4g}: the first step of {recipe.batch_size} samples "
            f"takes {so_far[0]:.4g}; lower batch_size or max_length, or raise the budget"
        )
    whole = float(so_far[paid - 1])
    if paid == steps:
        left = f"{settings.flops - whole:.4g} of the budget's {settings.flops:.4g} FLOPs are left"
        return _Ending(steps, whole, (f"all {steps:,} steps were done; {left}",))
    note = (
        f"ended at step {paid:,} of {steps:,}: the budget of {settings.flops:.4g} FLOPs, of which "
        f"{whole:.4g} are used and the next step would take {so_far[paid] - whole:.4g}"
    )
    return _Ending(paid, whole, (note,))


def _averager(settings: TrainSettings) -> Averager | None:
    if settings.average == "ema":
        return Averager(moving(settings.ema_decay))
    if settings.average == "last":
        return Averager(last_ones(settings.average_last, settings.average_every))
    return None


def _notes(model: LanguageModel, settings: TrainSettings, seeds: Seeds) -> list[str]:
    """Sentences on settings that turn out to do nothing."""
    dropout = any(
        float(getattr(part, "p", 0)) > 0
        for part in model.module.modules()
        if "Dropout" in type(part).__name__
    ) or any(
        float(value or 0) > 0
        for name, value in vars(model.module.config).items()
        if name.endswith(("dropout", "_pdrop")) and isinstance(value, int | float)
    )
    if seeds.init and settings.lora_rank is None and not settings.params and not dropout:
        why = "the weights come from a folder, and neither adapters nor dropout draw"
        return [f"seed init={seeds.init} changes nothing: {why}"]
    return []


def _save(
    model: LanguageModel,
    base: Path,
    averager: Averager | None,
    settings: TrainSettings,
    folder: Path,
) -> None:
    """The model, and the averaged one in a folder of its own."""
    merged = settings.lora_rank is not None and settings.merge
    states: list[tuple[Path, Any]] = [(folder, nullcontext())]
    if averager is not None:
        states.append((folder / AVERAGED, averager.in_place(model.module)))
    for place, state in states:
        with state:
            if merged:
                save_merged(model, base, place)
            else:
                model.module.save_pretrained(place)
        (place / "README.md").unlink(missing_ok=True)  # a card with nothing filled in
        model.tokenizer.save_pretrained(place)


def _seen(pool: Pool, rows: Int1D, base: Path) -> UInt64s:
    """Content hashes of what the weights have seen, the base model's among them."""
    before = seen_by(base)
    own = pool.content_hash[rows]
    return np.unique(own if before is None else np.concatenate([own, before]))


def _rows(pool: Pool, order: TrainingOrder | npt.ArrayLike) -> Int1D:
    if isinstance(order, TrainingOrder):
        check_pool(
            "ordered rows", order.pool_fingerprint, pool.fingerprint,
            "order again, or read the pool with the settings (--data, --seed) it was ordered with",
        )  # fmt: skip
        rows = order.rows
    else:
        given = np.asarray(order)
        if len(given) and (given.ndim != 1 or given.dtype.kind not in "iu"):
            raise DataError(
                f"rows to train on are {given.dtype} of shape {given.shape}; expected numbers of "
                "rows, integers in sequence (of a mask, np.flatnonzero(mask))"
            )
        rows = given.astype(np.int64)
    if not len(rows):
        raise DataError("there is no row to train on")
    if rows.min() < 0 or rows.max() >= len(pool):
        raise DataError(f"rows {rows.min()}..{rows.max()} of a pool of {len(pool)}")
    return rows


def _batch_size(settings: TrainSettings, order: TrainingOrder | npt.ArrayLike) -> int:
    given = order.batch_size if isinstance(order, TrainingOrder) else None
    if given and settings.batch_size and given != settings.batch_size:
        raise ConfigError(
            f"batch_size={settings.batch_size}: the order was made for steps of {given} samples; "
            "leave batch_size out, or order again"
        )
    return settings.batch_size or given or DEFAULT_BATCH


def _encoding(pool: Pool, tokenizer: Any, settings: TrainSettings, context: int) -> Encoding:
    how = encoding(pool, settings, context)
    if how.kind != "text" and how.loss != "text" and how.template == "model":
        check_chat_template(tokenizer)
    return how


def _finished(out: Path, key: str, *, replace_other: bool) -> Trained | None:
    """The model at `out` when this very training made it."""
    if not (out / RECORD).is_file():
        check_free(out, "-o")
        return None
    found = read_trained(out)
    if found.about["fingerprint"] != key and replace_other:
        shutil.rmtree(out)
        return None
    if found.about["fingerprint"] != key:
        raise ConfigError(
            f"-o {out}: holds a model trained on other data or with other settings; remove it or "
            "choose another name"
        )
    return found


def _checkpoints_folder(out: Path, key: str, *, replace_other: bool) -> Path:
    """The folder of checkpoints, kept for this training alone."""
    out = out.absolute()
    work = out.with_name(f".{out.name}.training")
    mark = work / "fingerprint"
    others = mark.is_file() and mark.read_text("utf-8") != key
    if others and (replace_other or not any(work.glob("checkpoint-*"))):
        shutil.rmtree(work)  # nothing that anybody asked to keep
    elif others:
        raise ConfigError(
            f"{work}: holds the checkpoints of another training to the same place; remove it, or "
            "choose another name with -o"
        )
    write_text(mark, key)
    return work
