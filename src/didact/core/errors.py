"""Every exception didact raises on purpose.

```text
DidactError
├── ConfigError              a setting is unknown, missing or out of range
├── DataError                a file or a row is not what it should be
│   ├── DamagedError         a kept file is not what was written; its value is made again
│   └── NoSampleError        files without a single sample to use
├── PoolMismatchError        a table belongs to another pool
├── BudgetError              a budget cannot be met
├── MissingDependencyError   an optional library is not installed
└── ExecutionError           a worker failed; names the item
    └── OrderBrokenError     a training step did not read what the order says
```
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable
from typing import ClassVar, Literal


class DidactError(Exception):
    """Something the user can fix. The message has the value, the expectation and the remedy.

    Attributes:
        exit_code: What the command line exits with.
    """

    exit_code: ClassVar[int] = 1


class ConfigError(DidactError):
    """A setting is unknown, missing or out of range."""


class DataError(DidactError):
    """A file or a row is not what it should be."""


class NoSampleError(DataError):
    """Files without a single sample to use."""


class DamagedError(DataError):
    """A kept file is not what was written; the entry it belongs to is void and is made again.

    Attributes:
        path: The file, on a disk or behind a URL.
        what: What is wrong with it.
    """

    def __init__(self, path: object, what: str) -> None:
        super().__init__(
            f"{path}: is damaged ({what}); run the same command again: it is made anew"
        )
        self.path, self.what = path, what

    def __reduce__(self) -> tuple[type[DamagedError], tuple[object, str]]:
        return (DamagedError, (self.path, self.what))


class PoolMismatchError(DidactError):
    """Scores, a selection or an order belong to another pool."""


class BudgetError(DidactError):
    """A budget is malformed or cannot be met by the pool."""


class MissingDependencyError(DidactError):
    """An optional library is not installed; the message has the command that installs it."""


class ExecutionError(DidactError):
    """A worker failed on an item that the message names."""


class OrderBrokenError(ExecutionError):
    """A training step did not read what the order says; a verdict of no."""

    exit_code = 4


_COMPARED = 2000  # names; a row may have a hundred thousand


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean …?' for the nearest known names but itself, and the list of all of them."""
    known = sorted(known)
    listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    near = [n for n in difflib.get_close_matches(name, known[:_COMPARED], n=3) if n != name][:2]
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return f"{hint} (known: {listed})" if known else hint


Libraries = Literal["models", "sentences", "static", "fast", "dedup", "eval", "hf", "kenlm", "ray"]
EXTRAS: dict[Libraries, tuple[str, ...]] = {
    "models": ("torch", "transformers", "tokenizers", "accelerate", "peft", "safetensors"),
    "sentences": ("sentence_transformers",),
    "static": ("model2vec",),
    "fast": ("numba",),
    "dedup": ("rensa",),
    "eval": ("lm_eval",),
    "hf": ("datasets",),
    "kenlm": ("kenlm",),
    "ray": ("ray",),
}
_BOUGHT_BY = {"sentences": "embed", "static": "embed"}  # libraries whose extra has another name


def need(what: str, libraries: Libraries) -> None:
    """Raise MissingDependencyError unless some libraries are installed.

    Args:
        what: What needs them, for the message.
        libraries: The extra's name, such as `models`; see `EXTRAS`.
    """
    for library in EXTRAS[libraries]:
        if importlib.util.find_spec(library) is None:
            extra = _BOUGHT_BY.get(libraries, libraries)
            raise MissingDependencyError(f"{what} needs {library}: pip install 'didact[{extra}]'")
