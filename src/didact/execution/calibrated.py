"""What was measured of this machine, kept in the cache; and the rates that hours are made of."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Final

from didact.accounting.devices import HERE, Calibration, Mfu, Rate, device, rate
from didact.core.atomic import write_text
from didact.core.errors import ConfigError
from didact.core.nesting import parse_json
from didact.core.paths import Place

FILE: Final = "calibration.json"
_DRIVER: Final = Path("/proc/driver/nvidia/gpus")
_REMEDY: Final = "run 'didact calibrate' (about a minute), or name a device of the table: H100"


def this_machine() -> str:
    """What decides how fast this machine is: processor, cores, threads asked for, accelerators.

    Read without torch, so that a plan can ask; the same words mean the same speed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores"]
    if threads := os.environ.get("OMP_NUM_THREADS"):
        parts.append(f"OMP_NUM_THREADS={threads}")
    return ", ".join([*parts, *_accelerators()])


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _accelerators() -> list[str]:
    """Models of NVIDIA's accelerators, where the driver tells them."""
    try:
        files = sorted(_DRIVER.glob("*/information"))
        texts = [file.read_text(encoding="utf-8") for file in files]
    except OSError:
        return []
    found = (re.search(r"^Model:\s*(.+)$", text, re.MULTILINE) for text in texts)
    return [each[1].strip() for each in found if each]


def save_calibration(found: Calibration, cache_dir: Place) -> Place:
    """Keep a calibration; the one before it is gone."""
    path = cache_dir / FILE
    write_text(path, json.dumps(found.to_json(), indent=1) + "\n")
    return path


def load_calibration(cache_dir: Place) -> Calibration:
    """The calibration of this machine.

    Raises:
        ConfigError: There is none, it is not readable, or it was made on another machine or with
            another number of threads.
    """
    path = cache_dir / FILE
    try:
        found = Calibration.from_json(parse_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"this machine was not measured yet: {_REMEDY}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a calibration ({error}); {_REMEDY}") from error
    if found.machine != (here := this_machine()):
        raise ConfigError(
            f"{path} was measured on another machine or with other threads ({found.machine}), "
            f"this is {here}; {_REMEDY}"
        )
    return found


def rate_of(name: str, cache_dir: Place, mfu: Mfu | None = None) -> Rate:
    """FLOPs a second of a device by its name.

    Args:
        name: A device of the table, or "here" for what was measured of this machine.
        cache_dir: Where the calibration is kept.
        mfu: Shares of the peak, instead of the usual ones or of those measured.

    Raises:
        ConfigError: The device is not known, or this machine was not measured.
    """
    if name.strip().lower() == HERE:
        return rate(load_calibration(cache_dir), mfu)
    return rate(device(name), mfu)
