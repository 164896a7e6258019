"""Files → rows → batches of samples. Knows which error belongs to which row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from didact.core.errors import DataError
from didact.core.paths import Place
from didact.core.pool import Kind
from didact.core.protocols import Progress
from didact.data.formats import labelled, preference
from didact.data.reading.ahead import ahead
from didact.data.reading.containers import OBJECTS, TEXTS
from didact.data.reading.discovery import default_source
from didact.data.reading.files import File
from didact.data.reading.incoming import BadRow, IncomingRows
from didact.data.reading.kinds import meet_kinds
from didact.data.reading.mapped import Unmet
from didact.data.reading.parts import Before
from didact.data.reading.settings import DataSettings
from didact.data.reading.tables import table_batches
from didact.data.rows.columns import (
    WHO_HAS,
    Columns,
    LacksColumnError,
    Row,
    RowError,
    get,
    shown,
    who_has,
)
from didact.data.rows.detection import (
    columns_read,
    detect,
    formats,
    trace_columns,
    turns_of,
)
from didact.data.rows.filled import filled_columns, without_filled
from didact.data.rows.format import Format
from didact.data.rows.labels import NAMES
from didact.data.rows.marks import FAULTS, MEDIA, MEDIA_NAMES, NO_MARKS, VERDICTS, Marks, marks_of
from didact.data.rows.media import KINDS, media_hash, value_hash, with_media
from didact.data.rows.reasoning import TRACE_KEYS
from didact.data.rows.turns import PlainTurns, Turn

_ROW_BYTES: Final = 64  # what a row takes in memory beside its text
_CHUNK_BATCHES: Final = 8  # texts to be chunked are read in larger batches, and written in small


@dataclass(slots=True)
class _Met:
    """What was read of a file so far; see `Before`."""

    rows: int = 0
    having: int = 0
    lacking: int = 0


class Reader:
    """Reads files one after another into batches; a batch may hold rows of several files.

    Attributes:
        formats: The formats found, in order of first appearance.
        unmet: Columns of the mapping that no row had.
        kinds: What the samples are: kind → format and file of the first.
        last: What was read of the last file, or of the part of it.
    """

    def __init__(
        self,
        settings: DataSettings,
        emit: Callable[[IncomingRows], None],
        schema: pa.Schema | None,
        kinds: Mapping[Kind, tuple[str, Place]],
    ) -> None:
        """Start with nothing read.

        Args:
            settings: How rows are read.
            emit: Takes every full batch, in row order.
            schema: The schema of Arrow rows; None when rows are text.
            kinds: What samples of files before are, if that is known.
        """
        self.formats: dict[str, None] = {}
        self.unmet = Unmet(settings.columns)
        self._settings, self._emit, self._schema = settings, emit, schema
        self.kinds = dict(kinds)
        self.last = Before()
        self._met = _Met()
        self._batch = IncomingRows()
        self._most_bytes = settings.batch_bytes
        if settings.unit == "chunk":
            self._most_bytes *= _CHUNK_BATCHES

    def read(self, found: list[File], progress: Callable[[Progress], None]) -> None:
        """Every row of every file.

        Raises:
            DataError: A file is damaged, or holds another kind of samples than the first.
        """
        sizes = [_n_bytes(file) for file in found]
        try:
            with closing(ahead(found)) as files:
                self._read(files, sizes, progress)
        except DataError:
            self._flush()  # a bad row before it goes first
            raise

    def _read(
        self, found: Iterable[File], sizes: list[int], progress: Callable[[Progress], None]
    ) -> None:
        total, before = sum(sizes), 0
        for file, size in zip(found, sizes, strict=True):

            def watch(done: int, before: int = before) -> None:
                progress(Progress("read", before + done, total, "bytes"))

            self._met = _Met()
            watched = replace(file, watch=watch, lines=self._count)
            if self._schema is not None:
                self._read_arrow(watched, self._schema)
            else:
                self._read_text(watched)
            self.last = Before(self._met.rows, self._met.having, self._met.lacking)
            before += size
        self._flush()
        progress(Progress("read", total, total, "bytes"))

    def _count(self, lines: int) -> None:
        self._met.rows += lines

    def _flush(self) -> IncomingRows:
        """Hand the batch on; the next one takes the next row."""
        full, self._batch = self._batch, IncomingRows(kind=self._batch.kind)
        if len(full):
            self._emit(full)
        return self._batch

    def _read_text(self, file: File) -> None:
        """Rows that are text: JSON, or plain."""
        container = TEXTS[file.container]
        sample, batch, before = self._samples(file), self._batch, _known(file).rows
        for place, data, fault in container.rows(file, self._settings):
            number = before + place
            if batch.size >= self._most_bytes or len(batch.turns) >= self._settings.batch_rows:
                batch = self._flush()
            try:
                if fault:
                    raise RowError(fault)  # noqa: TRY301 - one place writes the bad rows down
                row, record, odd = container.parse(data)
                sample(batch, row, odd)
            except RowError as error:
                where = (len(batch.turns), file, number)
                batch.bad.append(BadRow(*where, str(error), data, met=error.met))
                batch.size += len(data) + _ROW_BYTES
                continue
            batch.files.append(file)
            batch.numbers.append(number)
            batch.records.append(record)
            batch.size += len(record) + _ROW_BYTES

    def _read_arrow(self, file: File, schema: pa.Schema) -> None:
        """Rows of a table; only the columns that didact knows become Python values."""
        settings, number = self._settings, 0
        known = columns_read(settings.columns)
        others = dict.fromkeys(schema.names)
        known |= {*VERDICTS, *FAULTS, *TRACE_KEYS}
        mapped = {settings.columns.get(name) for name in MEDIA_NAMES}
        media = [n for n in others if n in mapped or (n in MEDIA and n not in known)]
        columns = [name for name in others if name in known and name not in media]
        filled = [n for n in filled_columns(schema, settings.columns) if n in known]
        sample, batch = self._samples(file), self._batch
        for piece in table_batches(
            file, schema, batch_rows=settings.batch_rows, batch_bytes=settings.batch_bytes
        ):
            seen = [(n, column, _there(column)) for n in media for column in [piece.column(n)]]
            for i, found in enumerate(_python_rows(piece.select(columns))):
                number += 1
                if batch.size >= self._most_bytes or len(batch.turns) >= settings.batch_rows:
                    batch = self._flush()
                try:
                    if isinstance(found, str):
                        raise RowError(found)  # noqa: TRY301 - as above
                    if filled:
                        found = without_filled(found, filled, settings.columns)  # noqa: PLW2901
                    there = {n: mask[i] and value_hash(held[i].as_py()) for n, held, mask in seen}
                    sample(batch, {**others, **found, **there}, False)
                except RowError as error:
                    data = _raw_arrow(piece.slice(i, 1))
                    batch.bad.append(BadRow(len(batch.turns), file, number, str(error), data))
                    batch.size += len(data) + _ROW_BYTES
                    continue
                batch.files.append(file)
                batch.numbers.append(number)
                batch.place(piece, i)
                batch.size += sum(len(turn[2]) for turn in batch.turns[-1]) + _ROW_BYTES

    def _samples(self, file: File) -> Callable[[IncomingRows, Row, bool], None]:
        """What appends the content and names of one row of `file` to a batch, or raises."""
        columns, file_source = self._settings.columns, default_source(file.path)
        names_of = _names_of([columns.get(name, name) for name in ("id", "source", "task")])
        parse: Callable[[Row], list[Turn]] | None = None
        label: Callable[[Row, Columns], int] = _unlabelled
        marks = NO_MARKS
        chunked, unmet, met = self._settings.unit == "chunk", self.unmet, self._met
        quick: Callable[[Row], list[Turn] | None] | None = None
        beside: frozenset[str] = frozenset()

        def sample(batch: IncomingRows, row: Row, odd: bool) -> None:  # noqa: FBT001 - called per row
            nonlocal parse, label, marks, quick, beside
            if unmet.columns:
                unmet.look_at(row)
            if parse is None:
                name, found = self._format(row, file)
                parse, label = self._parser(name, found, file), found.label or _unlabelled
                marks = marks_of(found, columns, dropped=self._settings.reasoning == "drop")
                quick, beside = self._quick(found, marks)
            turns = quick(row) if quick is not None and beside.isdisjoint(row) else None
            plain, said = turns is not None, 0
            if turns is not None:
                met.having += 1
            else:
                turns = parse(row)
                said = 1 + label(row, columns)
            if chunked:
                _check_room(row)
            id_, source, task = names_of(row)
            if type(id_) is not str or not id_:
                id_ = _name(id_, "id")
            if type(source) is not str or type(task) is not str or not source or not task:
                source = _name(source, "source") or file_source
                task = _name(task, "task") or source
            if odd:
                _check_text(turns, id_, source, task)
            if not plain and not (type(turns) is PlainTurns and marks.beside.isdisjoint(row)):
                _mark(batch, row, marks)
            batch.turns.append(turns)
            batch.ids.append(id_)
            batch.sources.append(source)
            batch.tasks.append(task)
            batch.labels.append(said)

        return sample

    def _quick(
        self, found: Format, marks: Marks
    ) -> tuple[Callable[[Row], list[Turn] | None] | None, frozenset[str]]:
        """A quick way to read plain rows, and the columns of which such a row has none.

        A row that is read so shows nothing that `marks` would tell.
        """
        columns = self._settings.columns
        quick = None if found.quick is None else found.quick(columns)
        late, nested = _late(columns)
        if quick is None or nested or found.label or self._settings.reasoning == "drop":
            return None, frozenset()
        others = {*marks.chats, *marks.sides, *marks.pair}
        others -= {columns.get(name, name) for name in found.content}
        beside = {*quick.beside, *late, *marks.beside, *trace_columns(found, columns), *others}
        return quick.turns, frozenset(beside)

    def _parser(self, name: str, found: Format, file: File) -> Callable[[Row], list[Turn]]:
        """What turns the rows of one file into turns; it knows what the rows before had."""
        columns, met = self._settings.columns, self._met
        turns_in = turns_of(name, columns, self._settings.reasoning)
        late, nested = _late(columns)
        unlabelled = found.kind == "chat" and self._settings.format == "auto"

        def parse(row: Row) -> list[Turn]:
            try:
                turns = turns_in(row)
            except LacksColumnError as error:
                met.lacking += 1
                raise _among(error, met, file) from error
            if unlabelled and (nested or not late.isdisjoint(row)):
                labelled.refuse_late(row, columns)
                preference.refuse_late(row, columns)
            met.having += 1
            return turns

        return parse

    def _format(self, row: Row, file: File) -> tuple[str, Format]:
        """The format of a file by its first row.

        Raises:
            RowError: It has none.
            DataError: It holds another kind of samples than an earlier file, or its rows cannot be
                cut into chunks.
        """
        settings = self._settings
        text = TEXTS.get(file.container)
        name = settings.format if text is None or text.format is None else text.format
        if name == "auto":
            known = "" if file.part is None else file.part.format
            name = known or detect(row, settings.columns, may_wrap=file.container in OBJECTS)
        found = formats()[name]
        kind = found.kind
        if settings.unit == "chunk" and kind != "text":
            raise DataError(
                f"{file.path}: unit=chunk cuts raw text, these rows are {kind} ({name}); "
                "use unit=sample"
            )
        meet_kinds(self.kinds, {kind: (name, file.path)})
        self._batch.kind = kind
        self.formats[name] = None
        return name, found


def format_of(file: File, settings: DataSettings) -> str:
    """The format that the rows of a file of lines are read in; "" where its rows have none.

    **Cost:** reads up to the first row that has one.
    """
    container = TEXTS[file.container]
    if container.format is not None or settings.format != "auto":
        return container.format or settings.format
    for _, data, fault in container.rows(file, settings):
        if not fault:
            with suppress(RowError):
                row, _, _ = container.parse(data)
                return detect(row, settings.columns, may_wrap=file.container in OBJECTS)
    return ""


def _n_bytes(file: File) -> int:
    """Bytes that are read of a file."""
    part = file.part
    if part is None:
        return file.size
    if part.lines is not None:
        return part.lines.stat().st_size
    return (file.size if part.stop is None else part.stop) - part.start


def _known(file: File) -> Before:
    """What is known to stand before the rows that are read of a file."""
    return (file.part.before if file.part is not None else None) or Before()


def _unlabelled(_: Row, __: Columns) -> int:
    return -1


def _late(columns: Columns) -> tuple[frozenset[str], bool]:
    """Columns that show rows of a chat to be of a format that reads more; whether one is nested."""
    label = columns.get("label", "label")
    rejected = columns.get("rejected", "rejected")
    return frozenset((label, *NAMES, rejected, *preference.HALVES)), "." in label


def _among(error: LacksColumnError, met: _Met, file: File) -> RowError:
    """The error of a row that lacks a column, with what the rows of the file before it have."""
    before = Before() if file.part is None else file.part.before
    if before is None:
        found = error.among(WHO_HAS)
        found.met = (met.having, met.lacking)
        return found
    if not before.having + met.having:
        return error
    return error.among(who_has(before.having + met.having, before.lacking + met.lacking))


def _names_of(columns: Sequence[str]) -> Callable[[Row], Sequence[Any]]:
    """What gives id, source and task of a row."""
    id_, source, task = columns
    if any("." in column for column in columns):
        return lambda row: [get(row, column) for column in columns]
    return lambda row: (row.get(id_), row.get(source), row.get(task))


def _mark(batch: IncomingRows, row: Row, marks: Marks) -> None:
    """Say what the next sample of a batch shows, and which images and the like it holds."""
    row = with_media(row, marks.named)
    kinds = marks.of(row)
    batch.mark(kinds)
    if not KINDS.isdisjoint(kinds):
        batch.media[len(batch.turns)] = media_hash(row, marks)


def _python_rows(table: pa.RecordBatch) -> Iterator[Row | str]:
    """Rows of a table as Python values; what is wrong where that fails."""
    try:
        yield from table.to_pylist()
    except (ValueError, OverflowError):
        for i in range(table.num_rows):
            try:
                yield from table.slice(i, 1).to_pylist()
            except (ValueError, OverflowError) as error:
                yield f"a value of the row cannot be read ({error}); expected valid UTF-8 text"


def _there(column: pa.Array) -> list[bool]:
    """Where a column of a table holds something: no null, no list without entries."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        mask = pc.greater(pc.list_value_length(column).fill_null(0), 0)
    else:
        mask = column.is_valid()
    found: list[bool] = mask.to_pylist()
    return found


