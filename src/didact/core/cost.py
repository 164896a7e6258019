"""Costs of work: quantities that add, and the meter that a piece of work is charged to."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Cost:
    """Quantities that add up over items, workers and stages.

    Wall-clock time and peak memory do not add; they live in the stage record.

    Attributes:
        flops: Floating-point operations of models, a count.
        tokens: Tokens that went through a model, a count.
        cpu_seconds: Processor time, summed over threads and processes.
        device_seconds: Accelerator time, summed over devices.
    """

    flops: float = 0.0
    tokens: int = 0
    cpu_seconds: float = 0.0
    device_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.tokens + other.tokens,
            self.cpu_seconds + other.cpu_seconds,
            self.device_seconds + other.device_seconds,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cost:
        """A cost from its `asdict`.

        Raises:
            ValueError: A quantity is missing, none, or not finite and 0 or more.
        """
        cost = cls(**values)
        for name, value in asdict(cost).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value!r}; expected a number, 0 or more")
        return cost


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of some costs."""
    return sum(costs, Cost())


@dataclass(frozen=True, slots=True)
class Metered(Generic[T]):
    """A value together with what it cost."""

    value: T
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Bill:
    """What a piece of work cost, told in two ways.

    Attributes:
        charged: Spent now, by this run.
        own: What the work itself takes from nothing, without the kept values it stands on.
        uses: Kept values it stands on, each once: name → what making that one alone takes.
    """

    charged: Cost = field(default_factory=Cost)
    own: Cost = field(default_factory=Cost)
    uses: Mapping[str, Cost] = field(default_factory=dict)

    @property
    def value(self) -> Cost:
        """The cost of making it from nothing: its own and that of the kept values it stands on."""
        return self.own + total(self.uses.values())

    def __add__(self, other: Bill) -> Bill:
        """The bill of both together; a kept value that both stand on counts once."""
        uses = {**self.uses, **other.uses}
        return Bill(self.charged + other.charged, self.own + other.own, uses)


Counts = tuple[Cost, Cost, Cost, Cost, Mapping[str, Cost]]  # of a meter, as `Meter.counts` gives


