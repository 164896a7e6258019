"""Estimates from specs: sizes alone are enough, and the same as an estimate that reads files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from didact.accounting.catalog import described
from didact.accounting.counts import stats_from_counts
from didact.accounting.flops import forward_flops_2nd
from didact.accounting.lora import lora_spec
from didact.accounting.spec import ModelSpec, headless
from didact.core import registry
from didact.core.errors import ConfigError
from didact.core.pool import LENGTH_BINS, Kind, PoolStats
from didact.text.compression import worth_counting


def sizes(n: int, kind: Kind, *, tasks: tuple[str, ...] = ()) -> PoolStats:
    """Samples of 20 to 100 tokens, half of them learned."""
    lengths = [0] * LENGTH_BINS
    for i in range(n):
        lengths[13 + i % 7] += 1
    learned = 1.0 if kind == "text" else 0.5
    return PoolStats(n, 200 * n, 50 * n, tuple(lengths), tasks, kind, learned)


SETTINGS = {
    "perplexity": {"window": 48, "stride": 16},
    "bits_per_byte": {"loss": "text", "max_length": 64},
    "ifd": {"template": "roles"},
    "rds": {},
    "embedding": {"max_length": 40},
    "less": {"rank": 4, "batch_size": 8, "targets": ("q_proj", "v_proj")},
    "pds": {"steps": 7, "proxy": 40},
    "lqs": {"steps": 6, "every": 2, "rule": "paper", "proxy": "all"},
}
POOL, TARGET = sizes(90, "chat"), sizes(12, "text", tasks=("a", "b"))

# Two layers of width 32 by hand, as `save_tiny_llama` has them: four heads, two of keys.
LAYER = {
    "self_attn.q_proj": (32, 32), "self_attn.k_proj": (16, 32), "self_attn.v_proj": (16, 32),
    "self_attn.o_proj": (32, 32), "mlp.gate_proj": (48, 32), "mlp.up_proj": (48, 32),
    "mlp.down_proj": (32, 48),
}  # fmt: skip


def tiny_llama(vocab: int, *, headed: bool = True) -> ModelSpec:
    head = ((vocab, 32, 1),) * headed
    layers = ((16, 32, 4), (32, 32, 4), (32, 48, 2), (48, 32, 4))
    per_layer = sum(a * b for a, b in LAYER.values()) + 2 * 32
    return ModelSpec(
        name="tiny", matrices=tuple(sorted(layers + head)), vocab=vocab, width=32, n_layers=2,
        attention_width=32, n_embedding=vocab * 32, n_total=vocab * 32 + 2 * per_layer + 32,
        tied=headed, context=256, overhead=(("chat", 18), ("text", 1)),
        modules=tuple((name, *shape, 2, 1) for name, shape in sorted(LAYER.items())),
    )  # fmt: skip


BY_HAND = {"model": tiny_llama(300), "scorer_model": tiny_llama(300, headed=False)}


@pytest.mark.parametrize("method", SETTINGS)
def test_estimates_are_those_from_specs(method, tiny_model, tiny_encoder):
    model = tiny_encoder if method == "embedding" else tiny_model
    scorer = registry.find("scorers", method)(model=str(model), **SETTINGS[method])
    specs = scorer.specs(POOL, TARGET)
    assert set(specs) == ({"model", "scorer_model"} if method == "pds" else {"model"})
    survived = {k: ModelSpec(**json.loads(json.dumps(asdict(v)))) for k, v in specs.items()}
    found = scorer.estimate_from_specs(POOL, TARGET, survived)
    assert found == scorer.estimate(POOL, TARGET)
    assert found.flops > 0
    assert specs["model"].added("chat") >= specs["model"].added("text") > 0


def test_a_spec_by_hand_is_that_of_the_model_saved(tiny_model):
    scorer = registry.find("scorers", "pds")(model=str(tiny_model), **SETTINGS["pds"])
    for name, spec in scorer.specs(POOL, TARGET).items():
        made = tiny_llama(spec.vocab, headed=name == "model")
        # the data scorer reads turns as plain text: BOS and EOS instead of the chat template
        added = made.overhead if name == "model" else (("chat", 2),)
        assert replace(made, name=spec.name, overhead=added) == spec


WITHOUT = """
import importlib.abc, json, sys

REFUSED = {"torch", "transformers", "tokenizers", "safetensors", "sentence_transformers", "peft"}

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is asked for")

sys.meta_path.insert(0, Refuse())
from didact.accounting.spec import ModelSpec
from didact.core import registry
from didact.core.pool import PoolStats

cases, stats, specs = json.loads(sys.stdin.read())
pool, target = (PoolStats(**s) for s in stats)
specs = {name: ModelSpec(**spec) for name, spec in specs.items()}
found = {}
for method, settings in cases.items():
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    scorer = registry.find("scorers", method)(model="/no/such/folder", **settings)
    cost = scorer.estimate_from_specs(pool, target, specs)
    found[method] = [cost.flops, cost.tokens]
