"""The keep: costly work by its key, found in the cache or done, and resumed where it was cut off.

`keep` gives a value, made or found, and charges the context's meter with what making it cost. What
is found is what was written, byte for byte, or it is made again.

```text
CACHE/<kind>/<key>/entry.json    cost, what it stands on, a checksum for every block of every file
CACHE/<kind>/<key>/…             the value's files
CACHE/unfinished/<kind>-<key>/   finished pieces of a value under way, entries of their own
CACHE/unfinished/<kind>-<key>/claim   behind a URL: who makes it
```
Of a cache behind a URL all of it stands in the scratch of this machine, too, as far as it is used
here; `didact.core.shared_entries` fetches and shares it.

An *entry* is a folder on disk (`didact.core.entries`), a *piece* one of a value that is not done
(`didact.core.pieces`), the *cache* all of them, as its user lists and empties it
(`didact.core.cache`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from didact._version import __version__
from didact.core.atomic import remove, writable
from didact.core.claims import claimed
from didact.core.cost import Bill, Cost, Meter, Metered, total
from didact.core.entries import (
    Entry,
    intact_entry,
    put_in_place,
    seal,
    sweep_abandoned,
    void,
    writing,
)
from didact.core.errors import DamagedError
from didact.core.locks import folder_to_oneself
from didact.core.manifest import fingerprint
from didact.core.paths import Place, RemotePath
from didact.core.pieces import Pieces
from didact.core.protocols import Context, Device, OpenShared
from didact.core.shared_entries import fetched, share, standing

T = TypeVar("T")
R = TypeVar("R")

UNFINISHED: Final = "unfinished"
CLAIM: Final = "claim"
_VERSION: Final = 2  # counts up where a method gives other values of the same key
_REMEDY: Final = "set another place with --cache-dir or DIDACT_CACHE"


def entry_name(kind: str, key: Any) -> str:
    """The name of an entry: 32 hex digits of what the value depends on, and of didact's version."""
    return fingerprint([_VERSION, __version__, kind, key])


def keep(
    ctx: Context,
    kind: str,
    key: Any,
    make: Callable[[Context], T],
    *,
    save: Callable[[T, Path], None],
    load: Callable[[Path], R | None],
    lazy: bool = False,
) -> R:
    """A value: found in the cache, or made, written there, and read back.

    The meter of `ctx` is charged with what was spent now, and told what making the value costs
    from nothing. Of two processes that want the same value one makes it, and the other waits; of
    those on two machines likewise, where the store has conditional puts.

    Args:
        ctx: Where the cache is, what is charged, who is told of damage.
        kind: A word for what it is, a folder of the cache: "scores".
        key: Everything the value depends on; JSON values.
        make: The work. It is given a context of its own: its meter is the work's, its `pieces`
            keep what is finished of it, for a run that is started again.
        save: Writes what was made into an empty folder.
        load: The value from that folder; None where it cannot be used, and is made again.
        lazy: Files are verified where `load` and its value read them (`open_entry`), not before.

    Returns:
        What `load` gives, whether it was found or made.

    **Cost:** reads the files once to write their checksums and once to verify them.
    """
    name = entry_name(kind, key)
    slot = _Slot(ctx, kind, name)

    def look() -> R | None:
        entry = slot.found(whole=not lazy)
        if entry is None:
            return None
        value = load(slot.folder)
        if value is None:
            slot.void()
        else:
            ctx.meter.use(f"{kind}/{name}", entry.bill)
        return value

    meter = Meter()
    pieces = slot.pieces(meter)
    value = look()
    if value is not None and not pieces.folder.exists():  # else its maker died before tidying up
        return value
    with writable(ctx.cache_dir, _REMEDY), slot.held():
        value = look()  # somebody else may have made it meanwhile
        if value is None:
            sweep_abandoned(slot.folder.parent)
            with _removed_if_empty(pieces.folder), _charged(meter, ctx.meter), meter.running():
                made = make(replace(ctx, meter=meter, pieces=pieces))
                with writing(slot.folder) as temporary:
                    save(made, temporary)
                    bill = meter.bill
                    seal(temporary, bill, where=slot.folder)
            slot.share()
            ctx.meter.use(f"{kind}/{name}", replace(bill, charged=meter.bill.charged))
            value = load(slot.folder)
        slot.tidy()
    if value is None:
        raise DamagedError(slot.folder, "what was just written cannot be read")
    return value


