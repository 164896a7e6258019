"""What a pool holds, a config to start from, and what the methods are: the first things to ask."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
from pydantic.fields import FieldInfo

from didact import config as configs
from didact.core import binding, registry
from didact.core.errors import ConfigError, did_you_mean
from didact.core.pool import Pool
from didact.data.reading.settings import DataSettings

_SHOWN = 240  # characters of a sample's text
_QUANTILES = {"min": 0, "median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1}


def inspect_pool(pool: Pool) -> dict[str, Any]:
    """Format, mapping, counts, lengths, duplicates, findings, three samples, as JSON values."""
    tokens = pool.n_tokens
    quantiles = np.quantile(tokens, list(_QUANTILES.values())).astype(int).tolist()
    per_source = np.bincount(pool.source_codes, minlength=len(pool.source_names))
    by_size = np.argsort(-per_source, kind="stable")
    places = np.unique(np.array([0, len(pool) // 2, len(pool) - 1]))
    # raw text is all completion, and a chat's text is its prompt and completion again
    unwanted = {"prompt", "completion"} if pool.kind == "text" else {"text"}
    batch = pool.read(places, ["id", "source", "prompt", "completion", "text"])
    return {
        "format": list(pool.meta["formats"]),
        "kind": pool.kind,
        "columns": _mapping(pool),
        "samples": len(pool),
        **pool.meta["counts"],
        "bytes": pool.stats.n_bytes,
        "tokens": pool.stats.n_tokens,
        "token_counter": pool.token_counter,
        "tokens_are_an_estimate": pool.tokens_are_estimated,
        "tokens_per_sample": dict(zip(_QUANTILES, quantiles, strict=True)),
        "sources": {pool.source_names[i]: int(per_source[i]) for i in by_size},
        "given_ids": pool.read(places[:1], ["id"]).column("id")[0].as_py()
        != f"{pool.content_hash[0]:016x}",
        "findings": [found.to_json() for found in pool.findings],
        "rejected_rows_are_in": str(pool.file("rejected.jsonl").path)
        if pool.meta["counts"]["rejected"]
        else None,
        "fingerprint": pool.fingerprint,
        "examples": [
            {k: v[:_SHOWN] for k, v in row.items() if k not in unwanted}
            for row in batch.to_pylist()
        ],
    }


def _mapping(pool: Pool) -> dict[str, str]:
    """Names as didact has them → columns of the file, for the first row."""
    row = json.loads(next(pool.records(range(1))))
    columns: dict[str, str] = dict(pool.meta["columns"])
    mapped = set(columns.values())
    for name in row:
        if name not in mapped:
            columns.setdefault(name, name)
    return {k: v for k, v in columns.items() if v in row or "." in v}


def describe_methods(name: str | None = None) -> list[dict[str, Any]]:
    """Every registered method, or the one called `name`: what it does and its settings.

    Raises:
        ConfigError: Nothing has this name.
    """
    out = []
    for group in registry.METHOD_GROUPS:
        for known in registry.known(group):
            if name in {None, known}:
                out += [_described(group, known, detailed=name is not None)]
    if not out:
        names = [n for group in registry.METHOD_GROUPS for n in registry.known(group)]
        raise ConfigError(f"unknown method {name!r}{did_you_mean(str(name), names)}")
    return out


def _described(group: registry.Group, name: str, *, detailed: bool) -> dict[str, Any]:
    try:
        method = registry.find(group, name)
        binding.schema(method)
    except ConfigError as error:  # a plug-in that is broken does not hide the others
        if detailed:
            raise
        stage = group.removesuffix("s")
        return {"name": name, "stage": stage, "does": f"cannot be used: {error}", "settings": {}}
    doc = inspect.getdoc(method) or ""
    settings = _settings(binding.schema(method).model_fields)
    out = {
        "name": name,
        "stage": group.removesuffix("s"),
        "does": doc.split("\n\n")[0].replace("\n", " "),
        "settings": settings,
    }
    if not detailed:
        return out
    return out | {"documentation": doc, "around": _settings(configs.around(group))}


def _settings(fields: Mapping[str, FieldInfo]) -> dict[str, dict[str, str]]:
    return {
        name: {
            "type": _type(info.annotation),
            "default": "required" if info.is_required() else repr(info.default),
        }
        for name, info in fields.items()
    }


def commented_config(
    paths: Sequence[str], pool: Pool, target: Sequence[str], settings: DataSettings
) -> str:
    """A config for these files that runs as it is, with what else can be set as comments."""
    given = settings.model_dump(mode="json", exclude_defaults=True)
    data = [
        f"  path: {json.dumps(paths[0] if len(paths) == 1 else list(paths), ensure_ascii=False)}"
    ]
    data += [f"  {k}: {json.dumps(v, ensure_ascii=False)}" for k, v in given.items()]
    found = f"{len(pool):,} {pool.kind} samples ({', '.join(pool.meta['formats'])})"
    target_set = json.dumps(target[0] if len(target) == 1 else list(target), ensure_ascii=False)
    score = [
        f"  method: bm25            # words of the target; dsir, zip_fit\n  target: {target_set}",
        "  # method: classifier    # the target told from the pool; its note says how well",
    ]
    if not target:
        score = [
            "  method: compression     # raw ÷ compressed bytes: lower is less redundant",
            "  # method: learned_grade # a grade that a few hundred rows carry, foretold for all",
            "  # grade: grade          # their column",
        ]
    return _CONFIG.format(
        found=found, fifth=max(pool.stats.n_tokens // 5, 1), data="\n".join(data),
        score="\n".join(score),
        tokens=f"{pool.stats.n_tokens:,} tokens by {pool.token_counter}"
        + (" (an estimate)" if pool.tokens_are_estimated else ""),
    )  # fmt: skip


_CONFIG = """\
# {found}, {tokens}.
# Run:      didact run THIS_FILE -o OUT          (again = go on where it stopped)
# Methods:  didact methods                       Defaults: didact config show THIS_FILE

