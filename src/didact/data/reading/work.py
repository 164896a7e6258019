"""One task of reading: rows of some files → a shard of the store. Runs wherever workers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from didact.core.atomic import writable
from didact.core.cost import Metered
from didact.core.entries import temporary_folder
from didact.core.errors import DataError
from didact.core.keep import REMEDY
from didact.core.paths import Place, RemotePath
from didact.core.pool import Kind
from didact.core.protocols import Progress, ProgressCallback, ignore_progress
from didact.core.scratch import scratch
from didact.data.reading.parts import Before
from didact.data.reading.reader import Reader
from didact.data.reading.settings import DataSettings
from didact.data.reading.tasks import Task
from didact.data.store.shard import Shard
from didact.data.store.shard_writer import EndsEarly, Overlap, ShardWriter
from didact.data.store.token_counts import TokenCounter, token_counter

Told = tuple[str, str, Counter[str]]


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks of one reading share; picklable.

    Attributes:
        cache_dir: Where the cache is, for messages.
        folder: The folder of the store.
        shared: Where workers put what they wrote, if they do not see that folder.
        settings: How rows are read.
        schema: The schema of Arrow rows; None when rows are text.
        overlap: Finds rows that share held-out text.
        skip: The setting that skips bad rows and what it does, for messages.
        progress: Told of bytes read, where a task is run in the driver.
    """

    cache_dir: Place
    folder: Path
    settings: DataSettings
    schema: pa.Schema | None
    overlap: Overlap | None
    skip: str
    progress: ProgressCallback = ignore_progress
    shared: RemotePath | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What became of a task.

    Attributes:
        shard: The shard.
        formats: The formats of its rows.
        kinds: What its samples are: kind → format and file of the first.
        unmet: Mapped columns that none of its rows has.
        told: What its files were told is passed over.
        last: What was read of its last file.
    """

    shard: Shard
    formats: tuple[str, ...]
    kinds: dict[Kind, tuple[str, Place]]
    unmet: dict[str, Any]
    told: list[Told] = field(default_factory=list)
    last: Before = field(default_factory=Before)


@contextmanager
def opened(job: Job, _: str) -> Iterator[tuple[Job, TokenCounter]]:
    """A worker's state: the job with what counts tokens."""
    yield job, token_counter(job.settings.tokenizer)


def read_task(state: tuple[Job, TokenCounter], task: Task) -> Metered[Read]:
    """Read what a task says, and write it as a shard.

    A bad row that is an error ends it quietly, and so does a file, unless all is known of the rows:
    rows before may be bad too, which only other shards tell.
    """
    job, counter = state
    told: list[Told] = []
    files = [replace(file, tell=lambda *over: told.append(over)) for file in task.files]
    with writable(job.cache_dir, REMEDY), ExitStack() as stack:
        folder = job.folder
        if job.shared is not None:
            folder = stack.enter_context(temporary_folder(scratch("reading")))
        writer = stack.enter_context(ShardWriter(
            folder, task.number, job.settings, counter, overlap=job.overlap,
            rows_schema=job.schema, skip=job.skip, known=task.known,
        ))  # fmt: skip
        reader = Reader(job.settings, writer.add, job.schema, task.kinds)
        failed = False
        try:
            reader.read(files, job.progress)
        except EndsEarly:
            failed = True
        except DataError:
            if task.known is not None:
                raise
            failed = True
        shard = writer.finish(failed=failed)
        if job.shared is not None:
            for path in (path for path in folder.rglob("*") if path.is_file()):
                (job.shared / path.relative_to(folder).as_posix()).send(path)
    found = Read(
        shard, tuple(reader.formats), reader.kinds, reader.unmet.to_json(), told, reader.last
    )
    return Metered(found)


def watching(job: Job, before: int, total: int, progress: Callable[[Progress], None]) -> Job:
    """The job of a task that is run in the driver, with its share of the progress."""

    def told(step: Progress) -> None:
        progress(replace(step, done=before + min(step.done, step.total), total=total))

    return replace(job, progress=told)
