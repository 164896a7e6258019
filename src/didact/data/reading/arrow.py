"""Arrow IPC files and streams, Feather among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

from didact.core.arrow_files import retyped
from didact.data.reading.container import TableContainer
from didact.data.reading.files import File, arrow_source, readable


@contextmanager
def _reader(file: File) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Schema and record batches of an Arrow file or stream."""
    with readable(file.path), arrow_source(file.path, file.held) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            yield stream.schema, iter(stream)
        else:
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            yield reader.schema, batches


def _schema(file: File) -> pa.Schema:
    with _reader(file) as (schema, _):
        return schema


def _batches(file: File, /, *, batch_rows: int, batch_bytes: int) -> Iterator[pa.RecordBatch]:
    with _reader(file) as (_, batches):
        for batch in batches:
            _validate(batch)
            # not nbytes: pyarrow before 24 does not know it of views
            row_bytes = batch.get_total_buffer_size() / max(batch.num_rows, 1)
            fitting = min(batch_rows, max(1, int(batch_bytes / max(row_bytes, 1))))
            for at in range(0, batch.num_rows, fitting):
                yield batch.slice(at, fitting)


def _validate(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid when offsets of the batch point outside it; a damaged file may say so.

    Text that is not UTF-8 is left to the row that has it.
    """
    batch.validate()
    as_bytes = [field.with_type(retyped(field.type, _bytes)) for field in batch.schema]
    batch.cast(pa.schema(as_bytes)).validate(full=True)


def _bytes(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(type_):
        return pa.large_binary()
    if pa.types.is_string_view(type_):
        return pa.binary_view()
    return pa.binary() if pa.types.is_string(type_) else type_


CONTAINER: Final = TableContainer(
    suffixes=(".arrow", ".ipc", ".feather"),
    beginnings=(b"ARROW1", b"\xff\xff\xff\xff"),
    schema=_schema,
    batches=_batches,
)
