"""Dropout whose masks belong to the samples, not to the batches they happen to be read in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from didact.core.arrays import Int1D
from didact.core.errors import ConfigError
from didact.core.hashing import mix
from didact.gradients.projection import mixed


def sample_keys(seed: int, step: int, samples: Int1D) -> Tensor:
    """A key for the dropout of each sample, `(b,)` int64.

    Args:
        seed: The training's seed.
        step: Number of the optimizer step.
        samples: What tells samples of a step apart, `(b,)`.
    """
    start = np.asarray([seed, step], np.int64).view(np.uint64)
    key = mix(mix(start[:1]) ^ start[1:])
    return torch.from_numpy(mix(key ^ samples.astype(np.uint64)).view(np.int64))


class SampleDropout(TorchFunctionMode):
    """A block in which a forward pass draws its dropout by sample.

    The entry of a mask is one bit of a hash of the sample's key, the number of the dropout in the
    pass, and the place in the sample. So samples are dropped alike however they are split into
    batches and padded, on every device, and torch's generators are not asked. Every
    `functional.dropout` is replaced, in the model's own layers too, and attention with dropout is
    computed step by step. Not for gradient checkpointing, which runs parts of the pass again.

    Args:
        keys: int64 `(b,)` on the device of the pass; see `sample_keys`. Samples are the outermost
            dimension of what is dropped.

    Raises:
        ConfigError: A layer drops what is not laid out by samples, such as tokens sent to experts.

    **Source:** Srivastava et al. 2014 (JMLR 15): what stays is divided by 1 - p.
    **Cost:** ten integer operations and 24 bytes an entry for a time; attention weights are held.
    """

    def __init__(self, keys: Tensor) -> None:
        super().__init__()
        self.keys, self._calls = keys, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        """Two functions are replaced; all others run as they are."""
        del types
        kwargs = kwargs or {}
        if func is functional.dropout:
            return self._dropout(*args, **kwargs)
        if func is functional.scaled_dot_product_attention and kwargs.get("dropout_p"):
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False  # noqa: FBT001, FBT002
    ) -> Tensor:  # fmt: skip
        del inplace
        if not training or not p:
            return x
        b = len(self.keys)
        if len(x) % b:
            raise ConfigError(
                f"dropout of {p} on {len(x)} rows of {b} samples: masks are drawn by sample; set "
                "the model's dropout to 0 in its config.json, or choose other adapter targets"
            )
        kept = self._kept((b, len(x) // b, *x.shape[1:]) if len(x) > b else x.shape, p)
        return x * kept.reshape(x.shape).to(x.dtype).div_(1 - p)

    def _kept(self, shape: tuple[int, ...], p: float) -> Tensor:
        """Which entries stay: bool of a shape whose first dimension is samples."""
        self._calls += 1
        value = mixed(self.keys + self._calls)
        for size in shape[1:]:
            value = mixed(value[..., None] + torch.arange(size, device=value.device))
        return value >= min(int(p * 2**64) - 2**63, 2**63 - 1)

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
        dropout_p: float = 0.0, is_causal: bool = False,  # noqa: FBT001, FBT002
        scale: float | None = None, enable_gqa: bool = False,  # noqa: FBT001, FBT002
    ) -> Tensor:  # fmt: skip
        """The steps that torch documents for `scaled_dot_product_attention`."""
        if enable_gqa:
            times = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
        logits = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = logits.new_ones(logits.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            logits = logits.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            logits = logits + attn_mask
        wide = torch.promote_types(logits.dtype, torch.float32)
        weights = functional.softmax(logits, -1, dtype=wide).to(value.dtype)
        return self._dropout(weights, dropout_p) @ value
