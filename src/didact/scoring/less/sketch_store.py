"""Projected gradients of a pool on disk: bfloat16 unit vectors, a folder for each shard of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from didact.core.arrays import Float32s
from didact.core.checksums import CheckedFile
from didact.core.entries import ENTRY, open_entry
from didact.core.errors import DamagedError
from didact.core.pieces import Pieces


@dataclass(frozen=True, slots=True)
class SketchStore:
    """Unit vectors of every sample at one checkpoint, `(n, dimension)` in shards.

    Attributes:
        folder: The entry that holds the shards; they are verified when they are read.
        starts: First row of every shard.
    """

    folder: Path
    starts: tuple[int, ...]

    def read(self, rows: npt.NDArray[np.int64]) -> tuple[Float32s, dict[int, str]]:
        """Vectors of some rows, and which of them have none and why.

        **Cost:** the shards are memory-mapped; only the rows asked for are read.
        """
        out: Float32s | None = None
        missing: dict[int, str] = {}
        shards = np.searchsorted(np.asarray(self.starts), rows, side="right") - 1
        for shard in np.unique(shards).tolist():
            at = np.flatnonzero(shards == shard)
            inside = rows[at] - self.starts[shard]
            folder = self.folder / shard_name(shard)
            for name in ("vectors.npy", "about.json"):
                _checked_file(self.folder, f"{shard_name(shard)}/{name}").verify()
            kept = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
            if out is None:
                out = np.zeros((len(rows), kept.shape[1]), np.float32)
            out[at] = single(kept[inside])
            reasons = orjson.loads((folder / "about.json").read_bytes())["missing"]
            missing |= {
                int(a): reasons[str(i)]
                for a, i in zip(at, inside.tolist(), strict=True)
                if str(i) in reasons
            }
        return (out if out is not None else np.zeros((0, 1), np.float32)), missing


FilledStore = tuple[Pieces, list[str], dict[str, Any]]  # shards, their names, facts


def save_store(filled: FilledStore, folder: Path) -> None:
    """Link finished shards into an empty folder."""
    pieces, names, facts = filled
    for name in names:
        pieces.link(name, folder / name)
    (folder / "facts.json").write_bytes(orjson.dumps(facts))


def load_store(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder that `save_store` filled, and its facts; no shard is read."""
    return folder, orjson.loads(_checked_file(folder, "facts.json").read())


@dataclass(frozen=True, slots=True)
class SketchShard:
    """Sketches of some rows; rows in `missing` count from the first of them.

    Attributes:
        vectors: bfloat16 as uint16, `(b, dimension)`.
        missing: Row to the reason it has none.
        facts: What showed where the model was open.
    """

    vectors: npt.NDArray[np.uint16]
    missing: Mapping[int, str]
    facts: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""
        np.save(folder / "vectors.npy", self.vectors, allow_pickle=False)
        about = {"missing": self.missing, "facts": self.facts}
        (folder / "about.json").write_bytes(orjson.dumps(about, option=orjson.OPT_NON_STR_KEYS))

    @classmethod
    def load(cls, folder: Path) -> SketchShard:
        """The facts that `save` wrote, without the vectors, which stay on disk."""
        about = orjson.loads((folder / "about.json").read_bytes())
        return cls(np.empty((0, 0), np.uint16), {}, about["facts"])


def shard_name(shard: int) -> str:
    """The folder of a shard, by its number."""
    return f"{shard:06d}"


def _checked_file(folder: Path, name: str) -> CheckedFile:
    """A file of an entry; the entry is read again once it was made again."""
    try:
        made = (folder / ENTRY).stat().st_ino
    except OSError as error:
        raise DamagedError(folder / ENTRY, str(error)) from error
    return _of_entry(folder, made, name)


@lru_cache(maxsize=64)
def _of_entry(folder: Path, made: int, name: str) -> CheckedFile:
    del made
    return open_entry(folder).file(name)


def bfloat16(values: Float32s) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def single(halves: npt.NDArray[np.uint16]) -> Float32s:
    """bfloat16 as float32, exactly."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
