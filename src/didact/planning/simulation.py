"""The simulation that the paper opens with: four assumed rates, three sizes of trained model.

The rates are assumptions, not fits; on the paper's own tables `law.fit_shared` finds other ones.

**Source:** figure 1 of Yin and Rush (arXiv:2410.16208), read off its curves to three digits: P0 = 0
and P̄ = 100, training compute net of selection; the scoring model has 7.5 billion parameters and
the pool 10⁸ tokens, so one forward pass costs 1.5e18 and one pass of gradients 4.5e18.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

RATES: Final[Mapping[str, float]] = MappingProxyType(
    {"random": 5.0, "lexicon": 10.0, "perplexity": 40.0, "gradient": 80.0}
)
SELECTION_FLOPS: Final[Mapping[str, float]] = MappingProxyType(
    {"random": 0.0, "lexicon": 0.0, "perplexity": 1.5e18, "gradient": 4.5e18}
)
# In training passes of the scoring model: a forward pass is a third of one.
SELECTION_PASSES: Final[Mapping[str, float]] = MappingProxyType(
    {"random": 0.0, "lexicon": 0.0, "perplexity": 1 / 3, "gradient": 1.0}
)
FULL_FLOPS: Final[Mapping[str, float]] = MappingProxyType(
    {"small": 4.5e18, "medium": 4.5e19, "large": 9e20}
)


def simulated(method: str, budget_flops: float, full_flops: float) -> float:
    """Performance at a total budget, 0 to 100; NaN where selection costs the whole of it."""
    left = budget_flops - SELECTION_FLOPS[method]
    return -100 * math.expm1(-RATES[method] * left / full_flops) if left > 0 else math.nan
