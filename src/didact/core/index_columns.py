"""The numeric columns of a store: a number of every row, in memory once somebody asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrow_files import telling_damage
from didact.core.checksums import CheckedFile
from didact.core.remote_files import RemoteFile


class IndexColumns(dict[str, npt.NDArray[Any]]):
    """Columns by name; each is read when it is first asked for, and cannot be written.

    Of a file behind a URL all are read with the first: a column lies in as many places as there are
    shards.
    """

    def __init__(self, file: CheckedFile, n: int) -> None:
        """Start with nothing read.

        Args:
            file: An Arrow file with the columns.
            n: Its rows.
        """
        super().__init__()
        self._file, self._n = file, n

    def __missing__(self, name: str) -> npt.NDArray[Any]:
        found = self._read(() if isinstance(self._file, RemoteFile) else (name,))
        self.update(found)
        return found[name]

    def _read(self, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Some columns; without names all."""
        out: dict[str, npt.NDArray[Any]] = {}
        with telling_damage(self._file), self._file.stream() as stream:
            there = pa.ipc.open_file(stream).schema.names
            some = [number for number, name in enumerate(there) if name in names]
            options = pa.ipc.IpcReadOptions(included_fields=some)
            reader, done = pa.ipc.open_file(stream, options=options), 0
            for batch in map(reader.get_batch, range(reader.num_record_batches)):
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    values = column.to_numpy(zero_copy_only=False)
                    whole = out.setdefault(name, np.empty(self._n, values.dtype))
                    whole[done : done + len(values)] = values
                done += len(batch)
        for array in out.values():
            array.flags.writeable = False
        return out