def _raw_arrow(row: pa.RecordBatch) -> bytes:
    """A row of a table for rejected.jsonl."""
    try:
        return json.dumps(row.to_pylist()[0], default=str, ensure_ascii=False).encode()
    except (ValueError, OverflowError):
        return str(row.schema.names).encode()


def _check_text(turns: list[Turn], *names: str | None) -> None:
    """Raise RowError unless all text can be written as UTF-8."""
    for text in [*names, *(text for _, role, content, _ in turns for text in (role, content))]:
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise RowError(
                f"the text holds {error.object[error.start : error.end]!r}, half of a surrogate "
                "pair; expected valid Unicode"
            ) from error


def _check_room(row: Row) -> None:
    """Raise RowError when a row has the names that are added to its chunks."""
    for name in ("parent", "start", "end"):
        if row.get(name) is not None:
            raise RowError(
                f"the row has the column {name!r} ({shown(row[name])}), which its chunks need; "
                "rename it, or use unit=sample"
            )


def _name(value: Any, column: str) -> str | None:
    """An id, source or task: text, or a number written as text."""
    if type(value) is str or value is None:
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RowError(
        f"{column} is {shown(value)} ({type(value).__name__}); expected text or a whole number: "
        f"map another column with --data columns.{column}=COLUMN (columns.{column}=- for none)"
    )
