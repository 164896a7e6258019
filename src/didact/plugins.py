"""What methods of your own are written with: the names that stay where they are.

    from didact.plugins import BatchScores, Context, Cost, Fitted, Pool, PoolStats, one_pass

What is listed here keeps its name and its meaning from one version to the next: arguments and
attributes are only added, with defaults. Where that cannot be, the changelog says so under
"Plug-ins", and the minor version counts up. Everything else in didact may move in any version.
`didact.testing` checks a method against the contract of the built-in ones, and is as stable.

How to write one: docs/extending.md.
"""

from didact.core.arrays import Bool1D, Float1D, Float2D, Int1D, UInt64s
from didact.core.atomic import write_text
from didact.core.budget import Budget
from didact.core.cost import Cost, Metered
from didact.core.errors import (
    BudgetError,
    ConfigError,
    DataError,
    DidactError,
    MissingDependencyError,
)
from didact.core.identity import method
from didact.core.keep import keep
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import (
    BatchScorer,
    BatchScores,
    Composition,
    Context,
    Fitted,
    Growing,
    Grown,
    Growth,
    Orderer,
    Progress,
    Ranking,
    Scorer,
    Selector,
)
from didact.core.render import CHOSEN, REJECTED, SHARED
from didact.core.sample_field import SampleField, check_sample_field
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.core.statistics import best_first, mean_ranks, spearman, zscore
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.script import script_text
from didact.data.export.trainer_settings import sequential, settings_text
from didact.data.rows.columns import Columns, Row, RowError, require, require_text
from didact.data.rows.format import Format
from didact.data.rows.turns import Turn
from didact.selection.around.budget import candidates, eligible
from didact.text.ngrams import ngram_hashes
from didact.text.words import Words, hash_words

__all__ = [
    "CHOSEN",
    "REJECTED",
    "SHARED",
    "BatchScorer",
    "BatchScores",
    "Bool1D",
    "Budget",
    "BudgetError",
    "Columns",
    "Composition",
    "ConfigError",
    "Context",
    "Cost",
    "DataError",
    "DidactError",
    "Fitted",
    "Float1D",
    "Float2D",
    "Format",
    "Growing",
    "Grown",
    "Growth",
    "Int1D",
    "Metered",
    "MissingDependencyError",
    "OrderedDataSet",
    "Orderer",
    "Pool",
    "PoolStats",
    "Progress",
    "Ranking",
    "Row",
    "RowError",
    "SampleField",
    "Scorer",
    "Scores",
    "Selection",
    "Selector",
    "TrainingOrder",
    "Turn",
    "UInt64s",
    "Words",
    "best_first",
    "candidates",
    "check_sample_field",
    "eligible",
    "hash_words",
    "keep",
    "mean_ranks",
    "method",
    "ngram_hashes",
    "one_pass",
    "require",
    "require_text",
    "script_text",
    "sequential",
    "settings_text",
    "spearman",
    "write_text",
    "zscore",
]
