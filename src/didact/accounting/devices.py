"""What devices can do at most, what trainings get out of them, and the hours that work takes.

The table was read in November 2026.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from didact.core.errors import ConfigError, did_you_mean

HERE: Final = "here"
_NVIDIA: Final = "the maker's data sheet; dense, half of its figure with sparsity"
_PRICE: Final = "RunPod, a serverless worker that is always on, by the second (docs, read 2026-11)"
_APPLE: Final = "the maker's press release; float32, no faster in 16 bits"
_APPLE_COUNTED: Final = "2 × ALUs × clock; float32, no faster in 16 bits"


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator of the table.

    Attributes:
        name: What people call it.
        peak_flops_per_second: Dense 16-bit products with 32-bit sums; data sheets print twice
            that where weights are sparse.
        source: Where the peak is from.
        dollars_per_hour: A price to rent it at, in US dollars; None where none is known here.
        price_source: Where that is from.
    """

    name: str
    peak_flops_per_second: float
    source: str
    dollars_per_hour: float | None = None
    price_source: str = ""


def _rented(name: str, peak: float, dollars: float, source: str = _NVIDIA) -> Device:
    return Device(name, peak, source, dollars, _PRICE)


DEVICES: Final[tuple[Device, ...]] = (
    _rented("A100", 312e12, 2.16),
    _rented("H100", 989.4e12, 3.35),
    Device("H100 PCIe", 756.5e12, _NVIDIA),
    _rented("H200", 989.4e12, 4.46),
    _rented("B200", 2250e12, 6.84),
    Device("MI300X", 1307.4e12, "the maker's data sheet; dense"),
    _rented("L40S", 362.05e12, 1.33),
    Device("L4", 121e12, _NVIDIA),
    Device("A10", 125e12, _NVIDIA),
    _rented("RTX 4090", 165.2e12, 0.76, "the maker's white paper on Ada; dense, 32-bit sums"),
    Device("RTX 3090", 71e12, "the maker's white paper on GA102; dense, 32-bit sums"),
    Device("Apple M1", 2.6e12, _APPLE),
    Device("Apple M1 Pro", 5.2e12, _APPLE),
    Device("Apple M1 Max", 10.4e12, _APPLE),
    Device("Apple M1 Ultra", 21e12, _APPLE),
    Device("Apple M2", 3.6e12, _APPLE),
    Device("Apple M2 Max", 13.6e12, f"{_APPLE_COUNTED} (4,864 at 1.398 GHz)"),
    Device("Apple M2 Ultra", 27.2e12, f"{_APPLE_COUNTED} (9,728 at 1.398 GHz)"),
    Device("Apple M4", 3.8e12, f"{_APPLE_COUNTED} (1,280 at 1.470 GHz)"),
    Device("Apple M4 Max", 17.2e12, f"{_APPLE_COUNTED} (5,120 at 1.678 GHz)"),
)

_OTHER_NAMES: Final = {
    "h100sxm": "H100", "h100sxm5": "H100", "h200sxm": "H200", "a100sxm": "A100",
    "a100sxm4": "A100", "a100pcie": "A100", "mi300": "MI300X",
}  # fmt: skip
_SAYS_NOTHING: Final = re.compile(r"nvidia|amd|instinct|geforce|apple|sxm\d?|hbm\d*e?|\d+gb")


@dataclass(frozen=True, slots=True)
class Mfu:
    """Model FLOPs utilization, 0 to 1: the share of the peak that counted FLOPs are done at.

    The default is what fine-tuning with batches of some thousand tokens and more gets; short
    samples, small models and slow storage get less.
    """

    low: float = 0.3
    middle: float = 0.4
    high: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.middle <= self.high <= 1:
            raise ConfigError(
                f"MFU {self.low:g} to {self.high:g}: expected shares of the peak, above 0 and at "
                "most 1, as in 0.3-0.5 or 40%"
            )


MFU: Final = Mfu()


