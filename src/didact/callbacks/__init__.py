"""Callbacks for people's own HF and TRL scripts: OrderGuard, RiskMonitor, Telemetry.

```python
from didact.callbacks import OrderGuard, RiskMonitor, Telemetry

trainer.add_callback(OrderGuard("OUT"))  # fails the run if the order does not enter the model
trainer.add_callback(Telemetry())  # steps.jsonl and training.json into the trainer's output_dir
trainer.add_callback(RiskMonitor("outputs/v2"))  # Telemetry that warns, beside version 2's training
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from didact.callbacks.order_guard import OrderGuard
    from didact.callbacks.risk_monitor import RiskMonitor
    from didact.callbacks.telemetry import Telemetry

_HOME = {
    "OrderGuard": "didact.callbacks.order_guard",
    "RiskMonitor": "didact.callbacks.risk_monitor",
    "Telemetry": "didact.callbacks.telemetry",
}

__all__ = ["OrderGuard", "RiskMonitor", "Telemetry"]


if not TYPE_CHECKING:  # a type checker is to know which names there are

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'didact.callbacks' has no attribute {name!r}")
        from didact.core.errors import need

        need(f"callbacks.{name}", "models")
        return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
