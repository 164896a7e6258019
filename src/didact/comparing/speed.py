"""Speed: FLOPs a second of this very training on this machine, by some steps of it."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from didact import verbs
from didact.comparing.estimates import Estimates
from didact.comparing.ground import Ground, one_at_a_time
from didact.comparing.settings import Setting
from didact.core.atomic import write_text
from didact.core.manifest import fingerprint
from didact.core.nesting import parse_json
from didact.core.paths import Place
from didact.core.protocols import Progress
from didact.core.scores import TrainingOrder
from didact.core.scratch import scratch
from didact.execution.calibrated import this_machine
from didact.execution.devices import local_devices
from didact.training.settings import DEFAULT_BATCH

_FILE: Final = "speed.json"
_STEPS: Final = 4  # the first of them warms up


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a training goes here.

    Attributes:
        flops_per_second: FLOPs as executed ÷ wall seconds of a step.
        flops_per_cpu_second: FLOPs as executed ÷ processor seconds of a step, summed over cores;
            on an accelerator, whose time that is, the same as `flops_per_second`.
        start_seconds: Wall seconds that opening and saving a model take beside its steps.
        device: Name of the device.
    """

    flops_per_second: float
    flops_per_cpu_second: float
    start_seconds: float
    device: str

    def seconds(self, flops: float, runs: int = 1) -> float:
        """Foretold wall seconds of some FLOPs in some runs."""
        return flops / self.flops_per_second + runs * self.start_seconds


def measured_speed(ahead: Estimates, setting: Setting, *, timing: bool = True) -> Speed:
    """Time some steps of a setting's training on random samples; what was timed before is kept.

    Args:
        ahead: What is foretold of its training.
        setting: The setting.
        timing: Whether steps may be timed; else what is not known has a rate of NaN.

    **Cost:** four optimizer steps.
    """
    ground = ahead.ground
    base = ground.base_of(setting)
    settings = {
        k: v for k, v in asdict(ahead.train_settings(setting)).items()
        if k not in {"flops", "max_steps", "average", "average_last", "average_every", "ema_decay"}
    }  # fmt: skip
    key = fingerprint([base.digest, settings, this_machine()])
    if (known := _known(ground.home, key)) is not None:
        return known
    if not timing:
        return Speed(math.nan, math.nan, math.nan, "")
    with one_at_a_time(ground.home, "time some steps", ground.ctx):
        found = _known(ground.home, key) or _timed(ground, base.model, settings)
        kept = {**_kept(ground.home / _FILE), key: asdict(found)}
        write_text(ground.home / _FILE, json.dumps(kept, indent=1) + "\n")
    return found


def _timed(ground: Ground, model: str, settings: Mapping[str, Any]) -> Speed:
    rows = verbs.everything(ground.pool, None).rows
    batch = settings["batch_size"] or DEFAULT_BATCH
    drawn = np.random.default_rng(0).choice(rows, min(_STEPS * batch, len(rows)), replace=False)
    order = TrainingOrder(drawn, ground.pool.fingerprint, "random")
    home = ground.home
    out = home / ".speed" if isinstance(home, Path) else scratch("speed") / fingerprint(str(home))
    shutil.rmtree(out, ignore_errors=True)
    clock: dict[int, float] = {0: time.process_time()}

    def watched(step: Progress) -> None:
        if step.unit == "steps":
            clock[step.done] = time.process_time()
        ground.ctx.progress(step)

    began = time.monotonic()
    trained = verbs.train(
        ground.pool, order, model=model, out=out / "model", replace_other=True,
        ctx=replace(ground.ctx, progress=watched), **settings,
    )  # fmt: skip
    wall = time.monotonic() - began
    first, last = trained.steps[0], trained.steps[-1]
    flops, seconds = float(last.total_flops or 0), float(last.seconds or 0)
    start = max(wall - seconds, 0.0)
    warm = len(trained.steps) > 1
    cpu = clock[last.step] - clock[1 if warm else 0]
    if warm:
        flops -= float(first.total_flops or 0)
        seconds -= float(first.seconds or 0)
    rate = flops / max(seconds, 1e-9)
    on_cpu = local_devices(settings["device"])[0] == "cpu"
    per_cpu_second = flops / max(cpu, 1e-9) if on_cpu else rate
    shutil.rmtree(out, ignore_errors=True)
    return Speed(rate, per_cpu_second, start, str(trained.about["device"]))


def _known(home: Place, key: str) -> Speed | None:
    """What was timed before, by this version."""
    found = _kept(home / _FILE).get(key)
    if not isinstance(found, dict) or found.keys() != {field.name for field in fields(Speed)}:
        return None
    return Speed(**found)


def _kept(file: Place) -> dict[str, Any]:
    try:
        found = parse_json(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
