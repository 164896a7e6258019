"""Writes the canonical store of a pool from its shards; `didact.core.pool` reads it.

Whoever reads the input writes shards (`didact.data.store.shard`) and sends back numbers. What only
all rows together tell is found here: ids that repeat, copies, names in order of first appearance,
the validation split, the fingerprint. None of it depends on who wrote which shard, or when.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import UInt64s
from didact.core.atomic import remove
from didact.core.checksums import Checksums
from didact.core.findings import place
from didact.core.manifest import fingerprint
from didact.core.paths import RemotePath
from didact.core.pool import STORE_VERSION, Kind, shard_name
from didact.data.reading.files import File
from didact.data.reading.parts import Before
from didact.data.reading.settings import DataSettings
from didact.data.store.gathered import Gathered, accounted, shown_name
from didact.data.store.left_out import LISTS, placed
from didact.data.store.row_identity import Seen, among, copy_numbers, mixed, validation_split
from didact.data.store.shard import PARTS, Known, Names, Shard, stored_columns
from didact.data.store.token_counts import TokenCounter

_NAMED: Final = ("source", "task")
_NONE: Final = np.empty(0, np.uint64)
_IDENTIFYING: Final = ("id_hash", "group", "n_tokens", "source", "task", "held", "record_length")


class StoreWriter:
    """Puts the shards of a store together, in their order.

    Attributes:
        n: Rows.
        files: Checksums of the files of the shards, by their names in the store.
        elsewhere: Where those lie that are not in the folder.
        counts: Rows read so far, rejected and excluded.

    **Cost:** 24 bytes a row in memory, 8 of them for given ids; about 45 while it finishes.
    """

    def __init__(
        self, folder: Path, settings: DataSettings, rows_schema: pa.Schema | None = None
    ) -> None:
        """Start without shards.

        Args:
            folder: The folder in which shards are written.
            settings: How rows are read.
            rows_schema: The schema of the user's rows when they come as Arrow.
        """
        self._folder, self._settings, self._rows_schema = folder, settings, rows_schema
        self._shards: list[Shard] = []
        self._groups: list[UInt64s] = []
        self._codes: list[dict[str, npt.NDArray[np.int32]]] = []
        self._names = {name: Names(name) for name in _NAMED}
        self._seen_ids, self._seen_texts = Seen(), Seen()
        self._copies: dict[int, int] = {}
        self._gathered = Gathered()
        self._first_left_out: dict[str, tuple[str, int]] = {}
        self._identity = hashlib.blake2b(digest_size=16)
        self._kind: Kind = "text"
        self.n, self.files = 0, dict[str, Checksums]()
        self.elsewhere: dict[str, RemotePath] = {}
        self.counts = {"read": 0, **dict.fromkeys(LISTS, 0)}

    def known(self, shard: Shard) -> Known:
        """What the shards before tell of one, which then has to be written again if it is any.

        It is to be asked once of every shard, in their order.
        """
        again = np.flatnonzero(self._seen_ids.repeats(shard.given))
        if len(again):  # of those inside of the shard its writer knew
            again = np.setdiff1d(again, np.flatnonzero(Seen().repeats(shard.given)))
        return Known(again, self._earlier(shard.unnamed))

    def _earlier(self, unnamed: UInt64s) -> dict[int, int]:
        """Texts without an id that earlier shards have too → how many they have."""
        if not len(unnamed):
            return {}
        distinct, counts = np.unique(unnamed, return_counts=True)
        met = self._seen_texts.repeats(distinct)
        out = {int(text): self._copies.get(int(text), 1) for text in distinct[met]}
        for text, before, count in zip(distinct.tolist(), met, counts.tolist(), strict=True):
            if before or count > 1:
                self._copies[text] = out.get(text, 0) + count
        return out

    def add(
        self, shard: Shard, file: File, before: Before, shared: RemotePath | None = None
    ) -> None:
        """Take the next shard, as it is to be.

        Args:
            shard: The shard.
            file: Its first file.
            before: What stands before the rows of that file, if their writer did not know.
            shared: Where its files lie, if not in the folder.
        """
        names = {file.name, shown_name(file)}

        def moved(first: tuple[str, int]) -> tuple[str, int]:
            return (first[0], first[1] + before.rows) if first[0] in names else first

        self._gathered.merge(shard.gathered, moved)
        for name in LISTS:
            if shard.left_out[name]:
                self._first_left_out.setdefault(name, moved(shard.first_left_out[name]))
                self._list(name, shard.number, partial(placed, file=file.name, before=before))
            self.counts[name] += shard.left_out[name]
        self.counts["read"] += shard.n_read
        position = len(self._shards)
        for name in sorted(shard.files):
            # another number, if some are empty
            called = name.replace(shard_name("", shard.number, ""), shard_name("", position, ""))
            if shared is not None:
                self.elsewhere |= {called: shared / name} if shard.n else {}
            elif not shard.n:
                remove(self._folder / name)
            elif called != name:
                (self._folder / name).rename(self._folder / called)
            if shard.n:
                self.files[called] = shard.files[name]
        if not shard.n:
            return
        self._kind = shard.kind
        self._groups.append(shard.groups)
        self._codes.append({n: self._names[n].codes_of(shard.names[n]) for n in _NAMED})
        self._identity.update(shard.records.encode())
        self.n += shard.n
        self._shards.append(replace(shard, groups=_NONE, given=_NONE, unnamed=_NONE))

    def _list(self, name: str, shard: int, place: Callable[[bytes], bytes]) -> None:
        """Append the list of a shard to that of the store."""
        part = self._folder / PARTS / shard_name(name, shard, "jsonl")
        with part.open("rb") as lines, (self._folder / f"{name}.jsonl").open("ab") as whole:
            for line in map(place, lines):
                self._identity.update(line)
                whole.write(line)

    def finish(
        self, formats: Sequence[str], counter: TokenCounter, inputs: Sequence[str], seed: int
    ) -> dict[str, Any]:
        """Index, validation split, fingerprint, meta; the store is complete then.

        Args:
            formats: The formats of the rows.
            counter: What counted the tokens.
            inputs: Hashes of the input files, which identify Arrow rows.
            seed: Draws the validation split.
        """
        del self._seen_ids, self._seen_texts
        settings, shards = self._settings, self._shards
        as_arrow = self._rows_schema is not None
        if self._rows_schema is not None:
            (self._folder / "rows.schema").write_bytes(self._rows_schema.serialize())
        rows = _starts(shard.n for shard in shards)
        records = _starts(shard.n_records for shard in shards)
        described: dict[str, Any] = {
            "store": STORE_VERSION,
            "kind": self._kind,
            "formats": list(formats),
            "columns": dict(settings.columns),
            "reasoning": settings.reasoning,
            "template": settings.template,
            "dedup": settings.dedup,
            "unit": settings.unit,
            "token_counter": {"name": counter.name, "estimate": counter.estimate},
            "source_names": list(self._names["source"].codes),
            "task_names": list(self._names["task"].codes),
            "record_format": "arrow" if as_arrow else "json",
            # finished shards of scores are kept by batch
            "batch_starts": _over(rows, (shard.batch_starts for shard in shards)),
            "shard_rows": rows,
            "n": self.n,
        }
        duplicates = self._write_index(records, seed)
        self._identity.update(
            fingerprint({**described, "rows": list(inputs) if as_arrow else []}).encode()
        )
        counts = {**self.counts, "kept": self.n, "duplicates": duplicates}
        first = {name: place(*found) for name, found in self._first_left_out.items()}
        findings = (
            *self._gathered.findings(settings.drop),
            *accounted(counts, first, dedup=settings.dedup == "exact"),
        )
        meta = {
            **described,
            "shard_records": records,
            "pool_offsets": [at for shard in shards for at in shard.pool_offsets],
            "record_batch_starts": _over(records, (shard.record_starts for shard in shards)),
            "rows_offsets": [at for shard in shards for at in shard.record_offsets],
            "stored_columns": list(stored_columns(settings)),
            "learned_bytes": sum(shard.learned_bytes for shard in shards),
            "first_listed": first,
            "findings": [found.to_json() for found in findings],
            "counts": counts,
            "fingerprint": self._identity.hexdigest(),
        }
        (self._folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        remove(self._folder / PARTS)
        return meta

    def _write_index(self, records: Sequence[int], seed: int) -> int:
        """Write index.arrow, a batch a shard, and tell the identity; gives the number of copies."""
        group = np.concatenate(self._groups)
        self._groups.clear()
        copy = copy_numbers(group)
        counted = (copy == 1) | (self._settings.dedup == "none")
        units = group
        if self._settings.unit == "chunk":
            # chunks of one document stay together, and with chunks that are equal to one of them
            starts = (self._part(i, records)["record_start"] for i in range(len(self._shards)))
            units = mixed(np.concatenate(list(starts)).astype(np.uint64))
        set_aside = validation_split(units, counted, self._settings.validation, seed)
        held = among(group, set_aside)
        done = 0
        with contextlib.ExitStack() as opened:
            file: Any = None
            for i in range(len(self._shards)):
                index = self._part(i, records)
                some = slice(done, done + len(index["group"]))
                index |= {"copy": copy[some], "held": held[some]}
                index["id_hash"] = _all_ids(index)
                batch = pa.RecordBatch.from_pydict({k: pa.array(v) for k, v in index.items()})
                if file is None:
                    path = str(self._folder / "index.arrow")
                    file = opened.enter_context(pa.ipc.new_file(path, batch.schema))
                file.write_batch(batch)
                for name in _IDENTIFYING:
                    self._identity.update(np.ascontiguousarray(index[name]).data)
                done = some.stop
        return int(np.count_nonzero(copy > 1))

    def _part(self, position: int, records: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
        """The index of a shard as its writer left it, by the codes and the places of the store."""
        name = shard_name("index", self._shards[position].number, "arrow")
        with pa.OSFile(str(self._folder / PARTS / name)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
        index = {n: batch.column(n).to_numpy() for n in batch.schema.names}
        for name, codes in self._codes[position].items():
            index[name] = codes[index[name]]
        index["record_start"] = index["record_start"] + records[position]
        return index


def _starts(sizes: Iterable[int]) -> list[int]:
    """Where each of some things that follow one another begins."""
    return [0, *accumulate(sizes)][:-1]


def _over(starts: Sequence[int], places: Iterable[Sequence[int]]) -> list[int]:
    """Places within things that follow one another, counted from the beginning of the first."""
    return [start + at for start, some in zip(starts, places, strict=True) for at in some]


def _all_ids(index: Mapping[str, npt.NDArray[Any]]) -> UInt64s:
    """Hashes of the ids; those of rows without one come from content and copy number."""
    unnamed = index["id_hash"] == 0
    if not unnamed.any():
        return index["id_hash"]
    by_content = mixed(index["group"] + index["copy"].astype(np.uint64))
    return np.where(unnamed, by_content, index["id_hash"])
