"""The field of a sample that a text scorer looks at."""

from __future__ import annotations

from typing import Literal

from didact.core.errors import ConfigError
from didact.core.pool import Pool

SampleField = Literal["text", "prompt", "first_message", "completion"]


def check_sample_field(pool: Pool, field: SampleField, setting: str, *, what: str = "pool") -> None:
    """Raise ConfigError when the pool's samples have no such field.

    Args:
        pool: The pool or target set.
        field: `text` is every turn, `prompt` every turn that a trainer shows and does not learn,
            `first_message` the first turn (of a pair, of its prompt), `completion` what it learns.
        setting: The setting that asked for it, e.g. "score.length.field".
        what: "pool" or "target set", for the message.
    """
    if field != "text" and pool.kind == "text":
        raise ConfigError(
            f"{setting}={field}: the {what} is raw text, which has no {field}; use {setting}=text, "
            "or map prompt and completion columns with data.columns"
        )


def check_fields(
    pool: Pool,
    target: Pool | None,
    field: SampleField,
    target_field: SampleField | None,
    where: str,
) -> SampleField:
    """The field of the target's samples: `target_field`, or `field` where that is None.

    Args:
        pool: The pool.
        target: The target set, where it is looked at.
        field: The field of the pool's samples.
        target_field: The field of the target's samples.
        where: Where both settings stand, e.g. "score.bm25".

    Raises:
        ConfigError: The samples of pool or target have no such field.
    """
    check_sample_field(pool, field, f"{where}.field")
    of_target = target_field or field
    if target is not None:
        check_sample_field(target, of_target, f"{where}.target_field", what="target set")
    return of_target
