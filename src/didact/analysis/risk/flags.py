"""Flags: what was seen of a version of the data, what was expected, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from didact.core.atomic import write_text
from didact.core.errors import DataError
from didact.core.nesting import parse_json
from didact.core.paths import Place

MOST_ROWS: Final = 20  # named in a flag

# kind → what its number is, how many units of it matter at least, what to do
KINDS: Final[Mapping[str, tuple[str, float, str]]] = {
    "redundancy": (
        "raw ÷ compressed bytes at equal tokens", 0.01,
        "look at the rows that repeat others; deduplicate, or find what wrote the same text twice",
    ),
    "copies": (
        "share of rows that nearly repeat another one of a random part of the version", 0.01,
        "compare the rows with those they repeat; remove them, or choose with near_duplicates",
    ),
    "known": (
        "share of a random half's rows that nearly repeat a row of half the previous version", 0.01,
        "compare the rows with those of the previous version; leave out what came again",
    ),
    "source": (
        "share of rows from the source", 0.01,
        "ask where the source's new rows come from; hold its share with quotas",
    ),
    "held_out": (
        "share of rows that hold a held-out sample (expected 0), or a run of its words", 0.0,
        "leave the rows out (data.exclude), or evaluate on other text",
    ),
    "surprise": (
        "loss of the previous version's model on these rows", 0.01,
        "read the rows: higher is noise, wrong answers or a foreign source, lower is known text",
    ),
    "loss": (
        "training loss beside what was expected of these steps", 0.01,
        "stop and look: higher is text that contradicts itself or is hard, lower text that repeats",
    ),
    "repeats": (
        "nats per token by which text read before is easier than expected", 0.0,
        "remove the rows: the model learns them by heart, and what it reads twice is not new",
    ),
    "spike": (
        "loss of a step beside the steps just before", 0.2,
        "read the rows of the step; lower the learning rate if they are sound",
    ),
    "jump": (
        "gradient norm behind the joint ÷ before it", 0.5,
        "smooth the joint (more layers, jitter), or lower the learning rate there",
    ),
}  # fmt: skip
BEFORE: Final = ("redundancy", "copies", "known", "source", "held_out")
# kinds that are judged without an earlier version, and so do not tell whether a version is like it
ALONE: Final = ("held_out", "spike", "jump")
RISK: Final = "risk.json"
Verdict = Literal["clean", "flagged", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class Carrier:
    """A row that carries a flag.

    Attributes:
        row: Its number in the version.
        id: Its id.
        why: What is wrong with it, in a few words; "" where the kind says it.
    """

    row: int
    id: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that carry a flag.

    Attributes:
        count: How many there are.
        worst: At most `MOST_ROWS` of them, the worst first.
    """

    count: int = 0
    worst: tuple[Carrier, ...] = ()


@dataclass(frozen=True, slots=True)
class Flag:
    """Something about a version that is not as expected.

    Attributes:
        kind: One of `KINDS`.
        seen: The number.
        expected: What earlier versions led to expect.
        z: How far off it is, in standard errors, as of a normal number.
        source: The source that carries it; "" for all.
        rows: The rows that carry it.
        advice: What to do.
    """

    kind: str
    seen: float
    expected: float
    z: float
    source: str
    rows: Rows
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A number that was judged, flagged or not.

    Attributes:
        kind: One of `KINDS`.
        seen: The number.
        expected: What earlier versions led to expect.
        sd: Standard error of the difference.
        z: The difference in standard errors, as of a normal number.
        limit: The z from which it is flagged.
        source: The source that it is of; "" for all.
        place: The step, or "" where it is of no step.
        both: Whether lower is flagged as well as higher.
        unit: What the smallest difference that matters is a share of.
    """

    kind: str
    seen: float
    expected: float
    sd: float
    z: float
    limit: float
    source: str = ""
    place: str = ""
    both: bool = False
    unit: float = 1.0

    @property
    def flagged(self) -> bool:
        """Whether it is beyond the limit, and far enough off to matter."""
        off, z = self.seen - self.expected, self.z
        if self.both:
            off, z = abs(off), abs(z)
        return z > self.limit and off >= KINDS[self.kind][1] * self.unit

    def flag(self, rows: Rows) -> Flag:
        """The flag of it."""
        what = KINDS[self.kind][2]
        where = f"{self.place}: " if self.place else ""
        return Flag(
            self.kind, self.seen, self.expected, self.z, self.source, rows, f"{where}{what}"
        )


@dataclass(frozen=True, slots=True)
class Watched:
    """A version of the data that was looked at.

    Attributes:
        version: Its name.
        seen: Share of the first epoch that its training has read, 0 to 1; 0 before training.
        flags: What is not as expected, the farthest off first.
        judged: Every number that was judged.
        cannot: What could not be judged, and why, in sentences.
    """

    version: str
    seen: float
    flags: tuple[Flag, ...] = ()
    judged: tuple[Judged, ...] = ()
    cannot: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Flagged by anything; clean where it was compared with earlier ones and nothing is."""
        if self.flags:
            return "flagged"
        compared = any(one.kind not in ALONE for one in self.judged)
        return "clean" if compared else "cannot_tell"

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "version": self.version, "seen": self.seen, "verdict": self.verdict,
            "flags": [asdict(flag) for flag in self.flags],
            "judged": [asdict(one) for one in self.judged], "cannot": list(self.cannot),
        }  # fmt: skip

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Watched:
        """What `to_json` gave."""
        return cls(
            str(told["version"]), float(told["seen"]),
            tuple(_flag(one) for one in told["flags"]),
            tuple(Judged(**one) for one in told["judged"]), tuple(told["cannot"]),
        )  # fmt: skip


def _flag(told: Mapping[str, Any]) -> Flag:
    rows = Rows(told["rows"]["count"], tuple(Carrier(**one) for one in told["rows"]["worst"]))
    return Flag(**{**told, "rows": rows})


def watched(
    version: str,
    seen: float,
    found: Sequence[tuple[Judged, Rows]],
    cannot: Sequence[str] = (),
) -> Watched:
    """A version from every number that was judged of it, each with the rows that carry it."""
    flags = [one.flag(rows) for one, rows in found if one.flagged]
    flags.sort(key=lambda flag: -abs(flag.z))
    return Watched(version, seen, tuple(flags), tuple(one for one, _ in found), tuple(cannot))


def write_risk(found: Sequence[Watched], folder: Place) -> Place:
    """Write `risk.json` into a folder, a run's for its report; the file."""
    told = {"versions": [one.to_json() for one in found]}
    write_text(folder / RISK, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return folder / RISK


def read_risk(folder: Place) -> tuple[Watched, ...]:
    """What a monitor found, from the `risk.json` of a folder; nothing where there is none.

    Raises:
        DataError: The file is no such thing.
    """
    path = folder / RISK
    if not path.is_file():
        return ()
    try:
        told = parse_json(path.read_text("utf-8"))
        return tuple(Watched.from_json(one) for one in told["versions"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not what a monitor found ({error!r}); remove it, or run 'didact monitor' "
            "again with -o"
        ) from error
