"""Reading on workers: tasks out, what they read back, put together in the order of the input."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from didact.core.entries import sweep_abandoned
from didact.core.errors import DataError
from didact.core.paths import Place, RemotePath
from didact.core.pool import Kind
from didact.core.protocols import Context, Progress
from didact.data.reading.files import File
from didact.data.reading.kinds import meet_kinds
from didact.data.reading.mapped import both_unmet
from didact.data.reading.parts import Before
from didact.data.reading.tasks import EXPANSION, Task, tasks_of
from didact.data.reading.work import Job, Read, Told, opened, read_task, watching
from didact.data.store.shard import PARTS, of_writer
from didact.data.store.token_counts import TokenCounter
from didact.data.store.writer import StoreWriter

# Bytes of text: a process takes 0.45 s to start, and reading some 20 ms a MB, so that two workers
# gain nothing before.
_WORTH_PROCESSES: Final = 50 * 10**6


class Gathering:
    """Puts together what was read of some files.

    Attributes:
        formats: The formats found, in order of first appearance.
        unmet: Columns of the mapping that no row had.
        told: What files were told is passed over.
    """

    def __init__(self, job: Job, store: StoreWriter, counter: TokenCounter, ctx: Context) -> None:
        """Start with nothing read.

        Args:
            job: What all tasks share.
            store: Takes the shards.
            counter: Counts tokens.
            ctx: Workers, cache, progress, and who is told what is left beside the store.
        """
        self.formats: dict[str, None] = {}
        self.unmet: dict[str, Any] | None = None
        self.told: list[Told] = []
        self._job, self._store, self._counter, self._ctx = job, store, counter, ctx
        self._kinds: dict[Kind, tuple[str, Place]] = {}
        self._last = Before()  # what stands before what comes next in the file of the last task

    def read(self, files: Sequence[File]) -> None:
        """Every row of every file.

        Raises:
            DataError: A file is damaged, a row is bad, or files hold different kinds of samples;
                of several the first in the order of the input.
        """
        job, ctx, sizes = self._job, self._ctx, [file.size for file in files]
        total = sum(sizes)
        asked: list[Task] = []
        fault: list[Exception] = []

        def tasks() -> Iterator[Task]:
            try:
                for task in tasks_of(files, job.settings, job.folder / PARTS):
                    asked.append(self._sent(task))
                    yield asked[-1]
            except Exception as error:  # noqa: BLE001 - raised behind what was read before it
                fault.append(error)

        done = 0
        weight = sum(
            size * (EXPANSION if file.codec else 1) for file, size in zip(files, sizes, strict=True)
        )
        apart = ctx.executor.workers > 1 and weight >= _WORTH_PROCESSES
        if apart and isinstance(ctx.cache_dir, RemotePath) and not ctx.executor.sees(job.folder):
            place = ctx.cache_dir / "tmp"
            sweep_abandoned(place)
            self._job = replace(job, shared=place / job.folder.name)
        found = tasks()
        first = list(islice(found, 2))
        apart = apart and len(first) > 1
        every = chain(first, found)
        run = self._apart(every) if apart else self._here(every, total)
        with closing(run):  # workers are at rest before the folder that they write to goes
            for read in run:
                task = asked.pop(0)
                self._take(task, read)
                done += task.n_bytes
                ctx.progress(Progress("read", min(done, total), total, "bytes"))
        if fault:
            raise fault[0]
        ctx.progress(Progress("read", total, total, "bytes"))

    def close(self) -> None:
        """Remove what workers left beside the store."""
        shared = self._job.shared
        if shared is not None:
            try:
                shared.remove()
            except DataError as error:  # the store is there all the same, or why it is not is said
                self._ctx.tell(
                    f"{error}. What workers put there is left behind, and used by nobody; 'didact "
                    "cache prune --older 1d' removes it"
                )

    def _sent(self, task: Task) -> Task:
        """The task for workers that may be elsewhere."""
        part = task.files[0].part
        if self._job.shared is None or part is None or not isinstance(part.lines, Path):
            return task
        lines = self._job.shared / PARTS / part.lines.name
        lines.send(part.lines)
        part.lines.unlink()
        return replace(task, files=(replace(task.files[0], part=replace(part, lines=lines)),))

    def _apart(self, tasks: Iterator[Task]) -> Generator[Read]:
        apart = self._ctx.executor.apart()
        yield from apart.map(read_task, tasks, shared=self._job, open=opened)

    def _here(self, tasks: Iterator[Task], total: int) -> Generator[Read]:
        done = 0
        for task in tasks:
            job = watching(self._job, done, total, self._ctx.progress)
            yield read_task((job, self._counter), task).value
            done += task.n_bytes

    def _take(self, task: Task, read: Read) -> None:
        """Take what was read by a task; read it again if rows before it tell more of its rows."""
        part = task.files[0].part
        before = self._last if part is not None and part.start else Before()
        known = self._store.known(read.shard)
        moved = before
        if read.shard.failed or len(known.repeated) or known.copies:
            again = task.again(known, before, self._kinds)
            read, moved = read_task((self._job, self._counter), again).value, Before()
        meet_kinds(self._kinds, read.kinds)
        if part is not None and part.lines is not None:
            part.lines.unlink(missing_ok=True)  # gone, where the answer that it is was lost
        self._last = before + read.last if len(task.files) == 1 else read.last
        self.formats |= dict.fromkeys(read.formats)
        self.told += read.told
        self.unmet = read.unmet if self.unmet is None else both_unmet(self.unmet, read.unmet)
        if self._job.shared is not None:
            for name in of_writer(read.shard):
                (self._job.shared / PARTS / name).fetch(self._job.folder / PARTS / name)
        self._store.add(read.shard, task.files[0], moved, self._job.shared)
