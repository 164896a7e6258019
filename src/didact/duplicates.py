"""`dedup`: a pool without its exact and near duplicates, and the clusters to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from didact import config as configs
from didact import verbs
from didact.core import binding
from didact.core.array_folders import scores_identity
from didact.core.errors import ConfigError, DamagedError, DataError, did_you_mean, need
from didact.core.findings import counted
from didact.core.identity import base_libraries, versions
from didact.core.keep import keep as kept
from didact.core.paths import Given, Place, place
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.data import tables
from didact.data.export.data_set import VALIDATION, ExportSettings, check_trainer, write_data_set
from didact.data.export.owned import owned
from didact.reporting.clusters_page import write_clusters_page
from didact.scoring.column import keys_of, number, parse
from didact.selection.around.distinct import (
    Distinct,
    Keep,
    find_distinct,
    load_distinct,
    save_distinct,
)
from didact.selection.around.near_duplicates import NearDuplicates

CLUSTERS: Final = "clusters"  # the stem of the table and of the page
_RULE: Final = 2  # raised when other rows of the same pool stay


def dedup(
    pool: Pool, *, keep: str | Scores = "first", ctx: Context | None = None, **settings: Any
) -> Distinct:
    """Find exact and near duplicates, and which row of each cluster stays; nothing else is chosen.

    Exact copies are rows of equal content. Near are rows whose word runs are nearly the same, but
    never answers of other labels or pairs that prefer the opposite, see
    `didact.selection.around.near_duplicates`: going through the pool a row is removed when it is
    near one that stays. Near is not transitive, so two rows of a cluster need not be near each
    other; both are near the one that stays. The validation split is left as it is.

    Args:
        pool: The samples.
        keep: Which row of a cluster stays: the `first` in the order of the files, the `longest`,
            the one of the highest number in a column of this name, or the one of the best score.
            Ties go to the first.
        ctx: Workers, cache, progress.
        settings: Those of `NearDuplicates`: similarity, ngram, permutations.

    Returns:
        `.kept` is the selection, `.to_table(pool)` the clusters, `.describe(pool)` the counts.

    Raises:
        ConfigError: A setting is wrong, or no row has a number in such a column.
        PoolMismatchError: The scores belong to another pool.
        MissingDependencyError: rensa is not installed: `pip install 'didact[dedup]'`.

    **Cost:** about 25 µs a row and 15 ns a byte; memory 256 bytes a row by default, a third more
    for a while. What was found is kept in the cache.
    """
    need("dedup", "dedup")
    ctx = ctx or verbs.context_of(pool)
    how = NearDuplicates(**binding.bind(NearDuplicates, settings, "dedup"))
    by = _which_stays(pool, keep, ctx)
    key = {
        "rule": _RULE,
        "pool": pool.fingerprint,
        "keep": scores_identity(by) if isinstance(by, Scores) else by,
        "settings": binding.as_json(NearDuplicates, settings),
        "libraries": {**base_libraries(), **versions(("rensa",))},
    }
    found: Distinct = kept(
        ctx, "distinct", key, lambda work: find_distinct(pool, how, work, keep=by),
        save=save_distinct, load=load_distinct,
    )  # fmt: skip
    return found


def _which_stays(pool: Pool, keep: str | Scores, ctx: Context) -> Keep | Scores:
    if isinstance(keep, Scores):
        keep.check(pool)
        return keep
    if keep in get_args(Keep):
        return cast("Keep", keep)
    try:
        return verbs.score(pool, "column", name=keep, prefer="higher", ctx=ctx)
    except DamagedError:
        raise
    except DataError as error:
        names, row = get_args(Keep), parse(next(iter(pool.records(range(1)))))
        columns = [name for name in keys_of(row) if not isinstance(number(row, name), str)]
        raise ConfigError(
            f"keep={keep!r} is none of {', '.join(names)}, and no column with a number"
            f"{did_you_mean(keep, (*names, *columns))}"
        ) from error


def notes(counts: Mapping[str, Any]) -> tuple[str, ...]:
    """What should be known of a deduplication, from what `Distinct.describe` says of it."""
    others, near = counts.get("near_copies_that_answer_otherwise", 0), counts["near_copies"]
    if not others:
        return ()
    verb = "answers" if others == 1 else "answer"
    said = (
        f"{others:,} of {counted(near, 'near copy', 'near copies')} {verb} otherwise than the row "
        "that stays: the same "
        f"long text, perhaps, with another question; see {CLUSTERS}.html, and if they should stay, "
        "raise the similarity"
    )
    return (said,)


def check_writable(pool: Pool, settings: dict[str, Any]) -> None:
    """Refuse settings of `write_distinct` that cannot be met, before anything is compared.

    Raises:
        ConfigError: A setting is wrong.
        DataError: The trainer cannot take the pool's samples.
    """
    check_trainer(pool, configs.validated(ExportSettings, settings, "export"))


def write_distinct(pool: Pool, found: Distinct, folder: Given, **settings: Any) -> list[Place]:
    """Write the rows that stay as they came, in the order of the files; and the clusters.

    Args:
        pool: The pool.
        found: What `dedup` found in it.
        folder: Where the files go: those of `didact.verbs.export`, `clusters.parquet` with a row a
            sample of a cluster, and `clusters.html` with the largest ones to read.
        settings: See `didact.data.export.data_set.ExportSettings`: trainer="trl", format, shards, …

    Returns:
        The files, the clusters last.

    Raises:
        ConfigError: A setting is wrong, or another command writes there.
        DataError: The folder has data that no earlier export wrote, or was changed since.
    """
    checked = configs.validated(ExportSettings, settings, "export")
    out = place(folder)
    ordered = verbs.order(pool, found.kept, None, "keep")
    with owned(out, checked.name, VALIDATION, CLUSTERS) as written:
        files = write_data_set(pool, ordered, out, checked)
        table, page = out / f"{CLUSTERS}.parquet", out / f"{CLUSTERS}.html"
        tables.write_table(found.to_table(pool), table)
        write_clusters_page(found, pool, page)
        files += [table, page]
        written(files)
    return files
