"""data: the pool's files, canonicalised once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from didact.config import RunConfig
from didact.core.cost import Cost
from didact.core.manifest import StageRecord
from didact.core.paths import Place
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.data.reading.ingest import Ingested, find_cached
from didact.runs.folder import Outcome
from didact.stages.left_out import listed, rejected
from didact.stages.stage import Stage, Values
from didact.verbs import read_with_inputs

# Processor seconds a byte, from benchmarks/main_job.py on one core: reading and canonicalising
# chats. Only `estimate` uses it.
_SECONDS_PER_BYTE = 3.5e-8


def _read(config: RunConfig, ctx: Context) -> Ingested:
    return read_with_inputs(config.data.path, config.data, ctx)


def _inputs(read: Ingested) -> tuple[dict[str, Any], ...]:
    return read.inputs


def _depends(values: Values) -> Mapping[str, Any]:
    # Content, not where it lies, is what the stages depend on.
    settings = values.config.data.model_dump(mode="json", exclude={"path", "exclude", "tokenizer"})
    pool = values.read["data"].pool
    found = [[finding.kind, finding.count, finding.first] for finding in pool.findings]
    return {"pool": pool.fingerprint, "data": settings, "findings": found}


def _estimate(values: Values) -> Cost:
    return Cost(cpu_seconds=_SECONDS_PER_BYTE * values.read["data"].pool.stats.n_bytes)


def _work(values: Values, folder: Place, ctx: Context) -> Outcome:
    del ctx
    read: Ingested = values.read["data"]
    pool = read.pool
    held_out = [] if read.held_out is None else [read.held_out]
    written = [
        path
        for name in ("rejected", "excluded")
        for path in listed([pool], name, folder / f"{name}.jsonl")
    ]
    written += listed(held_out, "rejected", folder / "rejected_held_out.jsonl")
    counts = {
        **pool.meta["counts"],
        "rejected_held_out": rejected(held_out),
        "tokens": pool.stats.n_tokens,
        "bytes": pool.stats.n_bytes,
    }
    facts = {"token_counter": pool.meta["token_counter"]}
    estimate = f"token counts are an estimate ({pool.token_counter}); give data.tokenizer"
    notes = (estimate,) if pool.tokens_are_estimated else ()
    return Outcome(written, counts, notes, pool.findings, facts=facts, found=read.reused)


def _load(folder: Place, record: StageRecord, values: Values, ctx: Context) -> Pool:
    """The pool that was read just now, or of a finished run: found in the cache, or read again."""
    del folder
    if "data" in values.read:
        pool: Pool = values.read["data"].pool
        return pool
    fingerprint = str(record.depends_on.get("pool"))
    return find_cached(fingerprint, ctx) or _read(values.config, ctx).pool


STAGE = Stage(
    name="data",
    read=_read,
    inputs=_inputs,
    depends=_depends,
    estimate=_estimate,
    work=_work,
    load=_load,
    samples="kept",
)
