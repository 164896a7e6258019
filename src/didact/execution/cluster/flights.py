"""Items that fly to the workers of a crew and back: in order, few at a time, tried three times."""

from __future__ import annotations

import pickle
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final

from didact.core.errors import ExecutionError
from didact.core.paths import Place
from didact.execution.cluster.connection import heard
from didact.execution.cluster.crew import Crew, Member, Tell
from didact.execution.worker import AHEAD

TRIES: Final = 3
_LOOKS: Final = 5.0  # seconds between two looks at whether somebody works at all
_numbers = count()


@dataclass(eq=False)
class _Flight:
    place: int
    item: Any
    data: bytes
    deaths: int = 0  # of its workers; after one it flies alone, which shows who was to blame


@dataclass
class Flights:
    """One map.

    Attributes:
        crew: Who works.
        most: Workers it uses at most.
        shared: What they share, as `Actor.begin` takes it; an object of the cluster.
        cache_dir: The cache, which machines that come later must see.
        tell: Told of workers that died.
    """

    crew: Crew
    most: int
    shared: Any
    cache_dir: Place
    tell: Tell
    _number: int = field(default_factory=lambda: next(_numbers))
    _back: deque[_Flight] = field(default_factory=deque)  # to fly again, before all others
    _flying: dict[Member, deque[tuple[Any, _Flight]]] = field(default_factory=dict)
    _landed: dict[int, Any] = field(default_factory=dict)

    def results(self, items: Iterator[Any]) -> Iterator[Any]:
        """What the items give, in their order.

        Raises:
            ExecutionError: An item's worker died each time; or there are no workers.
            Exception: What an item raised.
        """
        try:
            yield from self._results(items)
        finally:
            self._end()

    def _results(self, items: Iterator[Any]) -> Iterator[Any]:
        taken, next_up, more = 0, 0, True
        while True:
            while next_up in self._landed:
                ok, value = self._landed.pop(next_up)
                if not ok:
                    raise value
                yield value
                next_up += 1
            while more and taken - next_up < AHEAD * self.most:
                try:
                    item = next(items)
                except StopIteration:
                    more = False
                    break
                self._back.append(_Flight(taken, item, pickle.dumps(item, protocol=5)))
                taken += 1
            if next_up == taken:
                return
            self._send(taken - next_up)
            self._land()

    def _send(self, wanted: int) -> None:
        """Give items to whoever has fewest, and start whom the work would keep busy."""
        ready = []
        for member in self.crew.reach(min(self.most, wanted)):
            if member.greeting is None:
                if member not in self._flying:
                    self._flying[member] = deque()
                    member.handle.begin.remote(self._number, self.shared)
                ready.append(member)
        while self._back and ready:
            member = min(ready, key=lambda one: len(self._flying[one]))
            out, flight = self._flying[member], self._back[0]
            if len(out) >= (1 if flight.deaths else AHEAD):
                return
            if out and out[0][1].deaths:
                ready.remove(member)
                continue
            self._back.popleft()
            out.append((member.handle.run.remote(self._number, flight.data), flight))

    def _land(self) -> None:
        """Wait until something comes back, or somebody has started; take all that is there."""
        import ray

        refs = {ref: member for member, out in self._flying.items() for ref, _ in out}
        starting = {m.greeting: m for m in self.crew.members if m.greeting is not None}
        awaited = [*refs, *starting]
        there, _ = heard(ray.wait, awaited, num_returns=1, timeout=_LOOKS)
        if not there:
            if not refs:
                self.crew.wait(self.tell)
            return
        there, _ = heard(ray.wait, awaited, num_returns=len(awaited), timeout=0)
        for ref in there:
            if ref in starting:
                self.crew.started(starting[ref], self.cache_dir)
            elif refs[ref] in self._flying:
                self._take(refs[ref], ref)

    def _take(self, member: Member, ref: Any) -> None:
        import ray

        out = self._flying[member]
        at = next(i for i, (flown, _) in enumerate(out) if flown == ref)
        try:
            answer = heard(ray.get, ref)
        except ray.exceptions.RayTaskError:
            raise  # an error of ours, not of the item's: those come as answers
        except ray.exceptions.RayError as error:
            self._lost(member, error)
            return
        _, flight = out[at]
        del out[at]
        self._landed[flight.place] = pickle.loads(answer)  # noqa: S301 - our own bytes

    def _lost(self, member: Member, error: Exception) -> None:
        """A worker died: what it had done is taken, and all else flies again, each alone.

        Which of them it was at is not known: answers get lost, too.
        """
        import ray

        self.crew.lose(member)
        again: list[_Flight] = []
        for ref, flight in self._flying.pop(member):
            try:
                answer = heard(ray.get, ref)
            except ray.exceptions.RayError:
                again.append(replace(flight, deaths=flight.deaths + 1))
            else:
                self._landed[flight.place] = pickle.loads(answer)  # noqa: S301 - our own bytes
        for flight in again:
            if flight.deaths == TRIES:
                what = flight.item if isinstance(flight.item, str) else repr(flight.item)
                raise ExecutionError(
                    f"{what}: its worker died {TRIES} times, last on {member.node} "
                    f"({_why(error)}). Look at the memory there: smaller batches or fewer workers "
                    "on a machine need less"
                ) from error
        if again:
            self.tell(f"a worker on {member.node} died; its items are tried again elsewhere")
        self._back.extendleft(reversed(again))

    def _end(self) -> None:
        """Let workers close what they opened; forget what nobody waits for any more."""
        import ray

        if not ray.is_initialized():
            return
        for member, out in self._flying.items():
            for ref, _ in out:
                ray.cancel(ref)
            member.handle.end.remote(self._number)


def _why(error: Exception) -> str:
    """What Ray knows of a death, in a few words."""
    said = str(error)
    if "memory" in said.lower() and ("pressure" in said.lower() or "OutOfMemory" in said):
        return "memory was short there"
    found = re.search(r"exit detail: ([^.\n]+)", said)
    return found[1].strip() if found else "its machine is gone"
