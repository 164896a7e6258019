"""For didact's own tests and for authors of plug-ins: small pools, and the contracts of methods."""

from didact.testing.orderer import check_orderer
from didact.testing.pools import Rows, chat, make_pool, sample_rows, target_rows
from didact.testing.scorer import check_executors, check_scorer
from didact.testing.selector import check_selector

__all__ = [
    "Rows",
    "chat",
    "check_executors",
    "check_orderer",
    "check_scorer",
    "check_selector",
    "make_pool",
    "sample_rows",
    "target_rows",
]
