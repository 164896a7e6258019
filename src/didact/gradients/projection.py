"""Random projection of gradients by signs that are computed, never stored."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK_SIGNS = 2**24  # signs at hand at a time: 16 MiB as bytes, a few times that while they mix
_WORD = 64


@dataclass(frozen=True, slots=True)
class Rademacher:
    """A projection to `dimension` numbers with entries ±1/√dimension.

    An entry is one bit of a hash of seed, parameter name, element and word, so every device and
    every run has the same matrix and none holds it.

    Attributes:
        dimension: Count of numbers kept of a gradient; a multiple of 64.
        seed: Seed of the matrix; checkpoints share one, so that their sketches can be compared.

    **Source:** Park et al. 2023 (TRAK, arXiv:2303.14186) project gradients so; the estimate of an
    inner product has standard deviation of about ‖a‖‖b‖/√dimension.
    **Cost:** 2 · elements · dimension FLOPs a sample, and making the signs once per batch.
    """

    dimension: int
    seed: int

    def project(self, tile: Tensor, name: str) -> Tensor:
        """Per-sample gradients `(b, *shape)` of one parameter → their part of `(b, dimension)`."""
        flat = tile.flatten(1)
        out = flat.new_zeros(len(flat), self.dimension)
        key = _key(self.seed, name)
        step = max(1, _BLOCK_SIGNS // self.dimension)
        for start in range(0, flat.shape[1], step):
            block = flat[:, start : start + step]
            out += block @ signs(key, start, block.shape[1], self.dimension, like=flat)
        return out / math.sqrt(self.dimension)


def signs(key: int, start: int, rows: int, dimension: int, *, like: Tensor) -> Tensor:
    """Rows `start` to `start + rows` of the matrix, entries ±1, `(rows, dimension)`."""
    place = torch.arange(start, start + rows, device=like.device)[:, None] * (dimension // _WORD)
    word = place + torch.arange(dimension // _WORD, device=like.device) + key
    octets = mixed(word).view(torch.uint8)
    bits = (octets[..., None] >> torch.arange(8, dtype=torch.uint8, device=like.device)) & 1
    return bits.reshape(rows, dimension).to(like.dtype).mul_(2).sub_(1)


def mixed(x: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele et al. 2014) on int64, whose products wrap."""
    x = (x ^ _shifted(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shifted(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Shift to the right filling with zeros, which int64 does not by itself."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _key(seed: int, name: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
