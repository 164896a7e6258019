"""Low-rank adapters in numbers: the matrices they stand beside, and what a backward pass saves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from didact.accounting.spec import LoraSpec, Matrices, ModelSpec
from didact.core.errors import ConfigError, DataError

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
# Where in a block a matrix stands: 0 reads the block's input, 1 follows the attention, 2 opens the
# feed-forward part, 3 closes it.
_STAGES = (
    (
        0,
        r"(?:[qkv]_proj|qkv_proj|c_attn|query_key_value|query|key|value|Wqkv|SelfAttention\.[qkv])",
    ),
    (2, r"(?:gate_proj|up_proj|gate_up_proj|c_fc|dense_h_to_4h|fc1|intermediate\.dense|wi\w*)"),
    (3, r"(?:mlp\.c_proj|down_proj|dense_4h_to_h|fc2|wo|mlp\.Wo)"),
)


def default_targets(spec: ModelSpec) -> tuple[str, ...]:
    """Names of the modules LoRA adapts by default: attention's q, k, v, o, as LESS has it.

    Where a model calls them otherwise, every matrix inside its layers.

    Raises:
        DataError: There is no matrix inside layers.
    """
    names = {_last(name) for name, *_ in spec.modules}
    if not names:
        raise DataError(f"{spec.name}: no matrix inside numbered layers; give another model")
    return tuple(n for n in _ATTENTION if n in names) or tuple(sorted(names))


def lora_spec(spec: ModelSpec, *, rank: int, targets: Sequence[str] | None = None) -> LoraSpec:
    """The numbers of adapters on the modules called `targets` in every layer.

    A block is taken to be attention, then feed-forward. Where both read its input (GPT-NeoX),
    `n_below` misses the feed-forward part of the first layer.

    Args:
        spec: The model, with its modules.
        rank: Rank of the adapters.
        targets: Last parts of module names, such as `q_proj`; None for `default_targets`.

    Raises:
        ConfigError: No matrix of the model has one of these names.
        DataError: No targets are given and there is no matrix inside layers.
    """
    wanted = default_targets(spec) if targets is None else targets
    adapted = [module for module in spec.modules if _last(module[0]) in wanted]
    unknown = sorted(set(wanted) - {_last(name) for name, *_ in adapted})
    if unknown:
        known = sorted({_last(name) for name, *_ in spec.modules})
        raise ConfigError(
            f"targets {unknown}: {spec.name} has no such modules; its layers have {known}"
        )
    bottom = [(_stage(name), d_out * d_in * n) for name, d_out, d_in, _, n in spec.modules if n]
    begins = [(_stage(name), name, d_out, d_in, n) for name, d_out, d_in, _, n in adapted if n]
    lowest = min((stage for stage, *_ in begins), default=-1)
    # Of attention's products, one each leads to queries, keys and values, and one to the scores.
    need = {part for stage, name, *_ in begins if stage == 0 for part in _parts(name)}
    return LoraSpec(
        rank=rank,
        targets=_counted([(d_out, d_in, n) for _, d_out, d_in, n, _ in adapted]),
        first=_counted([shape for stage, _, *shape in begins if stage == lowest]),
        n_below=sum(weights for stage, weights in bottom if stage <= lowest),
        idle=4 - len(need) - bool(need & {"q", "k"}) if lowest >= 0 else 0,
    )


def _counted(shapes: Sequence[Sequence[int]]) -> Matrices:
    """Matrices `(d_out, d_in, count)`, those of one shape counted together."""
    found: Counter[tuple[int, int]] = Counter()
    for d_out, d_in, n in shapes:
        found[d_out, d_in] += n
    return tuple((d_out, d_in, n) for (d_out, d_in), n in sorted(found.items()))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _parts(name: str) -> str:
    """Letters of what a matrix that reads the block's input makes: queries, keys, values."""
    last = _last(name)
    return last[0] if re.fullmatch(r"[qkv]|[qkv]_proj|query|key|value", last) else "qkv"


def _stage(name: str) -> int:
    return next((s for s, p in _STAGES if re.search(rf"(?:^|\.){p}$", name)), 1)
