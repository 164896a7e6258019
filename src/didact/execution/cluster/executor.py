"""The executor of a cluster: its workers are processes on any of its machines."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from didact.core.cost import Meter, Metered
from didact.core.errors import ConfigError, ExecutionError
from didact.core.paths import Place, RemotePath
from didact.core.pieces import ignore
from didact.core.protocols import Device, OpenShared
from didact.execution.cluster.connection import connect, heard
from didact.execution.cluster.crew import Crew, Member, Tell
from didact.execution.cluster.flights import TRIES, Flights
from didact.execution.cluster.luggage import Luggage
from didact.execution.cluster.nodes import all_see, checked_nodes, working_nodes
from didact.execution.executors import counted, serial
from didact.execution.worker import charged, cores

T = TypeVar("T")
R = TypeVar("R")

_LOOKS: Final = 5.0  # seconds between two looks at whether a worker has started


@dataclass(eq=False)
class Cluster:
    """What this process has on a cluster; there is one, as Ray has it.

    Attributes:
        started: Whether it was started here, and ends with this process.
        checked: Folders of the cache that all nodes see.
        nodes: Those nodes, by id: what messages call them.
    """

    started: bool
    checked: set[Place] = field(default_factory=set)
    nodes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.started:  # this machine, and this installation
            self.nodes |= working_nodes()
        self.on_cores, self.on_accelerators = (
            Crew(accelerated=False, nodes=self.nodes),
            Crew(accelerated=True, nodes=self.nodes),
        )

    def check(self, cache_dir: Place) -> None:
        """Refuse machines that differ or do not see the cache, once."""
        if self.started or cache_dir in self.checked:
            return
        self.nodes |= checked_nodes(working_nodes(), cache_dir)
        if not self.nodes:
            raise ConfigError(
                "no machine of the cluster has a core for work; start one with "
                "'ray start --address=HOST:PORT'"
            )
        self.checked.add(cache_dir)

    def sees(self, folder: Place) -> bool:
        """Whether all machines see a folder."""
        if self.started or isinstance(folder, RemotePath):
            return True
        if any(place in self.checked for place in (folder, *folder.parents)):
            return True
        if all_see(self.nodes, folder):
            self.checked.add(folder)
            return True
        return False

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        import ray

        global _cluster  # noqa: PLW0603 - Ray, too, has one connection a process
        for crew in (self.on_cores, self.on_accelerators):
            for member in crew.members:
                crew.lose(member)
            crew.members.clear()
        if self.started:
            ray.shutdown()
        _cluster = None


_cluster: Cluster | None = None


@dataclass(frozen=True, slots=True)
class Clustered:
    """An executor whose workers are processes of a Ray cluster, each with a core or a device.

    A worker that dies is replaced, and its item tried again, three times in all.

    Attributes:
        cluster: The connection.
        workers: Workers with a core, at most; there are as many with a device as devices.
        local_threads: Threads of a kernel in the caller's process.
        cache_dir: The cache.
        tell: Told of workers that died, and of waiting.
        meter: What everything run is charged to; CPU seconds are those of the workers.
    """

    cluster: Cluster
    workers: int
    local_threads: int
    cache_dir: Place
    tell: Tell = ignore
    meter: Meter = field(default_factory=Meter)

    @property
    def elsewhere(self) -> bool:
        """See `didact.core.protocols.Executor`."""
        return True

    def charging(self, meter: Meter) -> Clustered:
        """See `didact.core.protocols.Executor`."""
        return replace(self, meter=meter)

    def apart(self) -> Clustered:
        """See `didact.core.protocols.Executor`; they are."""
        return self

    def sees(self, folder: Place) -> bool:
        """See `didact.core.protocols.Executor`."""
        return self.cluster.sees(folder)

    def map(
        self,
        fn: Callable[[Any, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: Any,
        open: OpenShared | None = None,  # noqa: A002 - the protocol's name
        device: Device | None = None,
    ) -> Iterator[R]:
        """See `didact.core.protocols.Executor`."""
        results = self.metered(fn, items, shared=shared, open=open, device=device)
        return charged(results, self.meter)

    def metered(
        self,
        fn: Callable[[Any, T], Metered[R]],
        items: Iterable[T],
        /,
        *,
        shared: Any,
        open: OpenShared | None = None,  # noqa: A002 - the protocol's name
        device: Device | None = None,
    ) -> Iterator[Metered[R]]:
        """See `didact.core.protocols.Executor`."""
        import ray
        from ray import cloudpickle

        crew, place, most = self._who(device)
        given = ray.put(cloudpickle.dumps((fn, shared, open, place), protocol=5))
        flights = Flights(crew, most, given, self.cache_dir, self.tell)
        yield from flights.results(iter(items))

    def call(self, fn: Callable[[str], Metered[R]], /, *, device: Device | None = None) -> R:
        """See `didact.core.protocols.Executor`; work with a model runs where a map's would."""
        if device is None:
            return serial().charging(self.meter).call(fn)
        crew, place, _ = self._who(device)
        name = getattr(getattr(fn, "func", fn), "__name__", "a call")
        for left in reversed(range(TRIES)):
            luggage = Luggage()
            packed = luggage.pack((fn, self.meter))
            given = pickle.dumps((luggage.labels(), packed), protocol=5)
            member = self._ready(crew)
            try:
                answer = _answer(member, given, place or device, luggage)
            except BaseException:  # interrupted, perhaps by whoever is told of progress
                crew.lose(member)
                raise
            if answer is None:
                crew.lose(member)
            else:
                kind, what, counts = answer
                luggage.carry_on(counts)
                if kind == "failed":
                    raise what
                return luggage.unpack(what)  # type: ignore[no-any-return]
            if left:
                self.tell(f"the worker of {name} died; it is tried again elsewhere")
        raise ExecutionError(
            f"{name}: its worker died {TRIES} times; look at the memory of the cluster's machines: "
            "smaller batches need less"
        )

    def _ready(self, crew: Crew) -> Member:
        """A worker that has started, and did not die since."""
        import ray

        while True:
            (member,) = crew.reach(1)
            if member.greeting is None:
                if crew.answers(member):
                    return member
            elif heard(ray.wait, [member.greeting], timeout=_LOOKS)[0]:
                crew.started(member, self.cache_dir)
            else:
                crew.wait(self.tell)

    def _who(self, device: Device | None) -> tuple[Crew, Device | None, int]:
        """The workers for work on a device, what it is called there, and how many they are."""
        import ray

        accelerators = int(ray.cluster_resources().get("GPU", 0)) if device != "cpu" else 0
        if device == "cuda" and not accelerators:
            raise ConfigError(
                "device=cuda: no machine of the cluster has an accelerator; use device=cpu or "
                "auto, or start a machine that has one"
            )
        if device is None or not accelerators:
            return self.cluster.on_cores, None if device is None else "cpu", self.workers
        return self.cluster.on_accelerators, device, accelerators


