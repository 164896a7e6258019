"""The planner's verbs: ask for a plan, write and read it, follow it in a run.

`didact.planning` decides, from numbers alone; here are the files and the machine.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from didact import config as configs
from didact import verbs
from didact.accounting.catalog import Described, described
from didact.accounting.counts import stats_from_counts
from didact.accounting.devices import parse_mfu
from didact.config import RunConfig
from didact.core.atomic import write_text
from didact.core.bounded import read_bounded
from didact.core.errors import ConfigError, DataError
from didact.core.nesting import parse_json
from didact.core.paths import Given, Place, RemotePath, is_url, place, shown
from didact.core.pool import Kind, Pool, PoolStats
from didact.core.protocols import Context
from didact.data.reading.files import readable
from didact.data.reading.settings import DataSettings
from didact.execution.calibrated import rate_of
from didact.planning.compared import compared_prior
from didact.planning.comparison import RANDOM, Comparison
from didact.planning.compute_budget import parse_budget
from didact.planning.costs import METHODS
from didact.planning.follow import check_model, check_plan, sections
from didact.planning.plan import Plan, Question, make_plan
from didact.planning.prior import Prior
from didact.planning.published import published_prior
from didact.training.settings import SCRATCH
from didact.verbs import Paths

DEVICE: Final = "H100"  # what hours are of when nothing says otherwise
PLAN: Final = "plan.json"
PAGE: Final = "plan.html"
COMPARISON: Final = "comparison.json"
_UNSCORED: Final = ("keep", "shuffle")  # orders that read no scores
_SMALLER: Final = ("7B", "1B", "150M")  # scoring models looked at beside the one that is trained
_COUNT: Final = re.compile(
    r"\s*((?:\d{1,3}(?:,\d{3})+|\d[\d_]*)(?:\.\d+)?(?:e\d+)?)\s*([kmb]?)\s*", re.IGNORECASE
)
_THOUSANDS: Final = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


def plan(
    pool: Pool | Paths | None = None,
    *,
    model: str,
    budget: str | float,
    samples: int | str | None = None,
    mean_tokens: float | None = None,
    kind: Kind | None = None,
    target: Pool | Paths | None = None,
    selectors: Sequence[str] | None = None,
    encoder: str = "gtr-t5-base",
    methods: Sequence[str] | None = None,
    tasks: int = 1,
    comparison: Comparison | Given | None = None,
    device: str | None = None,
    mfu: str | float | None = None,
    price: float | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    lora_rank: int | None = None,
    read_as: DataSettings | None = None,
    ctx: Context | None = None,
) -> Plan:
    """What to do with the compute there is: select, take random samples, or all of it.

    Opens no model, and no file where the pool is given as counts.

    Args:
        pool: The pool, or its files; None with `samples` and `mean_tokens`.
        model: The model to train: a name (llama-2-7b), a size (7B) or a folder.
        budget: For choosing and training: FLOPs (2e19), "50h@H100", "300usd@H100", "8h@here".
        samples: How many there are, where there are no files: 300000, "300k".
        mean_tokens: Tokens of a sample on average, template included, likewise.
        kind: What the samples are, likewise; "chat" by default.
        target: The target set, or its files; by default like a hundred of the pool's samples.
        selectors: Models that may score, given as `model`; by default that model, and 7B, 1B
            and 150M where they are smaller.
        encoder: The sentence encoder of `embedding`, given as `model`.
        methods: Which to look at; all by default.
        tasks: Tasks that share the scoring; the budget is of each.
        comparison: Your own runs as the prior, or their `comparison.json` or its folder; the
            published panels by default.
        device: What hours are of; the budget's device by default, else an H100.
        mfu: Model FLOPs utilization, 0 to 1, or a range "0.3-0.5".
        price: USD an hour of the device, instead of the table's.
        batch_size: Samples per optimizer step.
        max_length: Most tokens of a sample; the model's context by default.
        lora_rank: Rank of adapters; all weights are trained by default.
        read_as: How files are read; see `DataSettings`.
        ctx: Cache, progress.

    Raises:
        BudgetError: The budget is no amount of compute, or does not pay for one step.
        ConfigError: A model, device or method is not known, or the pool is given in no way or two.
        DataError: The comparison cannot be used.

    **Source:** own; after Yin and Rush (arXiv:2410.16208).
    **Cost:** a second or two; with files, reading them.
    """
    ctx, read_as = ctx or verbs.context(), read_as or DataSettings()
    found, name = _pool(pool, samples, mean_tokens, kind, read_as, ctx)
    shares = None if mfu is None else parse_mfu(str(mfu))
    rate = partial(rate_of, cache_dir=ctx.cache_dir, mfu=shares)
    given = parse_budget(budget, rate, price=price)
    at = rate(device) if device else given.rate or rate(DEVICE)
    trained = _described(model)
    judges = [_described(each) for each in dict.fromkeys(selectors or (model, *_SMALLER))]
    if not selectors:
        judges = [j for j in judges if j.given == model or j.spec.n_total < trained.spec.n_total]
    question = Question(
        pool=found if isinstance(found, PoolStats) else _trainable(found),
        model=trained, budget=given, rate=at, judges=tuple(judges),
        encoder=_described(encoder, encoder=True),
        target=_target(target, read_as, ctx), tasks=tasks, batch_size=batch_size,
        max_length=max_length, lora_rank=lora_rank, methods=tuple(methods or METHODS),
        pool_fingerprint=None if isinstance(found, PoolStats) else found.fingerprint,
        pool_name=name,
        tokens_by=found.token_counter
        if isinstance(found, Pool) and found.tokens_are_estimated
        else None,
    )  # fmt: skip
    return make_plan(question, _prior(comparison, question))


def write_plan(found: Plan, folder: Given) -> list[Place]:
    """Write `plan.json` and `plan.html` into a folder; their paths."""
    from didact.reporting.plan_page import render_plan

    values = found.to_json()
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    home = place(folder)
    out = [home / PLAN, home / PAGE]
    write_text(out[0], text)
    write_text(out[1], render_plan(values))
    return out


def read_plan(path: Given) -> Mapping[str, Any]:
    """The JSON values of a plan, from its file or its folder.

    Raises:
        DataError: It is no plan.
        ConfigError: Another version made it.
    """
    file = _inside(place(path), PLAN)
    return check_plan(_json(file), str(file))


def follow(config: RunConfig, path: Given, ctx: Context) -> RunConfig:
    """A config with the score and selection that a plan recommends.

    What the config says of scoring by the same method stays, and so does its target set. Where the
    plan takes no scores and the config's order reads some, the config's are its own from then on.

    Args:
        config: The run's.
        path: The plan, or its folder.
        ctx: Cache, progress: the pool is read, to see that it is the plan's.

    Raises:
        PoolMismatchError: The plan was made for another pool.
        ConfigError: Another model or version, or no recommendation.
    """
    found, where = read_plan(path), shown(path)
    pool = verbs.read_with_inputs(config.data.path, config.data, ctx).pool
    own = {} if config.score is None else config.score.model_dump(mode="json", exclude_unset=True)
    parts = sections(found, _trainable(pool), pool.fingerprint, score=own, where=where)
    if config.train is not None and config.train.model != SCRATCH:
        n_params = _described(config.train.model).spec.n_total
        check_model(found, n_params, config.train.model, where)
    _check_judge(parts["score"], where)
    plain = config.model_dump(mode="json", exclude_unset=True, by_alias=True)
    order = plain.get("order")
    blind = (parts["score"] or {}).get("method") in {None, RANDOM}
    if blind and order and order["method"] not in _UNSCORED and "score" in plain:
        parts["order"] = {"score": plain.get("score"), **order}
    return configs.parse({**plain, **parts})


def _check_judge(score: Mapping[str, Any] | None, where: str) -> None:
    """Refuse a scoring model that the plan knows by name or size alone."""
    model = (score or {}).get("model")
    if model is not None and not Path(model).expanduser().is_dir() and "/" not in model:
        method = (score or {})["method"]
        raise ConfigError(
            f"{where}: recommends {method} by {model!r}, which says no place; set score.method to "
            f"{method} and score.model to the folder of such a model, or its hub name"
        )


def _pool(
    pool: Pool | Paths | None,
    samples: int | str | None,
    mean_tokens: float | None,
    kind: Kind | None,
    read_as: DataSettings,
    ctx: Context,
) -> tuple[Pool | PoolStats, str]:
    """The pool, or its sizes, and what messages call it."""
    counted = samples is not None or mean_tokens is not None or kind is not None
    if pool is not None and counted:
        raise ConfigError(
            "give the pool's files, or samples, mean_tokens and kind, not both: files say "
            "their kind"
        )
    if pool is None:
        if samples is None or mean_tokens is None:
            raise ConfigError(
                "give the pool: its files (--pool), or its sizes (--samples 300k --mean-tokens 350)"
            )
        n = _count(samples)
        return stats_from_counts(
            n, mean_tokens, kind or "chat"
        ), f"{n:,} samples of {mean_tokens:g} tokens"
    if isinstance(pool, Pool):
        return pool, pool.path.name
    paths = [pool] if isinstance(pool, str | Path | RemotePath) else list(pool)
    found = verbs.read_with_inputs(paths, read_as, ctx).pool
    return found, ", ".join(place(path).name for path in paths)


def _count(text: int | str) -> int:
    """A number of samples: 300000, "300,000", "300k", "1.5M"."""
    found = _COUNT.fullmatch(str(text))
    number = float(re.sub("[_,]", "", found[1])) * _THOUSANDS[found[2].lower()] if found else 0.0
    if not 1 <= number < math.inf or number != math.floor(number):
        raise ConfigError(f"samples={text!r}: expected a number of samples, such as 300000 or 300k")
    return int(number)


def _trainable(pool: Pool) -> PoolStats:
    """Sizes of what may be trained on: no validation rows, exact copies as they count."""
    return pool.stats_of(verbs.everything(pool, None).rows)


def _target(target: Pool | Paths | None, read_as: DataSettings, ctx: Context) -> PoolStats | None:
    if target is None or isinstance(target, Pool):
        return None if target is None else target.stats
    return verbs.read_target(target, read_as, ctx).pool.stats


def _described(model: str, *, encoder: bool = False) -> Described:
    """A model from its folder where there is one, else by its name or size."""
    path = Path(model).expanduser()
    if is_url(model):
        from didact.models.folder import local_folder

        path = local_folder(model)
    if not path.is_dir():
        found = described(model, encoder=encoder)
        if not encoder and not found.spec.headed:
            raise ConfigError(
                f"model {model!r} is an encoder, which foretells no tokens; give a language model "
                "(llama-3.1-8b, 7B), and the encoder with --encoder"
            )
        return found
    from didact.models.architecture import read_spec

    spec = read_spec(path, head=False if encoder else None)
    context = _json(path / "config.json").get("max_position_embeddings")
    if isinstance(context, int):
        spec = replace(spec, context=context)
    return Described(model, spec, 1.0, 1.0, "its configuration and weights")


def _prior(comparison: Comparison | Given | None, question: Question) -> Prior:
    """One's own runs where there are any, else the published panels as far as they go."""
    params = question.model.spec.n_total
    if comparison is None:
        return published_prior(question.pool.kind, params)
    where = "comparison"
    if not isinstance(comparison, Comparison):
        file = _inside(place(comparison), COMPARISON)
        where, comparison = str(file), Comparison.from_json(_json(file), str(file))
    return compared_prior(comparison, params, where)


def _inside(path: Place, name: str) -> Place:
    return path / name if path.is_dir() else path


def _json(path: Place) -> Any:
    try:
        with readable(path):
            data = read_bounded(path)
        return parse_json(data)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
