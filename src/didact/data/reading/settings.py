"""Settings of reading: how files become a pool."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from didact.core.registry import NameIn
from didact.data.rows.reasoning import Reasoning
from didact.data.rows.sayings import Droppable


class ChunkSettings(BaseModel):
    """How long texts are cut when `unit: chunk`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: Annotated[int, Field(ge=8)] = 1024
    at: Literal["sentence", "token"] = "sentence"


def _whole(amount: float) -> float:
    if amount >= 1 and not amount.is_integer():
        raise ValueError("expected a share below 1 or a whole number of rows")
    return amount


def _listed(value: object) -> object:
    """One file as a list of one."""
    return [value] if isinstance(value, str) else value


class DataSettings(BaseModel):
    """How files become a pool. What changes its samples is part of the pool's identity.

    Attributes:
        format: What rows look like; `auto` looks at the first row of each file.
        columns: didact's name → your column; dots reach into nested objects.
        reasoning: `keep` reads reasoning traces as part of their answers: in the text, in counts,
            in scores and in what is trained on; `drop` leaves them out of all of these.
        template: How `text` is made from turns: contents by newline, with roles, or ChatML.
        tokenizer: A local `tokenizer.json`; without it token counts are an estimate.
        dedup: `exact` counts rows of equal content once in every selection.
        unit: `chunk` cuts long raw text into samples with parent and offsets.
        chunk: How chunks are cut.
        lines: What a sample of a plain text file is.
        drop: Kinds of rows that are left out, and listed in `rejected.jsonl`: of those that
            `didact inspect` says should be known.
        on_bad_row: `raise` stops at the first bad row; `skip` writes them to `rejected.jsonl`.
        held_out_on_bad_row: The same of held-out files, `exclude` and those of an evaluation: a row
            that is skipped there is not looked for, and not evaluated on.
        validation: Rows set aside and never selected: a share below 1, or a number of rows.
        exclude: Held-out files; rows that share an n-gram of words with them are dropped.
        exclude_ngram: Words of that n-gram; where there are no spaces, four letters or two
            ideographs count as one.
        max_row_bytes: A longer row is a bad row (a missing newline, usually).
        batch_rows: Most rows of a batch.
        batch_bytes: A batch is closed once it holds this many bytes.
        shard_bytes: Bytes of input that are read into one shard of the store, by one worker: small
            files together, those with a row a line in parts, others whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Annotated[str, NameIn("formats", "auto")] = "auto"
    columns: dict[str, str] = {}
    reasoning: Reasoning = "keep"
    template: Literal["plain", "roles", "chatml"] = "plain"
    tokenizer: str | None = None
    dedup: Literal["exact", "none"] = "exact"
    unit: Literal["sample", "chunk"] = "sample"
    chunk: ChunkSettings = ChunkSettings()
    lines: Literal["line", "paragraph", "file"] = "line"
    drop: Annotated[list[Droppable], BeforeValidator(_listed)] = []
    on_bad_row: Literal["raise", "skip"] = "raise"
    held_out_on_bad_row: Literal["raise", "skip"] = "raise"
    validation: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_whole)] = 0.0
    exclude: Annotated[list[str], BeforeValidator(_listed)] = []
    exclude_ngram: Annotated[int, Field(ge=2, le=64)] = 13
    max_row_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 32 * 2**20
    batch_rows: Annotated[int, Field(ge=1, le=2**20)] = 4096
    batch_bytes: Annotated[int, Field(ge=1024, le=2**28)] = 4 * 2**20
    shard_bytes: Annotated[int, Field(ge=1024, le=2**40)] = 32 * 2**20
