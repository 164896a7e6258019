"""Estimates: what a comparison's passes, scores and evaluations take, each worked out once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from didact import config as configs
from didact import pipeline, verbs
from didact.comparing.ground import Ground, read_target
from didact.comparing.settings import Setting, leaves, parsed
from didact.core.arrays import Float1D
from didact.core.atomic import digest as file_digest
from didact.core.cost import Cost, total
from didact.core.errors import DataError, DidactError
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.models.architecture import read_spec
from didact.models.folder import digest, find
from didact.training.foresight import PlannedTraining
from didact.training.settings import TrainSettings

_NAMED: Final = frozenset({"model", "scorer_model", "text"})  # settings of scores that name content


@dataclass(frozen=True, slots=True, eq=False)
class FullPass:
    """One pass of training over all that may be chosen.

    Attributes:
        flops: Foretold FLOPs, padding included.
        tokens: Tokens without it.
        samples: Number of samples.
        cheapest: FLOPs of the one, two, … cheapest samples that have a token to learn, without
            padding, `(k,)`.
    """

    flops: float
    tokens: int
    samples: int
    cheapest: Float1D

    def least(self, ratio: float) -> float:
        """FLOPs that one pass over any share of the samples takes at least."""
        return float(self.cheapest[max(0, int(ratio * len(self.cheapest)) - 1)])


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What is foretold of the settings of a comparison, kept once it is known.

    Attributes:
        ground: What all runs have in common.
    """

    ground: Ground
    _known: dict[str, Any] = field(default_factory=dict, repr=False)

    def full_pass(self, setting: Setting) -> FullPass:
        """One pass of a setting's training over the pool.

        **Cost:** tokenises the pool once for all settings that read it alike.
        """
        settings = self.train_settings(setting)
        base = self.ground.base_of(setting)
        planned = PlannedTraining(model=base.spec or Path(base.model), settings=settings)
        key = fingerprint(planned.identity())
        if key not in self._known:
            ahead = planned.foresee(self.ground.pool, self.ground.ctx)
            rows = verbs.everything(self.ground.pool, None).rows
            bare = float(ahead.each[rows].sum())
            if not bare:
                raise DataError(
                    f"{self.ground.where}: no sample of the pool has a token to learn; check data "
                    "and the template"
                )
            flops = bare * (1 + ahead.padding(rows))
            each = ahead.each[rows]
            cheapest = np.cumsum(np.sort(each[each > 0]))
            self._known[key] = FullPass(
                flops, int(ahead.lengths[rows].sum()), len(rows), cheapest
            )  # fmt: skip
        found: FullPass = self._known[key]
        return found

    def train_settings(self, setting: Setting) -> TrainSettings:
        """The settings of a setting's training, the batch size of its order filled in."""
        key = fingerprint(["train", setting.key])
        if key not in self._known:
            where = f"{self.ground.where}: {setting.label}"
            config = parsed(self.ground.grid, setting, where=where)
            settings: dict[str, Any] = {} if config.train is None else config.train.settings()
            batch = settings["batch_size"] or (config.order.batch_size if config.order else None)
            self._known[key] = TrainSettings(**{**settings, "batch_size": batch})
        found: TrainSettings = self._known[key]
        return found

    def scoring(self, setting: Setting) -> Cost:
        """What the scores of a setting, and choosing by them, are estimated to take from nothing.

        One score that orders, too, counts once.
        """
        return total(self.scoring_parts(setting).values())

    def scoring_parts(self, setting: Setting) -> Mapping[str, Cost]:
        """The same of each score and of the choice; what settings share has one key."""
        sections = setting.sections
        key = fingerprint(["scoring", sections["score"], sections["order"], sections["select"]])
        if key not in self._known:
            plain = {
                "data": self.ground.grid.data_section, "score": sections["score"],
                "select": {**(sections["select"] or {}), "budget": {"ratio": 0.5}}
                if sections["select"] else None,
                "order": sections["order"],
            }  # fmt: skip
            config = configs.parse(plain, f"{self.ground.where}: {setting.label}")
            _, costs = pipeline.plan(config, self.ground.ctx)
            self._known[key] = self._by_part(config.resolved(whole=True), costs)
        found: Mapping[str, Cost] = self._known[key]
        return found

    def _by_part(self, resolved: Mapping[str, Any], costs: Mapping[str, Cost]) -> dict[str, Cost]:
        score = self.by_content(resolved["score"])
        ordered_by = self.by_content((resolved["order"] or {}).get("score"))
        sections = {"score": score, "order_score": ordered_by,
                    "select": [score, resolved["select"]]}  # fmt: skip
        return {fingerprint(sections[name]): costs[name] for name in sections if name in costs}

    def evaluation(self, setting: Setting) -> Cost:
        """What one evaluation is estimated to take."""
        base = self.ground.base_of(setting)
        key = fingerprint(["evaluation", base.digest])
        if key not in self._known:
            self._known[key] = verbs.estimate_evaluation(
                base.model, self.ground.held_out, ctx=self.ground.ctx, **self.ground.grid.evaluate
            )
        found: Cost = self._known[key]
        return found

    def by_content(self, score: Any) -> Any:
        """A resolved score with what its files and models hold in place of where they lie."""
        if not isinstance(score, dict):
            return score
        out = {**score, "of": [self.by_content(each) for each in score.get("of") or []]}
        for name in _NAMED & score.keys():
            if isinstance(score[name], str):
                out[name] = _content(score[name])
        if (target := score.get("target")) is not None:
            key = fingerprint(["target", target])
            if key not in self._known:
                self._known[key] = self._target(target).fingerprint
            out["target"] = self._known[key]
        return out

    def _target(self, target: Any) -> Pool:
        data = configs.validated(configs.DataConfig, self.ground.grid.data_section, "data")
        return read_target(target, data, self.ground.ctx)

    def selector_params(self, setting: Setting) -> int | None:
        """Parameters of the largest model that scores; None without one."""
        found = []
        for model in _models(setting.sections["score"]):
            with suppress(DidactError):  # static embeddings have no numbers of a network
                found.append(read_spec(find(model)).n_total)
        return max(found, default=None)


def _content(named: str) -> str:
    """Identity of what is in a model's folder, or in a file such as an n-gram model."""
    path = Path(named).expanduser()
    return file_digest(path) if path.is_file() else digest(find(named))


def _models(score: Any) -> Iterator[str]:
    """The models that scores are made with."""
    for leaf in leaves(score):
        if isinstance(leaf.get("model"), str):
            yield leaf["model"]