@dataclass(frozen=True)
class _Slot:
    """Where a value is kept: on this machine, and behind a URL where the cache lies there."""

    ctx: Context
    kind: str
    name: str

    @property
    def folder(self) -> Path:
        """Of the entry, on this machine."""
        return standing(self.ctx.cache_dir) / self.kind / self.name

    @property
    def shared(self) -> RemotePath | None:
        """The same behind the URL."""
        cache = self.ctx.cache_dir
        return cache / self.kind / self.name if isinstance(cache, RemotePath) else None

    @property
    def unfinished(self) -> Path:
        """Of the pieces, on this machine."""
        return standing(self.ctx.cache_dir) / UNFINISHED / f"{self.kind}-{self.name}"

    @property
    def shared_unfinished(self) -> RemotePath | None:
        """The same behind the URL."""
        cache, name = self.ctx.cache_dir, f"{self.kind}-{self.name}"
        return cache / UNFINISHED / name if isinstance(cache, RemotePath) else None

    def pieces(self, meter: Meter) -> Pieces:
        """Finished pieces of the value."""
        return Pieces(self.unfinished, meter, self.ctx.tell, self.shared_unfinished)

    def found(self, *, whole: bool) -> Entry | None:
        """The entry on this machine, fetched if need be; shared again where it is not any more."""
        entry = intact_entry(self.folder, self.ctx.tell, whole=whole)
        if self.shared is not None:
            if entry is None:
                return fetched(self.shared, self.folder, self.ctx.tell)
            self.share()
        return entry

    def share(self) -> None:
        """Put the entry behind the URL, if there is one."""
        if self.shared is not None:
            share(self.folder, self.shared)

    def void(self) -> None:
        """Take it away, everywhere."""
        void(self.folder)
        if self.shared is not None:
            void(self.shared)

    def tidy(self) -> None:
        """Remove what is left of the work."""
        remove(self.unfinished)
        if self.shared_unfinished is not None:
            self.shared_unfinished.remove()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else makes the value while the block runs, here or with the same URL."""

        def waiting(who: object = "another process") -> None:
            self.ctx.tell(f"{self.kind}: {who} makes the same; waiting for it")

        with folder_to_oneself(self.unfinished, waiting):
            if self.shared_unfinished is None:
                yield
                return
            with claimed(self.shared_unfinished / CLAIM, waiting):
                yield


@contextmanager
def _charged(meter: Meter, outer: Meter) -> Iterator[None]:
    """Charge what the block spent, should it fail."""
    try:
        yield
    except BaseException:
        outer.lose(meter.bill.charged)
        raise


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder after the block if it is empty, whatever happened."""
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def adopt(ctx: Context, kind: str, name: str, folder: Path) -> Place:
    """Make a folder, written by the caller, the entry of a name; it moves.

    For values that are known by their content, which shows when they have been made. What that
    cost belongs to the work that made it.
    """
    kept = ctx.cache_dir / kind / name
    seal(folder, Bill(), where=kept)
    if isinstance(kept, Path):
        put_in_place(folder, kept)
    else:
        share(folder, kept)
    return kept


@dataclass(frozen=True, slots=True)
class Piece:
    """A share of the items of some work, whose results are kept together.

    Attributes:
        name: A file name.
        items: What `Executor.map` is given.
    """

    name: str
    items: Sequence[Any]


def kept_pieces(
    ctx: Context,
    wanted: Sequence[Piece],
    *,
    shared: Any,
    open: OpenShared,  # noqa: A002 - as in Executor.map
    device: Device | None = None,
    join: Callable[[list[R]], T],
    save: Callable[[T, Path], None],
    load: Callable[[Path], T],
) -> Iterator[T]:
    """`Executor.map` over pieces, in order; those an interrupted run finished are read instead.

    Args:
        ctx: Its `pieces`, of the `keep` around this, keep them.
        wanted: The items by piece.
        shared: As in `Executor.map`.
        open: Likewise; what it yields is the function of an item.
        device: Likewise.
        join: The value of a piece from its items' results.
        save: Writes it into an empty folder.
        load: Reads it.
    """
    pieces = ctx.pieces
    there = set(pieces.names())
    todo = [piece for piece in wanted if piece.name not in there]
    items = [item for piece in todo for item in piece.items]
    run = partial(ctx.executor.metered, apply, shared=shared, open=open, device=device)
    results = run(items)
    for piece in wanted:
        if piece.name in there:
            value = pieces.load(piece.name, load)
            if value is not None:
                yield value
                continue
            source = run(piece.items)
        else:
            source = results
        before = ctx.meter.bill.own.cpu_seconds
        done = list(islice(source, len(piece.items)))
        value = join([metered.value for metered in done])
        cost = total(metered.cost for metered in done)
        # What this thread spent on it, beside the workers: a later run that finds it adds both.
        here = max(ctx.meter.bill.own.cpu_seconds - before, 0.0)
        ctx.meter.add(cost)
        pieces.save(piece.name, partial(save, value), cost + Cost(cpu_seconds=here))
        yield value
    next(results, None)  # runs the executor to its end, where it closes its workers


def apply(function: Callable[[Any], Metered[R]], item: Any) -> Metered[R]:
    """One item in a worker."""
    return function(item)


def only(found: list[R]) -> R:
    """The value of a piece of one item."""
    (value,) = found
    return value