@dataclass(frozen=True, slots=True)
class Rate:
    """FLOPs that a device does in a second of real work.

    Attributes:
        device: Its name.
        low: FLOPs a second where it goes badly.
        middle: FLOPs a second to reckon with.
        high: FLOPs a second where it goes well.
        source: Where these are from.
        dollars_per_hour: A price to rent it at; None where none is known.
    """

    device: str
    low: float
    middle: float
    high: float
    source: str
    dollars_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours that work takes on one device: as few as `low`, as many as `high`."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a machine did of real work in a measurement (`didact calibrate`).

    Attributes:
        device: Name of the device.
        machine: The machine and what it gave the measurement: host, processor, cores, threads.
        threads: Threads that torch used, where the device is a processor.
        dtype: Type of arithmetic.
        date: Day of the measurement, ISO 8601.
        versions: Libraries, "torch 2.13.0".
        forward_flops_per_second: Of forward passes, counted as `accounting.flops` counts them.
        training_flops_per_second: Of steps of a training: forward, backward, optimizer.
        peak_flops_per_second: Of a large product of square matrices.
        n_params: Parameters of the model that was measured.
        tokens_per_batch: Tokens of its batches.
        seconds: Wall-clock seconds that it took.
    """

    device: str
    machine: str
    threads: int
    dtype: str
    date: str
    versions: tuple[str, ...]
    forward_flops_per_second: float
    training_flops_per_second: float
    peak_flops_per_second: float
    n_params: int
    tokens_per_batch: int
    seconds: float

    @property
    def mfu(self) -> float:
        """Training's share of the peak that was measured, 0 to 1."""
        return self.training_flops_per_second / self.peak_flops_per_second

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` takes them back."""
        return {**asdict(self), "versions": list(self.versions), "mfu": self.mfu}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """A calibration from its `to_json`.

        Raises:
            ValueError: A value is missing, or a rate is not a number above 0.
        """
        missing = [each.name for each in fields(cls) if each.name not in values]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
        known = {each.name: values[each.name] for each in fields(cls)}
        for name in (each for each in known if each.endswith("per_second")):
            if not isinstance(known[name], int | float) or not 0 < known[name] < math.inf:
                raise ValueError(f"{name} is {known[name]!r}; expected a number above 0")
        return cls(**{**known, "versions": tuple(known["versions"])})


def device(name: str) -> Device:
    """A device of the table, however its name is spelled.

    Args:
        name: "H100", "h100 sxm", "NVIDIA A100 80GB", "4090", "M2 Ultra".

    Raises:
        ConfigError: The table has no such device.
    """
    names = {_plain(each.name): each for each in DEVICES}
    names |= {other: names[_plain(own)] for other, own in _OTHER_NAMES.items()}
    if (found := names.get(_plain(name))) is not None:
        return found
    hint = did_you_mean(name, [each.name for each in DEVICES])
    raise ConfigError(
        f"device {name!r} is not in the table{hint}; this machine is 'here', once "
        "'didact calibrate' has measured it"
    )


def rate(of: Device | Calibration, mfu: Mfu | None = None) -> Rate:
    """FLOPs a second of a device of the table, or of a machine that was measured.

    Args:
        of: The device: its peak times the MFU. A calibration: what training reached, and what
            forward passes did, as the ends.
        mfu: Shares of the peak; 0.3 to 0.5 by default, of a calibration what was measured.
    """
    peak = of.peak_flops_per_second
    dollars: float | None = None
    if isinstance(of, Calibration):
        name, of_what = of.device, f"the measured {peak:.3g} FLOP/s"
        if mfu is None:
            low, high = sorted((of.forward_flops_per_second, of.training_flops_per_second))
            source = f"measured on {of.date}, {of.dtype}"
            return Rate(name, low, of.training_flops_per_second, high, source)
    else:
        name, dollars, of_what = of.name, of.dollars_per_hour, f"{peak:.3g} FLOP/s"
    share = mfu or MFU
    rates = (share.low * peak, share.middle * peak, share.high * peak)
    return Rate(name, *rates, f"{share.low:g}-{share.high:g} of {of_what}", dollars)


def hours(flops: float, at: Rate) -> Hours:
    """Hours on one device for a number of FLOPs; FLOPs alone, no reading and no waiting."""
    return Hours(*(flops / each / 3600 for each in (at.high, at.middle, at.low)))


def parse_mfu(text: str) -> Mfu:
    """An MFU from "0.4", "40%" or "0.3-0.5".

    Raises:
        ConfigError: It is none of these.
    """
    number = r"(\d*\.?\d+|\d+\.)"
    found = re.fullmatch(rf"\s*{number}(%?)\s*(?:-\s*{number}(%?))?\s*", text)
    if found is None:
        raise ConfigError(f"mfu={text!r}: expected a share of the peak such as 0.4, 40% or 0.3-0.5")
    scale = 100 if found[2] or found[4] else 1
    low, high = float(found[1]) / scale, float(found[3] or found[1]) / scale
    return Mfu(low, (low + high) / 2, high)


def _plain(name: str) -> str:
    """A name without its maker, its memory and its form, which do not tell devices apart here."""
    words = re.split(r"[\s_-]+", name.strip().lower())
    return "".join(word for word in words if not _SAYS_NOTHING.fullmatch(word)).removeprefix("rtx")
