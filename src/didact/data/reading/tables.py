"""Files that are tables: one schema over several, and slices that have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain

import pyarrow as pa

from didact.core.errors import DataError
from didact.core.paths import Place
from didact.data.reading.ahead import ahead
from didact.data.reading.containers import TABLES
from didact.data.reading.files import File, readable
from didact.data.reading.plain_types import plain, plain_type


def are_tables(found: Sequence[File]) -> bool:
    """Whether the files are tables.

    Raises:
        DataError: Some are and some are not.
    """
    tables = [file.container in TABLES for file in found]
    if any(tables) and not all(tables):
        table, text = found[tables.index(True)], found[tables.index(False)]
        raise DataError(
            f"{table.path} is {table.container} and {text.path} is {text.container}; expected "
            "tables alone or text alone, so that every row can be given back as it came: convert "
            "one of them"
        )
    return all(tables)


def shared_schema(files: Sequence[File]) -> pa.Schema:
    """One schema for the rows of several tables; what one lacks is null there.

    Raises:
        DataError: A file cannot be read, or a column has different types in two files.
    """
    shared: pa.Schema | None = None
    first: Place | None = None
    with closing(ahead(files)) as found:
        for file in found:
            schema = _own_schema(file)
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
    """The schema of a table with the types that are kept."""
    with readable(file.path):
        schema = TABLES[file.container].schema(file)
        try:
            list(chain.from_iterable(map(_names, schema)))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file.path}: the name of a column is no UTF-8 ({error}); rename it"
            ) from error
        names = schema.names
        columns = [field.with_type(plain_type(field.type)) for field in schema]
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(
            f"{file.path}: has the column {min(repeated)!r} twice; expected each name once: "
            "rename one"
        )
    return pa.schema(columns, schema.metadata)


def _names(field: pa.Field) -> Iterator[str]:
    """The name of a column and those of what is inside it."""
    yield field.name
    for i in range(field.type.num_fields):
        yield from _names(field.type.field(i))


def table_batches(
    file: File, schema: pa.Schema, *, batch_rows: int, batch_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Slices of a table with the columns of `schema`, of bounded size.

    Raises:
        DataError: The file is damaged, or a value does not fit the column's type.
    """
    batches = TABLES[file.container].batches(file, batch_rows=batch_rows, batch_bytes=batch_bytes)
    for batch in batches:
        yield _fitted(batch, schema, file.path)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, path: Place) -> pa.RecordBatch:
    """The batch with exactly the columns of `schema`."""
    if batch.schema.equals(schema):
        return batch
    names = set(batch.schema.names)
    try:
        columns = [
            plain(batch.column(f.name)).cast(f.type)
            if f.name in names
            else pa.nulls(len(batch), f.type)
            for f in schema
        ]
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: a value does not fit the type that its column has over all files ({error}); "
            "expected one type a column: convert one of the files, or read them apart"
        ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)
