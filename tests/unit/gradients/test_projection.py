from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from didact.core.hashing import mix  # noqa: E402
from didact.gradients.projection import Rademacher, signs  # noqa: E402

LIKE = torch.zeros(1, dtype=torch.float64)


def test_entries_are_bits_of_a_hash_of_their_place():
    key, dimension = 12345, 128
    found = signs(key, 7, 3, dimension, like=LIKE)
    for row in range(3):
        for word in range(2):
            place = np.array([(7 + row) * 2 + word + key], np.uint64)
            octets = mix(place).astype("<u8").view(np.uint8)
            bits = np.unpackbits(octets, bitorder="little").astype(float) * 2 - 1
            assert found[row, word * 64 : word * 64 + 64].tolist() == bits.tolist()


def test_the_matrix_is_the_same_whatever_the_block():
    whole = signs(99, 0, 40, 256, like=LIKE)
    parts = [signs(99, start, 8, 256, like=LIKE) for start in range(0, 40, 8)]
    assert torch.equal(whole, torch.cat(parts))


def test_signs_are_even_and_independent():
    found = signs(-3, 0, 2048, 256, like=LIKE)
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    assert abs(found.mean()) < 5 / np.sqrt(found.numel())  # five standard deviations
    gram = found.T @ found / len(found)
    off = gram - torch.eye(256, dtype=torch.float64)
    assert off.abs().max() < 6 / np.sqrt(len(found))  # six: 32,640 pairs


def test_inner_products_are_estimated_without_bias():
    rng = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 300, generator=rng, dtype=torch.float64)
    b = b + a  # not orthogonal
    estimates = []
    for seed in range(200):
        both = Rademacher(64, seed).project(torch.stack([a, b]).reshape(2, 20, 15), "w")
        estimates.append(float(both[0] @ both[1]))
    exact, scale = float(a @ b), float(a.norm() * b.norm()) / np.sqrt(64)
    assert abs(np.mean(estimates) - exact) < 4 * scale / np.sqrt(200)
    assert 0.7 * scale < np.std(estimates) < 1.5 * scale  # variance (‖a‖²‖b‖² + ⟨a,b⟩²) / d


def test_parameters_and_seeds_have_matrices_of_their_own():
    tile = torch.ones(1, 64, dtype=torch.float64)
    found = [
        Rademacher(64, seed).project(tile, name) for seed, name in ((0, "a"), (0, "b"), (1, "a"))
    ]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
