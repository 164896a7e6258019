"""Small files behind URLs, fetched before they are read: several at a time, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Final

from didact.core.paths import RemotePath
from didact.data.reading.files import File

AT_A_TIME: Final = 16
_MOST: Final = 2**20  # bytes of what is fetched whole, so that 16 MiB are held


def is_small(file: File) -> bool:
    """Whether a file waits for its store rather than for its bytes."""
    size = file.n_bytes or 0  # of what a store does not say it is 0
    return isinstance(file.path, RemotePath) and file.part is None and 0 < size <= _MOST


def ahead(files: Sequence[File]) -> Generator[File]:
    """The files, in order; small remote ones with their bytes."""
    with ThreadPoolExecutor(AT_A_TIME, "ahead") as workers:
        asked = (
            (file, workers.submit(file.path.read_bytes) if is_small(file) else None)
            for file in files
        )
        flying = deque(islice(asked, AT_A_TIME))
        while flying:
            file, fetched = flying.popleft()
            yield file if fetched is None else replace(file, held=fetched.result())
            flying.extend(islice(asked, 1))
