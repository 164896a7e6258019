"""Arms for other trainers: a data set for each run that would be made, and a table of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from didact import config as configs
from didact import pipeline, verbs
from didact.analysis.run_tables import DIRECTIONS
from didact.comparing.estimates import Estimates
from didact.comparing.grid import GridGiven, Plain, read_grid
from didact.comparing.ground import open_ground
from didact.comparing.measured import task_of
from didact.comparing.settings import settings_of
from didact.comparing.trials import Trial, trials_of
from didact.core.atomic import write_text
from didact.core.cost import Cost
from didact.core.errors import BudgetError, DataError
from didact.core.nesting import parse_json
from didact.core.paths import Given, Place, place
from didact.core.protocols import Context, Progress
from didact.planning.comparison import ALL, BASE
from didact.stages.spending import paid_before

DATA: Final = "data"
RESULTS: Final = "results.csv"
COLUMNS: Final = (
    "arm", "seed", "task", "metric", "value", "higher_is_better", "training_flops"
)  # fmt: skip
_TABLE: Final = "arms.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A run that somebody else trains.

    Attributes:
        arm: What its results call it: `bm25 at 0.25`, `all`, `base`.
        setting: Label of its setting.
        beta: Its budget in full passes.
        k_flops: The same in FLOPs.
        seed: Its seed; None of the base model.
        folder: Its data set, relative to the comparison's folder; empty where there is none.
        shares: The arm whose runs it shares; empty without.
        reason: Why there is no data set; empty where there is one.
        samples: Number of samples.
        selection_flops: FLOPs of scoring and choosing, from nothing.
        selection_cpu_seconds: Processor seconds of it.
        training_flops: What is left for the training.
        n_params: Parameters of the model to train.
        selector_params: Parameters of the model that scored; None without one.
    """

    arm: str
    setting: str
    beta: float
    k_flops: float
    seed: int | None
    folder: str = ""
    shares: str = ""
    reason: str = ""
    samples: int = 0
    selection_flops: float = 0.0
    selection_cpu_seconds: float = 0.0
    training_flops: float = 0.0
    n_params: int = 0
    selector_params: int | None = None


def export_arms(
    grid: GridGiven, out: Given, trainer: str, *, ctx: Context | None = None
) -> list[Exported]:
    """Write a data set for every feasible arm, budget and seed into `data/`, for a trainer.

    A base that is a known name or a size is taken for its numbers alone. Nothing is trained; scores
    are made. Started again, it does what is not done.

    Args:
        grid: As `didact.compare` takes it; its repeated fractions are left out.
        out: The folder of the comparison, here or behind a URL.
        trainer: See `didact export --for`; `none` for the rows alone.
        ctx: Cache, progress.

    Raises:
        ConfigError: The grid is wrong, or the folder holds something else.
        DataError: As for `didact.compare`.
    """
    ctx = ctx or verbs.context()
    checked, where = read_grid(grid)
    home = place(out).absolute()
    settings = settings_of(checked, where)
    ground = open_ground(checked, settings, home, ctx, where, by_numbers=True)
    ahead = Estimates(ground)
    arms: list[Exported] = []
    for setting in settings:
        if setting.method == BASE:
            params = ground.base_of(setting).n_params
            arms.append(
                Exported(arm=setting.label, setting=setting.label, beta=0.0, k_flops=0.0,
                         seed=None, n_params=params)
            )  # fmt: skip
    trials = [trial for trial in trials_of(ahead, settings) if not trial.fill]
    names = {trial.name: _called(trial) for trial in trials}
    for done, trial in enumerate(trials):
        ctx.progress(Progress("export", done, len(trials), "arms", note=trial.name))
        known: dict[str, Any] = {
            "arm": _called(trial), "setting": trial.setting.label, "beta": trial.beta,
            "k_flops": trial.k_flops, "seed": trial.seed,
            "n_params": ground.base_of(trial.setting).n_params,
            "selector_params": ahead.selector_params(trial.setting),
            "selection_flops": trial.selection_flops, "training_flops": trial.training_flops,
        }  # fmt: skip
        if trial.plain is None:
            shares = names.get(trial.shared, "")
            arms.append(Exported(**known, shares=shares, reason=trial.reason))
            continue
        try:
            arms.append(Exported(**{**known, **_exported(trial, home, trainer, ctx)}))
        except BudgetError as error:
            arms.append(Exported(**known, reason=str(error)))
    table = {"trainer": trainer, "arms": [asdict(each) for each in arms]}
    write_text(home / DATA / _TABLE, json.dumps(table, indent=1) + "\n")
    if not (home / RESULTS).exists():
        tasks = [task_of(file) for file in checked.files]
        write_text(home / RESULTS, results_template(arms, tasks, checked.metric))
    return arms


def _called(trial: Trial) -> str:
    label = trial.setting.label
    return label if trial.setting.method == ALL else f"{label} at {trial.beta:g}"


def _exported(trial: Trial, home: Place, trainer: str, ctx: Context) -> dict[str, Any]:
    """What is known of a data set once it is written."""
    folder = f"{DATA}/{trial.name}"
    config = configs.parse(_for_another(trial.plain or {}, trainer), trial.setting.label)
    done = pipeline.run(config, home / folder, cache_dir=ctx.cache_dir, progress=ctx.progress)
    cost = paid_before(done.manifest.stages).value if config.select is not None else Cost()
    select = done.manifest.stage("select")
    return {
        "folder": folder,
        "samples": 0 if select is None else int(select.counts["samples"]),
        "selection_flops": cost.flops, "selection_cpu_seconds": cost.cpu_seconds,
        "training_flops": trial.k_flops - cost.flops,
    }  # fmt: skip


def _for_another(plain: Mapping[str, Any], trainer: str) -> Plain:
    """The run config without its training, which somebody else does."""
    train = dict(plain["train"])
    out = {k: v for k, v in plain.items() if k not in {"train", "evaluate"}}
    out["export"] = {"for": trainer}
    if out["select"] is not None:
        out["select"] = {**out["select"], "train": train}
    if train.get("batch_size") and out["order"]:
        out["order"] = {"batch_size": train["batch_size"], **out["order"]}
    return out


def read_exported(home: Place) -> list[Exported]:
    """The arms that were exported into a folder.

    Raises:
        DataError: There are none.
    """
    file = home / DATA / _TABLE
    try:
        told = parse_json(file.read_bytes())["arms"]
        return [Exported(**{f.name: arm[f.name] for f in fields(Exported)}) for arm in told]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{file}: no table of exported arms ({error}); write them first: didact compare GRID "
            f"-o {home} --export-only TRAINER"
        ) from error


def results_template(arms: Sequence[Exported], tasks: Sequence[str], metric: str) -> str:
    """A CSV with a line for each run and task, without its value; the direction where known."""
    up = {True: "true", False: "false", None: ""}[DIRECTIONS.get(metric)]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    out.writerows(
        (each.arm, each.seed, task, metric, "", up, f"{each.training_flops:.6g}")
        for each in arms
        for task in tasks
        if not each.shares and not each.reason
    )
    return text.getvalue()