seed: 0

data:
{data}
  # tokenizer: tokenizer.json    # counts tokens; without it they are an estimate
  # exclude: [held_out.jsonl]    # drop rows that share 13 words in a row with these files
  # validation: 0.01             # set aside, never selected, written to its own file
  # on_bad_row: skip             # write bad rows to rejected.jsonl instead of stopping

score:
{score}

select:
  method: top_k                  # or threshold, middle, gumbel_top_k, round_robin
  budget: {{tokens: {fifth}}}  # a fifth of the pool's; or {{samples: 10000}}, {{ratio: 0.2}}
  # near_duplicates: {{similarity: 0.8}}  # refuse what nearly repeats a chosen row; didact[dedup]
  # quotas: {{at_most: {{web: 0.3}}}}  # shares per source; also at_least, proportional

order:
  method: shuffle                # the default of nearly all training; unless you test, keep it
  # method: fold                 # from the worst score to the best, `layers` times: compare the two
  # layers: 3
  # epochs: 3                    # written out, so that every epoch keeps its order
  # batch_size: 64               # samples per optimizer step over all devices

export:
  for: trl                       # or llama-factory, axolotl, …: files that keep its order

# train:                         # a model trained in this order, in OUT/model
#   model: scratch               # or a folder, or a hub name
#   params: 1M                   # of a model from scratch
#   learning_rate: 1e-3          # 1e-5 to 5e-5 for a large trained model; lora_rank: 16
#   final_rate: 0.33             # share of it at the end; average: ema beside it

# evaluate:                      # bits per byte and choices of that model, beside its base
#   files: [held_out.jsonl]
"""


def _type(annotation: Any) -> str:
    """A setting's type as a person would write it: `int or None`, `'mean' or 'max'`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin in {Union, UnionType}:
        return " or ".join(_type(a) for a in inner)
    if origin is Literal:
        return " or ".join(repr(a) for a in inner)
    if annotation is NoneType:
        return "None"
    return annotation.__name__ if isinstance(annotation, type) and not inner else str(annotation)
