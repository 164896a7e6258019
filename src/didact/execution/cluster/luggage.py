"""Work that travels to another process without what belongs to this one.

The `Context` of a call goes along, and so does its work. What it reports to, the progress and the
sentences for the user, stays here and is heard from afar; what is charged is counted there and
comes back.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from didact.core.cost import Counts, Meter
from didact.core.protocols import Context
from didact.execution.executors import serial

Label = tuple[str, Any]  # what takes the place of a value that stays


class Luggage:
    """What stays where it is, by number; bytes of a value that refer to it by that number."""

    def __init__(self, kept: Sequence[Any] = ()) -> None:
        self._kept: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._executors: dict[int, int] = {}  # number → that of the meter it charges
        for value in kept:
            self._number(value)

    @classmethod
    def rebuilt(cls, labels: Sequence[Label], say: Callable[..., None]) -> Luggage:
        """What takes the place of values elsewhere.

        Args:
            labels: As `labels` gave them there.
            say: Called with the number of a callback and what it is called with.
        """
        kept: list[Any] = [partial(say, number) for number in range(len(labels))]
        for number, (kind, about) in enumerate(labels):
            if kind == "meter":
                kept[number] = Meter()
                kept[number].carry_on(about)
        for number, (kind, about) in enumerate(labels):
            if kind == "executor":  # this worker is all that the work may use
                kept[number] = serial().charging(kept[about])
        return cls(kept)

    def pack(self, value: Any) -> bytes:
        """The bytes of a value. Meters, and a context's callbacks and executor, are left here."""
        from ray.cloudpickle import CloudPickler

        luggage = self

        class Packer(CloudPickler):  # type: ignore[misc]
            def persistent_id(self, found: Any) -> int | None:
                return luggage._left(found)

        file = io.BytesIO()
        Packer(file, protocol=5).dump(value)
        return file.getvalue()

    def unpack(self, data: bytes) -> Any:
        """The value of bytes that were packed here or elsewhere."""
        kept = self._kept

        class Unpacker(pickle.Unpickler):
            def persistent_load(self, number: int) -> Any:
                return kept[number]

        return Unpacker(io.BytesIO(data)).load()

    def labels(self) -> list[Label]:
        """What is left here, described for `rebuilt`."""
        return [self._label(number, value) for number, value in enumerate(self._kept)]

    def counts(self) -> dict[int, Counts]:
        """What the meters that are left here count."""
        return {i: m.counts() for i, m in enumerate(self._kept) if isinstance(m, Meter)}

    def carry_on(self, counts: Mapping[int, Counts]) -> None:
        """Let the meters go on from what they count elsewhere."""
        for number, count in counts.items():
            self._kept[number].carry_on(count)

    def say(self, number: int, *values: Any) -> None:
        """Call a callback that is left here."""
        self._kept[number](*values)

    def _left(self, found: Any) -> int | None:
        if isinstance(found, Context):
            self._executors[self._number(found.executor)] = self._number(found.meter)
            self._number(found.progress)
            self._number(found.tell)
        elif isinstance(found, Meter):
            return self._number(found)
        return self._numbers.get(id(found))

    def _number(self, value: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._kept)
            self._kept.append(value)  # and so its id stays its own
        return self._numbers[id(value)]

    def _label(self, number: int, value: Any) -> Label:
        if isinstance(value, Meter):
            return ("meter", value.counts())
        if number in self._executors:
            return ("executor", self._executors[number])
        return ("callback", None)