def _answer(member: Member, given: bytes, device: Device, luggage: Luggage) -> Any:
    """What a worker answers to a call, once it has said all that it has to say; None if it died."""
    import ray

    try:
        said = member.handle.call.options(num_returns="streaming").remote(given, device)
        while (ref := heard(next, said, None)) is not None:
            message = pickle.loads(heard(ray.get, ref))  # noqa: S301 - our own bytes
            if message[0] != "said":
                return message
            luggage.say(message[1], *message[2])
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError:
        return None
    return None


def clustered(
    workers: int | None = None,
    *,
    address: str | None = None,
    threads: int | None = None,
    cache_dir: Place,
    tell: Tell = ignore,
) -> Clustered:
    """An executor on a Ray cluster, which is joined or started here.

    Args:
        workers: Processes that work; one for every core of the cluster when not given.
        address: See `didact.execution.cluster.connection.connect`.
        threads: Threads of a kernel in this process; one for every core of this machine when not
            given.
        cache_dir: The cache, which every machine must see.
        tell: Told of workers that died, and of waiting.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: There is no cluster at the address; or its machines differ from this one, or do
            not see the cache.
    """
    global _cluster  # noqa: PLW0603 - Ray, too, has one connection a process
    if workers is not None:
        counted(workers)
    started = connect(address, workers or cores())
    import ray

    if _cluster is None or started:
        _cluster = Cluster(started)
    _cluster.check(cache_dir)
    there = int(ray.cluster_resources().get("CPU", 0))
    return Clustered(
        _cluster, workers or max(there, 1), counted(threads, "threads"), cache_dir, tell
    )
