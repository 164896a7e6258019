"""The verbs: read, score, combine, select, order, export, train, evaluate. Values in, values out.

`didact.pipeline` chains them into a run; the command line has one command for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, overload

import numpy as np
import pyarrow as pa

from didact import config as configs
from didact.accounting.devices import HERE, Calibration, Rate, parse_mfu
from didact.config import OrderConfig
from didact.core import binding, registry
from didact.core.array_folders import load_selection, save_selection, scores_identity
from didact.core.budget import Budget
from didact.core.cache import default_cache_dir
from didact.core.cost import Cost, Metered
from didact.core.errors import BudgetError, ConfigError, did_you_mean, need
from didact.core.identity import about, base_libraries, identity, versions
from didact.core.keep import keep
from didact.core.manifest import fingerprint
from didact.core.paths import Given, Place, RemotePath, place
from didact.core.pieces import ignore
from didact.core.pool import Pool
from didact.core.protocols import (
    Context,
    Device,
    Dtype,
    Orderer,
    ProgressCallback,
    Scorer,
    Selector,
    ignore_progress,
)
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.data.about import about_held_out
from didact.data.export.data_set import VALIDATION, ExportSettings, write_data_set
from didact.data.export.owned import owned
from didact.data.reading.discovery import expand
from didact.data.reading.entries import resolved
from didact.data.reading.given import paths_or_rows
from didact.data.reading.ingest import Ingested, Role, read_pool
from didact.data.reading.settings import DataSettings
from didact.execution.calibrated import rate_of, save_calibration
from didact.execution.choice import ExecutionSettings, Kind
from didact.execution.devices import local_devices
from didact.selection.around.amounts import TrainingFlops, refuse_mistaken
from didact.selection.around.budget import eligible
from didact.selection.around.choose import Around, choose, estimate
from didact.selection.around.near_duplicates import NearDuplicates
from didact.selection.around.quotas import Quotas
from didact.selection.around.spending import Paying, Spending
from didact.training.elsewhere import train_elsewhere
from didact.training.estimate import cheapest_step, estimate_planned
from didact.training.foresight import PlannedTraining, executed_flops
from didact.training.settings import Seeds, TrainSettings
from didact.training.starting import planned_training, starting_model
from didact.training.trained import Trained

if TYPE_CHECKING:
    from didact.evaluation.evaluate import HeldOut
    from didact.evaluation.results import Evaluation

PathLike = str | Path
Paths = Given | Sequence[Given]


def context(
    seed: int = 0,
    workers: int | None = None,
    cache_dir: Given | None = None,
    progress: ProgressCallback = ignore_progress,
    tell: Callable[[str], None] = ignore,
    *,
    executor: Kind | ExecutionSettings | None = None,
    threads: int | None = None,
    address: str | None = None,
) -> Context:
    """What every stage is given: workers (threads, one per core by default), seed, cache.

    Args:
        seed: Root of every random number.
        workers: How many work at a time.
        cache_dir: Where pools, scores and whatever is costly are kept: a folder, or a URL that many
            machines share (s3://bucket/cache).
        progress: Told as work advances.
        tell: Told of what the user should know.
        executor: `threads`, `processes`, `serial` or `ray`; or the settings of a config. `threads`
            when not given.
        threads: See `didact.execution.choice.ExecutionSettings`.
        address: Of a Ray cluster, likewise.

    Raises:
        ConfigError: There is no cluster at the address; or its machines differ, or do not see the
            cache.
    """
    settings = executor if isinstance(executor, ExecutionSettings) else ExecutionSettings()
    kind = None if executor is settings else executor
    settings = settings.with_given(executor=kind, workers=workers, threads=threads, address=address)
    cache = place(cache_dir) if cache_dir is not None else default_cache_dir()
    working = settings.start(cache, tell)
    return Context(executor=working, seed=seed, cache_dir=cache, progress=progress, tell=tell)


def context_of(pool: Pool) -> Context:
    """A context whose cache is the one that the pool lies in."""
    return context(cache_dir=pool.path.parent.parent)


# -- data ------------------------------------------------------------------------------------------


def read(
    path: Paths | Any,
    *,
    seed: int = 0,
    cache_dir: Given | None = None,
    progress: ProgressCallback = ignore_progress,
    **settings: Any,
) -> Pool:
    """Files, or rows in memory → Pool: canonicalised once into the cache, and found there again.

    Args:
        path: A file, folder or glob, or several, here or behind a URL (s3://…, hf://…): JSON,
            JSONL, CSV, TSV, Parquet, Arrow, text, tar; .gz, .zst; `-` for what is piped in. Or
            rows: dicts, a list or whatever else gives them; a table of pyarrow, pandas, Polars or
            `datasets`, or of any library that exports Arrow streams. They count by their content,
            as files do, and messages call them `rows`.
        seed: Draws the validation split.
        cache_dir: Where pools and scores are kept; `$DIDACT_CACHE` or the user's cache by default.
        progress: Told of bytes read.
        settings: See `didact.data.reading.settings.DataSettings`: format, columns, tokenizer, …

    Raises:
        DataError: A file or row is bad; the message has file, row, value, expectation, remedy.
        ConfigError: A setting is unknown or wrong.
    """
    checked = configs.validated(DataSettings, settings, "data")
    return read_with_inputs(path, checked, context(seed, None, cache_dir, progress)).pool


def read_with_inputs(
    path: Paths | Any, settings: DataSettings, ctx: Context, *, role: Role = "pool"
) -> Ingested:
    """`read`, with the input files, held-out ones too, and their hashes for the manifest.

    Args:
        path: The files, or rows in memory.
        settings: How they are read.
        ctx: Cache, seed, progress.
        role: What they are for. Every mapped column is in some row of a pool; a target set and
            held-out files may lack what they do not need.
    """
    paths = paths_or_rows(path)
    settings = DataSettings(**settings.model_dump(exclude={"path"}))  # a DataConfig names its files
    overlap, key = None, ""
    others: tuple[dict[str, Any], ...] = ()
    held_out: Ingested | None = None
    if settings.exclude:
        from didact.text.overlap import RULE, overlap_with

        held_out = read_held_out(settings.exclude, settings, ctx)
        overlap = overlap_with(_texts(held_out.pool), n=settings.exclude_ngram)
        key = fingerprint([RULE, held_out.pool.fingerprint, settings.exclude_ngram])
        others = tuple({**i, "role": "held-out"} for i in held_out.inputs)
    found = read_pool(paths, settings, ctx, role=role, overlap=overlap, overlap_key=key)
    if held_out is None:
        return found
    findings = (*found.pool.findings, *about_held_out(found.pool, held_out.pool))
    return replace(
        found,
        pool=replace(found.pool, noticed=findings),
        inputs=(*found.inputs, *others),
        held_out=held_out.pool,
    )


def read_held_out(path: Paths, settings: DataSettings, ctx: Context) -> Ingested:
    """Held-out files, read like the pool that `settings` describe but for what is a bad row."""
    whole = _unfiltered(settings).model_copy(update={"on_bad_row": settings.held_out_on_bad_row})
    return read_with_inputs(path, whole, ctx, role="held-out")


def _unfiltered(settings: DataSettings) -> DataSettings:
    """How held-out and target files are read: like the pool, but whole and with every row."""
    return settings.model_copy(
        update={
            "exclude": [],
            "drop": [],
            "validation": 0.0,
            "unit": "sample",
            "dedup": "none",
            "format": "auto",
        }
    )


def _texts(pool: Pool) -> Iterator[pa.LargeStringArray]:
    return (pool.read(rows, ["text"]).column("text") for rows in pool.batches())


def read_target(path: Paths, settings: DataSettings, ctx: Context) -> Ingested:
    """A target set, read like the pool that `settings` describe: same columns, same template."""
    return read_with_inputs(path, _unfiltered(settings), ctx, role="target")


# -- score -----------------------------------------------------------------------------------------


def score(
    pool: Pool,
    method: str | Callable[..., Scorer],
    *,
    target: Pool | None = None,
    ctx: Context | None = None,
    **settings: Any,
) -> Scores:
    """Give every sample of the pool one number (or one per target task).

    Args:
        pool: What to score.
        method: Name of a scorer (`didact methods` lists them), or a class of your own.
        target: The target set, for scorers that need one; its `task` column names the tasks.
        ctx: Seed, workers, cache.
        settings: The scorer's own settings.
    """
    from didact.scoring.around.score_pool import score_pool

    ctx = ctx or context_of(pool)
    name, make, checked, as_json = configs.bound("scorers", method, settings, "score")
    key = None
    if isinstance(method, str):  # what is registered can be told apart from what it was
        key = {
            "pool": pool.fingerprint,
            "target": target.fingerprint if target is not None else None,
            "settings": as_json,
            "method": identified("scorers", method, settings),
            "libraries": base_libraries(),
            "seed": ctx.seed,
        }
    return score_pool(pool, name, make(**checked), as_json, target, ctx, key=key)


def identified(group: registry.Group, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What results of a registered method depend on beside its settings, as JSON values.

    Its own text, the versions of its libraries, the content of its models.
    """
    found = registry.find(group, name)
    checked = binding.bind(found, settings, name)
    for libraries in about(found).needs:  # missed before the models they would open
        need(f"{group.removesuffix('s')} {name}", libraries)
    return identity(found, checked, _content)


def _content(model: str) -> str:
    """Identity of what is in a model's folder, or of a hub's model."""
    from didact.models.folder import digest, find

    return digest(find(model))


def model_identity(model: PathLike) -> str:
    """Identity of what is in a model's folder, or of a hub's model."""
    need("reading a model", "models")
    return _content(str(model))


def combine(
    scores: Sequence[Scores], how: Literal["rank_mean", "product"] = "rank_mean", **options: Any
) -> Scores:
    """Several scores of one pool → one: `rank_mean` or `product`."""
    from didact.scoring.around.combine import combine as combined

    return combined(list(scores), how, **options)


# -- select ----------------------------------------------------------------------------------------


def select(
    pool: Pool,
    scores: Scores | None,
    method: str | Selector,
    *,
    budget: Budget | None = None,
    train: Mapping[str, Any] | None = None,
    spent: float | None = None,
    quotas: Quotas | Mapping[str, Any] | None = None,
    near_duplicates: NearDuplicates | Mapping[str, Any] | None = None,
    ctx: Context | None = None,
    **settings: Any,
) -> Selection:
    """Choose a *set* of rows.

    Args:
        pool: What to choose from.
        scores: What to choose by; None for methods that need none.
        method: Name of a selector, or a function of your own.
        budget: How much; samples, tokens, ratio or FLOPs. Of FLOPs what the scores take from
            nothing is taken off first, and the rest trains what is chosen, counted as the model
            reads it, without padding.
        train: The training that a budget of FLOPs is for: its `model`, the `epochs`, and settings
            of `train` that change what it takes (lora_rank, max_length, template, batch_size, …).
            The model is a folder, `scratch`, a hub name, or one that is known by its numbers: a
            name or a size ("7B") that `didact.accounting.catalog.described` knows, or a
            `ModelSpec`. Of these the pool's own count of tokens is taken.
        spent: FLOPs that are spent before the training, where that is not what the scores say.
        quotas: Limits per source; see `didact.selection.around.quotas.Quotas`.
        near_duplicates: Refuse rows that are nearly one already chosen; {} for the defaults, see
            `didact.selection.around.near_duplicates.NearDuplicates`.
        ctx: Seed, workers, cache.
        settings: The selector's own settings.
    """
    ctx = ctx or context_of(pool)
    if scores is not None:
        scores.check(pool)
    name, selector, checked, as_json = configs.bound("selectors", method, settings, "select")
    around = _around(name, quotas, near_duplicates)
    planned = planned_training(pool, budget, train, ctx)
    paying = None
    if budget is not None and budget.flops is not None and planned is not None:
        known = spent if spent is not None else 0.0 if scores is None else scores.flops
        spending = Spending(budget=budget, spent=known or 0.0)
        paying = Paying(spending=spending, training=planned, unknown=known is None)

    def make(work: Context) -> Selection:
        def chosen_by(training: TrainingFlops | None) -> Selection:
            given = (selector, pool, scores, budget, work, name, training)
            return choose(*given, **around, **checked)

        return chosen_by(None) if paying is None else paying.choose(pool, work, chosen_by)

    if not isinstance(method, str):
        return make(ctx)
    key = {
        "pool": pool.fingerprint,
        "scores": None if scores is None else scores_identity(scores),
        "budget": None if budget is None else str(budget),
        "settings": as_json,
        "around": binding.as_json(Around, around),
        **({} if paying is None else {"paying": paying.key}),
        "method": identified_selector(method, settings, near_duplicates),
        "libraries": base_libraries(),
        "seed": ctx.seed,
    }
    return keep(ctx, "selections", key, make, save=save_selection, load=load_selection)


def estimate_selection(
    pool: Pool,
    method: str | Selector,
    *,
    budget: Budget | None = None,
    train: Mapping[str, Any] | None = None,
    spent: float = 0.0,
    quotas: Quotas | Mapping[str, Any] | None = None,
    near_duplicates: NearDuplicates | Mapping[str, Any] | None = None,
    **settings: Any,
) -> Cost:
    """What `select` will cost; nothing to speak of for selectors that only sort scores.

    Raises:
        BudgetError: Of a budget of FLOPs, with what is `spent` before the training as it is
            estimated: nothing is left, or less than one sample trains with.
    """
    name, selector, checked, _ = configs.bound("selectors", method, settings, "select")
    around = _around(name, quotas, near_duplicates)
    planned = planned_training(pool, budget, train, context_of(pool))
    asked = budget
    if budget is not None and budget.flops is not None and planned is not None:
        spending = Spending(budget=budget, spent=spent, foreseen=True)
        one = executed_flops(planned.spec(), planned.settings)(1, 1.0)
        refuse_mistaken(pool, budget, planned.epochs * one)
        # What it comes to in the pool's own tokens, which is all that a selector's estimate needs.
        rows = everything(pool, None).rows
        passes = planned.epochs * len(rows)
        whole = estimate_planned(planned, pool, rows, samples=passes).flops
        share = min(spending.left / max(whole, 1.0), 1.0)
        asked = Budget(tokens=round(share * pool.stats.n_tokens))
    counting = Cost() if planned is None else planned.estimate_counting(pool.stats)
    return counting + estimate(selector, pool.stats, asked, name, **around, **checked)


def identified_selector(
    method: str, settings: Mapping[str, Any], near_duplicates: object
) -> dict[str, Any]:
    """`identified`, with the library that compares near-duplicates where they are refused."""
    found = identified("selectors", method, settings)
    compared = versions(("rensa",) if near_duplicates is not None else ())
    return {**found, "libraries": {**found["libraries"], **compared}}


def _around(name: str, quotas: Any, near_duplicates: Any) -> dict[str, Any]:
    given = {"quotas": quotas, "near_duplicates": near_duplicates}
    return binding.bind(Around, given, f"select.{name}")


def everything(pool: Pool, scores: Scores | None) -> Selection:
    """All that may be chosen: no validation row, no row without a score, one of each duplicate."""
    rows = eligible(pool, np.arange(len(pool)), scores)
    missing = len(scores.missing) if scores is not None else 0
    notes = (f"rows without a score, left out: {missing:,}",) if missing else ()
    return Selection(rows, pool.fingerprint, "everything", notes=notes)


# -- order -----------------------------------------------------------------------------------------


def order(
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    method: str | Orderer,
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    jitter: int | None = None,
    interleave: bool = False,
    ctx: Context | None = None,
    **settings: Any,
) -> TrainingOrder:
    """Put the chosen rows in *sequence*: ascending in utility, so that the best comes last.

    Args:
        pool: The pool the rows belong to.
        chosen: The rows.
        scores: What to order by; None for methods that need none.
        method: Name of an orderer, or a function of your own.
        epochs: Passes over the selection, written out one after another.
        batch_size: Samples per optimizer step over all devices.
        jitter: Shuffle inside consecutive windows of this many samples.
        interleave: Spread each source evenly, keeping its own order.
        ctx: Seed, workers, cache.
        settings: The orderer's own settings.
    """
    from didact.ordering.around.arrange import arrange

    ctx = ctx or context_of(pool)
    name, orderer, checked, _ = configs.bound("orderers", method, settings, "order")
    around: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "jitter": jitter, "interleave": interleave
    }  # fmt: skip
    composed: OrderConfig = configs.validated(OrderConfig, {"method": name, **around}, "order")
    around = composed.model_dump(include=set(around))
    done = arrange(orderer, checked, pool, chosen, scores, ctx, **around)
    return replace(done, method=name)


# -- export ----------------------------------------------------------------------------------------


@overload
def export(pool: Pool, ordered: TrainingOrder, folder: Path, **settings: Any) -> list[Path]: ...
@overload
def export(pool: Pool, ordered: TrainingOrder, folder: Given, **settings: Any) -> list[Place]: ...
def export(
    pool: Pool, ordered: TrainingOrder, folder: Given, **settings: Any
) -> list[Path] | list[Place]:
    """Write the user's own rows in training order, and the trainer's settings that keep it.

    Args:
        pool: The pool the order belongs to.
        ordered: The order.
        folder: Where the files go, here or behind a URL.
        settings: See `didact.data.export.data_set.ExportSettings`: trainer="trl", format, shards, …

    Raises:
        ConfigError: A setting is wrong, or another command writes there.
        DataError: The order cannot be written so, or the folder has data that no export wrote.
    """
    checked = configs.validated(ExportSettings, settings, "export")
    out = place(folder)
    with owned(out, checked.name, VALIDATION) as written:
        files = write_data_set(pool, ordered, out, checked)
        written(files)
    return files


# -- models ----------------------------------------------------------------------------------------


def new_proxy(
    directory: PathLike,
    pool: Pool,
    *,
    params: str | float,
    vocab: int | None = None,
    context: int = 1024,
    seed: int = 0,
) -> dict[str, Any]:
    """Make a small untrained model; see `didact.models.proxy.new_proxy`. Its sizes."""
    need("a proxy model", "models")
    from didact.models import proxy

    made = proxy.new_proxy(directory, pool, params=params, vocab=vocab, context=context, seed=seed)
    return made.facts()


def train(
    pool: Pool,
    ordered: TrainingOrder | None = None,
    *,
    model: PathLike,
    out: Given,
    seeds: Seeds | None = None,
    replace_other: bool = False,
    ctx: Context | None = None,
    **settings: Any,
) -> Trained:
    """Train a model on the pool in the order given; see `didact.training.causal.train`.

    Args:
        pool: Where the samples are.
        ordered: The order; everything that may be chosen, in the pool's order, when None.
        model: A folder with a causal language model (safetensors), a hub name, or `scratch`: a
            new one of the size `params`, whose tokenizer is trained on the pool.
        out: Folder of the trained model, here or behind a URL, to which it goes once it is whole.
        seeds: `init` seeds weights from scratch, adapters and dropout, and is the context's seed
            when not given; what else was drawn is noted beside it.
        replace_other: Remove a model of another training at `out`, or its checkpoints.
        ctx: Seed, progress, cache.
        settings: See `didact.training.settings.TrainSettings`: learning_rate, batch_size, …
    """
    need("training", "models")
    from didact.training import causal

    ctx = ctx or context_of(pool)
    seeds = seeds or Seeds()
    seeds = replace(seeds, init=ctx.seed if seeds.init is None else seeds.init)
    checked = TrainSettings(**binding.bind(TrainSettings, settings, "train"))
    base = starting_model(pool, model, checked, int(seeds.init or 0), ctx)
    rows = everything(pool, None).rows if ordered is None else ordered
    to = place(out)

    def train_into(folder: Path) -> Trained:
        return causal.train(
            pool, rows, base, folder, checked, seeds=seeds, replace_other=replace_other,
            progress=ctx.progress, meter=ctx.meter, tell=ctx.tell,
        )  # fmt: skip

    def work(_: str) -> Metered[Trained]:
        if isinstance(to, RemotePath):
            return Metered(train_elsewhere(to, train_into))
        return Metered(train_into(to.absolute()))

    with ctx.meter.running():  # so that the records beside the model tell its seconds
        return ctx.executor.call(work, device=checked.device)


def estimate_training(
    pool: Pool,
    model: PathLike,
    settings: Mapping[str, Any],
    *,
    samples: float,
    batch_size: int | None = None,
    surely: int = 0,
) -> Cost:
    """What `train` will execute on samples like those of the pool that may be chosen.

    Some of them are tokenised as the model is shown them; see
    `didact.training.estimate.estimate_planned`. At most `flops` of the settings, where given.

    Args:
        pool: The pool.
        model: The model, as `starting_model` gives it.
        settings: Those of `train`.
        samples: Samples that are read, over all epochs.
        batch_size: Samples per optimizer step, where the settings have none.
        surely: Samples that an epoch surely has at least; 0 where that is not known.

    Raises:
        BudgetError: The settings' `flops` pay no step, whichever samples it has.

    **Cost:** tokenises at most 4,096 samples, with a small `flops` twice; loads no model.
    """
    need("training", "models")
    from didact.models.folder import find

    checked = TrainSettings(**settings)
    checked = replace(checked, batch_size=checked.batch_size or batch_size)
    planned = PlannedTraining(model=find(model), settings=checked)
    rows = everything(pool, None).rows
    if checked.flops is not None and surely:
        size = min(surely, planned.batch_size, len(rows))
        least = cheapest_step(planned, pool, rows, size=size)
        if least > checked.flops:
            raise BudgetError(
                f"train.flops={checked.flops:.4g}: a step of {size} samples takes {least:.4g} or "
                "more; lower batch_size or max_length, or raise the budget"
            )
    return estimate_planned(planned, pool, rows, samples=samples)


def calibrate(
    *,
    device: str = "auto",
    dtype: Dtype = "auto",
    seconds: float = 30.0,
    cache_dir: Given | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Calibration:
    """Measure what this machine reads and trains, and keep it for hours in plans.

    Args:
        device: `cpu`, `cuda`, or `auto`: the first accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
        seconds: Wall-clock seconds it takes, about.
        cache_dir: Where `calibration.json` is kept.
        progress: Told of what is measured.

    Raises:
        ConfigError: There is no such device, or the time is not positive.

    **Cost:** the seconds asked for, and some to start; `didact.training.calibration.calibrated`.
    """
    if device not in get_args(Device):
        known = did_you_mean(device, get_args(Device))
        raise ConfigError(f"device={device!r} cannot be measured here{known}")
    need("a calibration", "models")
    from didact.training.calibration import calibrated

    place = local_devices(cast("Device", device))[0]
    found = calibrated(device=place, dtype=dtype, seconds=seconds, progress=progress)
    save_calibration(found, context(cache_dir=cache_dir).cache_dir)
    return found


def rate(
    device: str | None = None, *, mfu: str | None = None, cache_dir: Given | None = None
) -> tuple[Rate | None, str]:
    """FLOPs a second of a device, for hours; and, where there is none, how to get it.

    Args:
        device: A name of `didact.accounting.devices.DEVICES`, or "here" for what `calibrate`
            measured; when not given "here", if it was.
        mfu: Shares of the device's peak instead of 0.3 to 0.5, or of what was measured: "0.4".
        cache_dir: Where the calibration is kept.

    Raises:
        ConfigError: The device that was asked for is not known, or was not measured.
    """
    folder, shares = context(cache_dir=cache_dir).cache_dir, parse_mfu(mfu) if mfu else None
    try:
        return rate_of(device or HERE, folder, shares), ""
    except ConfigError as error:
        if device is None:
            return None, str(error)
        raise


# -- evaluate --------------------------------------------------------------------------------------


def evaluate(
    model: PathLike,
    files: Paths | Sequence[HeldOut],
    *,
    name: str | None = None,
    read_as: DataSettings | None = None,
    ctx: Context | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a model on held-out files, sample by sample.

    Args:
        model: A folder with a causal language model (safetensors), a LoRA adapter or a run, or a
            hub name.
        files: The held-out files, folders or globs, or what `held_out` gives of them; every row
            counts, copies too.
        name: What records call the model; as it is given by default.
        read_as: How the pool was read: columns, template; see `DataSettings`.
        ctx: Workers, cache, progress.
        settings: See `didact.evaluation.settings.EvaluateSettings`: choices, on_overlap, loss,
            template, window, …

    Returns:
        A table of the samples with its metadata; `.summary()` is what it comes to, and
        `didact.evaluation.results.write_evaluation` writes it.

    Raises:
        DataError: A row is not what it should be, or the model cannot be opened.
        ConfigError: A setting is wrong, or does not fit the model.

    **Cost:** a forward pass over every sample, and one for every option of a multiple choice; what
    the same model took on the same rows is kept.
    """
    from didact.evaluation.evaluate import evaluate as evaluated
    from didact.evaluation.model import find_evaluated
    from didact.evaluation.settings import EvaluateSettings

    ctx = ctx or context()
    checked = EvaluateSettings(**binding.bind(EvaluateSettings, settings, "evaluate"))
    found = find_evaluated(model)
    found = replace(found, given=name or found.given)
    return evaluated(_held_out(files, read_as, ctx), found, checked, ctx)


def _held_out(
    files: Paths | Sequence[HeldOut], read_as: DataSettings | None, ctx: Context
) -> Sequence[HeldOut]:
    if isinstance(files, str | Path | RemotePath) or any(
        isinstance(file, str | Path | RemotePath) for file in files
    ):
        return held_out(cast("Paths", files), read_as or DataSettings(), ctx)
    return cast("Sequence[HeldOut]", files)


def held_out(files: Paths, read_as: DataSettings, ctx: Context) -> list[HeldOut]:
    """Held-out files, each a pool of its own, read like the pool that `read_as` describes."""
    from didact.evaluation.evaluate import HeldOut

    paths = [files] if isinstance(files, str | Path | RemotePath) else list(files)
    found_at, read_as, _ = resolved(paths, read_as)
    out = []
    for file in expand(found_at, ignored=ctx.cache_dir):
        found = read_held_out(file.path, read_as, ctx)
        of_file = found.inputs[0]
        out.append(HeldOut(of_file["path"], of_file["blake2b"], found.pool, of_file["bytes"]))
    return out


def estimate_evaluation(
    model: PathLike,
    files: Paths | Sequence[HeldOut],
    *,
    read_as: DataSettings | None = None,
    ctx: Context | None = None,
    **settings: Any,
) -> Cost:
    """What `evaluate` will cost when nothing is found in the cache; loads no weights.

    The options of the files are counted, so that the files are read.
    """
    from didact.evaluation import estimate as estimates
    from didact.evaluation.model import find_evaluated
    from didact.evaluation.options import mean_options, survey
    from didact.evaluation.rows import encoding_of
    from didact.evaluation.settings import EvaluateSettings

    ctx = ctx or context()
    checked = EvaluateSettings(**binding.bind(EvaluateSettings, settings, "evaluate"))
    found, cost = find_evaluated(model), Cost()
    for file in _held_out(files, read_as, ctx):
        rows = np.arange(len(file.pool))
        options = mean_options([survey(file.pool, rows, checked.choices, file.name)])
        spec = found.spec([encoding_of(file.pool, checked)])
        cost += estimates.estimate_evaluation(file.pool.stats, spec, checked, options=options)
    return cost


def write_tasks(
    model: PathLike,
    files: Paths,
    folder: PathLike,
    *,
    read_as: DataSettings | None = None,
    ctx: Context | None = None,
    choices: Literal["column", "labels", "letters"] | None = None,
    on_overlap: Literal["drop", "error", "keep"] = "drop",
) -> list[str]:
    """Write held-out files as tasks of lm-eval, and give their names; see `evaluation.tasks`.

    Args:
        model: The model that they are for; see `evaluate`.
        files: The held-out files.
        folder: Where the tasks go.
        read_as: How the pool was read.
        ctx: Cache, progress.
        choices: Where options come from; found by what the rows look like when not given.
        on_overlap: What becomes of rows that the model was trained on; see `evaluate`.
    """
    from didact.evaluation import tasks
    from didact.evaluation.evaluate import without_overlap
    from didact.evaluation.model import find_evaluated

    ctx = ctx or context()
    found = find_evaluated(model)
    seen, files_and_rows = found.trained_on(), []
    for file in held_out(files, read_as or DataSettings(), ctx):
        rows, _, notes = without_overlap(file, seen, on_overlap)
        files_and_rows.append((file, rows))
        for note in notes:
            ctx.tell(note)
    return tasks.write_tasks(
        files_and_rows, Path(folder).expanduser(), choices, chat=found.has_chat_template
    )


def run_tasks(
    model: PathLike,
    names: Sequence[str],
    *,
    folder: PathLike | None = None,
    limit: int | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> list[dict[str, Any]]:
    """Summary records of accuracy through lm-eval; see `didact.evaluation.harness.run_tasks`.

    Args:
        model: As in `evaluate`.
        names: Tasks: those that `write_tasks` gave, or lm-eval's own.
        folder: The folder of `write_tasks`; None for lm-eval's own tasks.
        limit: Most samples of a task.
        device: Where it runs.
        dtype: Type of weights and arithmetic.
    """
    from didact.evaluation import harness
    from didact.evaluation.model import find_evaluated

    return harness.run_tasks(
        find_evaluated(model), names, folder=None if folder is None else Path(folder).expanduser(),
        limit=limit, device=device, dtype=dtype,
    )  # fmt: skip


# -- analysis --------------------------------------------------------------------------------------


def tell_apart(
    paths: PathLike | Sequence[PathLike], *, wanted: float | Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Whether sets of training samples can be told apart by the runs that were made of them.

    The run (seed and draw) is the unit, held-out samples are nested inside; below a signal to
    noise of 2 nothing is ranked. See `didact.analysis.told.Told` for every number.

    Args:
        paths: A file a run: evaluation tables, or folders of runs; and `.csv` or `.jsonl` tables
            of many runs, see `didact.analysis.run_tables`. NAME=PATH names the set of a run;
            without it runs of the same rows, in whatever order, are of one set.
        wanted: The difference that one wants to find, in the metric's unit, or metric →
            difference; when not given, the SD of the sets' means.

    Returns:
        JSON values: `tasks`, a list of `Told.to_json()`, and `notes`.

    Raises:
        DataError: There is one set only, a run is given twice, a file is bad or has other
            held-out samples than the rest.
        ConfigError: `wanted` is not above 0, or names a metric that no run has.
    """
    from didact.analysis.apart import told_apart
    from didact.analysis.reading import read_runs

    runs, notes = read_runs([paths] if isinstance(paths, str | Path) else list(paths))
    found, said = told_apart(runs, wanted)
    return {"tasks": [told.to_json() for told in found], "notes": [*notes, *said]}
