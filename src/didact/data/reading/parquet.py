"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from didact.data.reading.container import TableContainer
from didact.data.reading.files import CHUNK, File, arrow_source, readable


def _schema(file: File) -> pa.Schema:
    import pyarrow.parquet as pq

    with arrow_source(file.path, file.held) as source, pq.ParquetFile(source) as parquet:
        return parquet.schema_arrow


def _batches(file: File, /, *, batch_rows: int, batch_bytes: int) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with (
        readable(file.path),
        arrow_source(file.path, file.held) as source,
        pq.ParquetFile(source, buffer_size=CHUNK, pre_buffer=False) as parquet,
    ):
        size = source.size()
        groups = [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)]
        row_bytes = sum(g.total_byte_size for g in groups) / max(parquet.metadata.num_rows, 1)
        fitting = min(batch_rows, max(1, int(batch_bytes / max(row_bytes, 1))))
        done = 0
        for batch in parquet.iter_batches(batch_size=fitting):
            yield batch
            done += len(batch)
            file.watch(size * done // parquet.metadata.num_rows)


CONTAINER: Final = TableContainer(
    suffixes=(".parquet", ".pq"), beginnings=(b"PAR1",), schema=_schema, batches=_batches
)