class Meter:
    """Collects the cost of one piece of work; it is handed down, and several threads may add.

    What is spent counts as charged and as the work's own value. What an interrupted run left
    counts as value alone. A kept value that is used counts by its name, once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent = Cost()  # now, and part of the value
        self._again = Cost()  # now, but the value has it already
        self._earlier = Cost()  # part of the value, spent by an interrupted run
        self._paid = Cost()  # now, for kept values made on the way
        self._uses: dict[str, Cost] = {}
        self._clock: tuple[int, float] | None = None  # the thread that runs it, since when
        self._device: float | None = None  # since when an accelerator works for it

    def add(self, cost: Cost) -> None:
        """Charge a cost that is spent now and is part of the value."""
        with self._lock:
            self._spent += cost

    def found(self, cost: Cost) -> None:
        """Count the cost of a piece that an interrupted run finished; nothing is charged."""
        with self._lock:
            self._earlier += cost

    def resume(self, own: Cost) -> None:
        """The work goes on where an interrupted run had come, which had taken `own` so far.

        What this run has spent to get there is charged, but its value is in `own` already.
        """
        self._tick()
        with self._lock:
            self._again += self._spent
            self._spent, self._earlier = Cost(), own

    def lose(self, cost: Cost) -> None:
        """Charge a cost that is spent now for nothing, so that it is no part of the value."""
        with self._lock:
            self._again += cost

    def start_over(self) -> None:
        """Begin again: what was spent so far stays charged, and is no part of the value."""
        self.resume(Cost())

    def use(self, name: str, bill: Bill) -> None:
        """Count a kept value that is used.

        Args:
            name: Its kind and its key; one of a name counts once.
            bill: That of its making, charged as far as it was made now.
        """
        with self._lock:
            self._paid += bill.charged
            self._uses |= {**bill.uses, name: bill.own}

    def take_over(self, bill: Bill) -> None:
        """Count the bill of a part of the work that had a meter of its own."""
        with self._lock:
            self._paid += bill.charged
            self._earlier += bill.own
            self._uses |= bill.uses

    @property
    def bill(self) -> Bill:
        """The bill of the work up to now."""
        self._tick()
        with self._lock:
            charged = self._spent + self._again + self._paid
            return Bill(_sane(charged), _sane(self._spent + self._earlier), dict(self._uses))

    def counts(self) -> Counts:
        """What it counts so far, for a meter in another process to go on from."""
        self._tick()
        with self._lock:
            return (self._spent, self._earlier, self._again, self._paid, dict(self._uses))

    def carry_on(self, counts: Counts) -> None:
        """Go on from what another meter counts, which went on from what this one did."""
        with self._lock:
            self._spent, self._earlier, self._again, self._paid, uses = counts
            self._uses = dict(uses)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Charge the processor time of this thread while the block runs."""
        outer = getattr(_here, "meter", None)
        if outer is not None:
            outer.pause()
        _here.meter = self
        self.start()
        try:
            yield
        finally:
            self.pause()
            _here.meter = outer
            if outer is not None:
                outer.start()

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Charge elapsed time as an accelerator's while the block runs."""
        self._device = time.perf_counter()
        try:
            yield
        finally:
            self._tick()
            self._device = None

    def timed(self, function: Callable[..., R]) -> Callable[..., R]:
        """The function, to be called in a thread of its own, whose time is charged."""

        def call(*arguments: Any, **more: Any) -> R:
            with thread_seconds() as seconds:
                out = function(*arguments, **more)
            self.add(Cost(cpu_seconds=seconds[0]))
            return out

        return call

    def start(self) -> None:
        """Charge this thread's processor time from now on; see `running`."""
        self._clock = _process.enter()

    def pause(self) -> None:
        """Charge it no longer."""
        self._tick()
        if self._clock is not None:
            _process.leave()
        self._clock = None

    def _tick(self) -> None:
        """Charge the running thread's time so far; other threads cannot read its clock."""
        if self._device is not None:
            now = time.perf_counter()
            self.add(Cost(device_seconds=now - self._device))
            self._device = now
        if self._clock is not None and self._clock[0] == threading.get_ident():
            seconds, self._clock = _process.since(self._clock)
            self.add(Cost(cpu_seconds=seconds))


class _Process:
    """The processor time of this process, shared out among the meters that run in it.

    A thread's own clock says what it spent. Libraries have threads of their own that nobody can
    ask: what they spend is charged to the meter that runs, where there is one alone. Two that run
    at once never charge each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = 0.0  # seconds that threads with a clock have told
        self._running = 0
        # The process's clock and `_told` when somebody last looked, and the thread that did.
        self._mark = (0.0, 0.0, 0)

    def enter(self) -> tuple[int, float]:
        """Note that a meter begins to run in this thread; the thread's number and clock."""
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._mark = (time.process_time(), self._told, threading.get_ident())
        return threading.get_ident(), time.thread_time()

    def leave(self) -> None:
        """Note that a meter stops running in this thread."""
        with self._lock:
            self._running -= 1

    def tell(self, seconds: float) -> None:
        """Note processor seconds that a thread told by itself."""
        with self._lock:
            self._told += seconds

    def since(self, clock: tuple[int, float]) -> tuple[float, tuple[int, float]]:
        """Seconds to charge since a clock was read, and the clock now."""
        with self._lock:
            now, process = time.thread_time(), time.process_time()
            own = now - clock[1]
            self._told += own
            rest = (process - self._mark[0]) - (self._told - self._mark[1])
            alone = self._running == 1 and self._mark[2] == clock[0]
            self._mark = (process, self._told, clock[0])
        return own + (rest if alone else 0.0), (clock[0], now)


def _sane(cost: Cost) -> Cost:
    """A cost of 0 seconds or more: clocks read one after another may differ by next to nothing."""
    return replace(cost, cpu_seconds=max(cost.cpu_seconds, 0.0))


_process = _Process()
_here = threading.local()


@contextmanager
def thread_seconds() -> Iterator[list[float]]:
    """Measure this thread's processor time in a block; 0 where a meter runs and is charged."""
    seconds = [0.0]
    began = time.thread_time()
    try:
        yield seconds
    finally:
        if getattr(_here, "meter", None) is None:
            seconds[0] = time.thread_time() - began
            _process.tell(seconds[0])
