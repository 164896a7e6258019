"""didact decides what a language model should read, in what order, for the compute there is.

The public API; everything is imported on first use, so `import didact` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from didact._version import __version__

if TYPE_CHECKING:
    from didact.comparing.compare import compare
    from didact.core.budget import Budget
    from didact.core.errors import DidactError
    from didact.core.pool import Pool
    from didact.core.scores import Scores, Selection, TrainingOrder
    from didact.duplicates import dedup
    from didact.laws import law
    from didact.monitoring.monitor import monitor
    from didact.pipeline import run
    from didact.plans import plan
    from didact.verbs import combine, context, evaluate, export, order, read, score, select, train

_HOME = {
    "Budget": "didact.core.budget",
    "DidactError": "didact.core.errors",
    "Pool": "didact.core.pool",
    "Scores": "didact.core.scores",
    "Selection": "didact.core.scores",
    "TrainingOrder": "didact.core.scores",
    "combine": "didact.verbs",
    "compare": "didact.comparing.compare",
    "context": "didact.verbs",
    "dedup": "didact.duplicates",
    "evaluate": "didact.verbs",
    "export": "didact.verbs",
    "law": "didact.laws",
    "monitor": "didact.monitoring.monitor",
    "order": "didact.verbs",
    "plan": "didact.plans",
    "read": "didact.verbs",
    "run": "didact.pipeline",
    "score": "didact.verbs",
    "select": "didact.verbs",
    "train": "didact.verbs",
}

__all__ = [
    "Budget",
    "DidactError",
    "Pool",
    "Scores",
    "Selection",
    "TrainingOrder",
    "__version__",
    "combine",
    "compare",
    "context",
    "dedup",
    "evaluate",
    "export",
    "law",
    "monitor",
    "order",
    "plan",
    "read",
    "run",
    "score",
    "select",
    "train",
]


if not TYPE_CHECKING:  # a type checker is to know which names there are

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'didact' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