print(json.dumps(found))
"""


def test_no_file_and_no_library_of_models_is_needed(tmp_path: Path):
    stats = [asdict(POOL), asdict(TARGET)]
    specs = {name: asdict(spec) for name, spec in BY_HAND.items()}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], input=json.dumps([SETTINGS, stats, specs]), cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for method, settings in SETTINGS.items():
        scorer = registry.find("scorers", method)(model="/no/such/folder", **settings)
        cost = scorer.estimate_from_specs(POOL, TARGET, BY_HAND)
        assert found[method] == [cost.flops, cost.tokens]


def test_every_scorer_with_a_model_estimates_from_specs():
    for name in registry.known("scorers"):
        method = registry.find("scorers", name)
        if name in SETTINGS:
            assert {"specs", "estimate_from_specs"} <= set(dir(method))
        elif name not in {"static_embedding", "ngram_perplexity", "classifier", "learned_grade"}:
            # the first two have no FLOPs, and the others have no model unless they are given one
            assert not hasattr(method, "model"), name


def test_a_context_that_is_not_known_cuts_nothing():
    short, long = (replace(BY_HAND["model"], context=n) for n in (30, 10**6))
    unknown = replace(long, context=0)
    for method in ("perplexity", "ifd", "rds", "embedding", "less"):
        scorer = registry.find("scorers", method)(model="m", max_length=None)
        costs = [
            scorer.estimate_from_specs(POOL, TARGET, {"model": s}) for s in (short, long, unknown)
        ]
        assert costs[1] == costs[2]
        assert costs[0] != costs[1]


def test_less_takes_its_adapters_from_the_spec():
    less = registry.find("scorers", "less")
    narrow, wide = (less(model="m", rank=rank, share=1e-9, epochs=1) for rank in (1, 2))
    costs = [s.estimate_from_specs(POOL, None, BY_HAND).flops for s in (narrow, wide)]
    one = lora_spec(BY_HAND["model"], rank=1)
    tokens = narrow.executed(POOL, BY_HAND["model"])[0].tokens
    first = sum(d_in * n for _, d_in, n in one.first)
    assert costs[1] - costs[0] == pytest.approx(
        2 * tokens * (3 * one.n_params - first) + 2 * one.n_params * POOL.n
    )


def test_settings_are_checked_against_the_spec():
    lqs = registry.find("scorers", "lqs")(model="m", proxy=1000)
    with pytest.raises(ConfigError, match="proxy=1000: the pool has 90 samples"):
        lqs.estimate_from_specs(POOL, TARGET, BY_HAND)
    perplexity = registry.find("scorers", "perplexity")(model="m", window=300)
    with pytest.raises(ConfigError, match="window=300: m reads at most 256 tokens"):
        perplexity.estimate_from_specs(POOL, None, BY_HAND)


DESCRIBED_POOL = stats_from_counts(300_000, 350)
DESCRIBED_TARGET = stats_from_counts(500, 150, tasks=3)


@pytest.mark.parametrize("model", ["llama-2-7b", "Qwen2.5-0.5B", "gpt2", "7B", "350M"])
@pytest.mark.parametrize("method", SETTINGS)
def test_models_by_name_or_size_and_a_pool_by_counts(method, model):
    scorer = registry.find("scorers", method)(model=model)
    spec = described("gtr-t5-base" if method == "embedding" else model).spec
    specs = {"model": spec, "scorer_model": described("110M", encoder=True).spec}
    cost = scorer.estimate_from_specs(DESCRIBED_POOL, DESCRIBED_TARGET, specs)
    forward = forward_flops_2nd(spec.n_matmul, DESCRIBED_POOL.n_tokens)
    # PDS and LQS annotate 16,384 samples; LESS takes four gradients of every one.
    least, most = {"less": (8, 15), "pds": (0.1, 200), "lqs": (0.1, 200)}.get(method, (0.5, 4))
    assert least * forward < cost.flops < most * forward
    assert cost.tokens > 0


@pytest.mark.parametrize("method", ["rds", "embedding", "pds"])
def test_a_head_that_is_not_used_does_not_count(method):
    spec = described("Qwen3-0.6B").spec
    scorer = registry.find("scorers", method)(model="m")
    costs = [
        scorer.estimate_from_specs(
            DESCRIBED_POOL, DESCRIBED_TARGET, {"model": judge, "scorer_model": each}
        )
        for each in (spec, headless(spec))
        for judge in [spec if method == "pds" else each]
    ]
    assert costs[0] == costs[1]


@pytest.mark.skipif(not worth_counting("zlib", 9, 10**9), reason="nothing to count with here")
def test_compression_that_is_counted_is_foretold_as_such():
    def seconds(n_bytes, **settings):
        pool = replace(POOL, n_bytes=n_bytes)
        return registry.find("scorers", "compression")(**settings).estimate(pool, None).cpu_seconds

    assert seconds(10**8) == pytest.approx(3.8)
    assert seconds(10**10) == pytest.approx(380 * 0.59 + 0.6, rel=0.01)  # with reading, 2 ns a byte
    assert seconds(10**10, level=8) == pytest.approx(380)
