"""Parquet and Arrow files: one schema over several files, and slices of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from didact.core.arrow_files import retyped
from didact.core.errors import DataError
from didact.data.reading.files import CHUNK, File, readable


@contextmanager
def _arrow_reader(file: File) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Schema and record batches of an Arrow file or stream; memory-mapped."""
    with readable(file.path), pa.memory_map(str(file.path)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            stream = pa.ipc.open_stream(source)
            yield stream.schema, iter(stream)
        else:
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            yield reader.schema, batches


def arrow_schema(files: Iterable[File]) -> pa.Schema:
    """One schema for the rows of Parquet and Arrow files; what one lacks is null there.

    Raises:
        DataError: A file cannot be read, or a column has different types in two files.
    """
    shared: pa.Schema | None = None
    first: Path | None = None
    for file in files:
        with readable(file.path):
            schema = _own_schema(file)
            names = schema.names
            columns = [field.with_type(retyped(field.type, _wide)) for field in schema]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise DataError(
                f"{file.path}: has the column {min(repeated)!r} twice; expected each name once: "
                "rename one"
            )
        schema = pa.schema(columns, schema.metadata)
        if shared is None:
            shared, first = schema, file.path
        elif not schema.equals(shared):
            try:
                shared = pa.unify_schemas([shared, schema], promote_options="permissive")
            except pa.ArrowException as error:
                raise DataError(
                    f"{file.path}: its columns do not fit those of {first} ({error}); expected "
                    "one type a column: convert one of the files, or read them apart"
                ) from error
    return shared


def _own_schema(file: File) -> pa.Schema:
    if file.container == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(file.path) as parquet:
            return parquet.schema_arrow
    with _arrow_reader(file) as (schema, _):
        return schema


def _wide(type_: pa.DataType) -> pa.DataType:
    """A dictionary type that has room for the values of all files and batches."""
    if pa.types.is_dictionary(type_):
        return pa.dictionary(pa.int32(), type_.value_type, ordered=type_.ordered)
    return type_


def arrow_batches(
    file: File, schema: pa.Schema, *, batch_rows: int, batch_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Slices of a Parquet or Arrow file with the columns of `schema`, of bounded size.

    Raises:
        DataError: The file is damaged, or a value does not fit the column's type.
    """
    if file.container == "parquet":
        import pyarrow.parquet as pq

        with (
            readable(file.path),
            pq.ParquetFile(file.path, buffer_size=CHUNK, pre_buffer=False) as parquet,
        ):
            groups = [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)]
            row_bytes = sum(g.total_byte_size for g in groups) / max(parquet.metadata.num_rows, 1)
            fitting = min(batch_rows, max(1, int(batch_bytes / max(row_bytes, 1))))
            done = 0
            for batch in parquet.iter_batches(batch_size=fitting):
                yield _fitted(batch, schema, file.path)
                done += len(batch)
                file.watch(file.path.stat().st_size * done // parquet.metadata.num_rows)
        return
    with _arrow_reader(file) as (_, batches):
        for batch in batches:
            _validate(batch)
            row_bytes = batch.nbytes / max(batch.num_rows, 1)
            fitting = min(batch_rows, max(1, int(batch_bytes / max(row_bytes, 1))))
            for at in range(0, batch.num_rows, fitting):
                yield _fitted(batch.slice(at, fitting), schema, file.path)


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
    return pa.binary() if pa.types.is_string(type_) else type_


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, path: Path) -> pa.RecordBatch:
    """The batch with exactly the columns of `schema`."""
    if batch.schema.equals(schema):
        return batch
    names = set(batch.schema.names)
    try:
        columns = [
            batch.column(f.name).cast(f.type) if f.name in names else pa.nulls(len(batch), f.type)
            for f in schema
        ]
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: a value does not fit the type that its column has over all files ({error}); "
            "expected one type a column: convert one of the files, or read them apart"
        ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)
