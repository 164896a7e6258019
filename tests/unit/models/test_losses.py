from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.nn import functional  # noqa: E402

from didact.models.batches import Batch, collate  # noqa: E402
from didact.models.losses import causal_losses, sample_losses, token_nll  # noqa: E402
from didact.models.tokens import Tokens  # noqa: E402

VOCAB = 23
# Sums of a few hundred float64 products of order 1, in tensors of another shape.
SAME = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(scope="module", params=["Llama", "GPT2"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(3)
    sizes = {
        "Llama": {
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.3,
        },
        "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    }[request.param]  # fmt: skip
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=VOCAB, bos_token_id=0, eos_token_id=0, **sizes
    )
    return transformers.AutoModelForCausalLM.from_config(config).double().eval()


def samples(lengths: list[int], prompt: int = 2) -> Tokens:
    random = np.random.default_rng(1)
    ids = random.integers(1, VOCAB, sum(lengths)).astype(np.int32)
    weights = np.concatenate([[0.0] * min(prompt, n) + [1.0] * (n - prompt) for n in lengths])
    offsets = np.cumsum([0, *lengths])
    n = len(lengths)
    empty = np.zeros(n, np.int64)
    return Tokens(ids, weights.astype(np.float32), offsets, empty, empty.astype(bool))


def batch_of(tokens: Tokens, rows: list[int]) -> Batch:
    return collate(tokens, np.asarray(rows), pad_id=0, device="cpu")


def reference(model: Any, tokens: Tokens, row: int) -> float:
    """The loss transformers itself computes of one sample, unpadded."""
    place = slice(tokens.offsets[row], tokens.offsets[row + 1])
    ids = torch.from_numpy(tokens.ids[place].astype(np.int64))[None]
    labels = ids.masked_fill(torch.from_numpy(tokens.weights[place] == 0)[None], -100)
    with torch.no_grad():
        return float(model(input_ids=ids, labels=labels).loss)


def test_losses_are_those_of_transformers(model):
    tokens = samples([9, 4, 17, 3, 30])
    with torch.no_grad():
        found = causal_losses(model, batch_of(tokens, [4, 0, 3, 2, 1]))
    expected = [reference(model, tokens, row) for row in (4, 0, 3, 2, 1)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)  # theirs is float32


def test_weights_are_weights_of_a_mean(model):
    tokens = samples([12, 8])
    tokens.weights[5:9] = 0.25
    batch = batch_of(tokens, [0, 1])
    with torch.no_grad():
        logits = model(**batch.inputs).logits
    nll = token_nll(logits, batch)
    w = torch.from_numpy(tokens.weights[:12].astype(np.float64))
    expected = float((nll[0, :12] * w).sum() / w.sum())
    np.testing.assert_allclose(sample_losses(logits, batch)[0].item(), expected, **SAME)
    assert abs(expected - float(nll[0, :12][w > 0].mean())) > 1e-3  # and the weights matter


def test_every_token_has_its_own_nll_and_others_none(model):
    tokens = samples([7, 5])
    batch = batch_of(tokens, [0, 1])
    with torch.no_grad():
        logits = model(**batch.inputs).logits
    found = token_nll(logits, batch)
    assert found.shape == (2, 7)
    logs = functional.log_softmax(logits, -1)
    for row, length in ((0, 7), (1, 5)):
        for t in range(7):
            if 2 <= t < length:
                expected = -logs[row, t - 1, batch.input_ids[row, t]].item()
                np.testing.assert_allclose(found[row, t].item(), expected, **SAME)
            else:
                assert found[row, t] == 0


def test_softmax_of_a_bfloat16_model_is_float32():
    tokens = samples([6])
    batch = batch_of(tokens, [0])
    logits = torch.randn(1, 6, VOCAB, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = sample_losses(logits, batch)
    assert found.dtype == torch.float32
    expected = functional.cross_entropy(logits[0, 1:5].double(), batch.input_ids[0, 2:])
    # float32 rounding of a mean of four numbers near 3; bfloat16 would be off by some 1e-2.
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_gradients_pass_through_counted_tokens_alone(model):
    tokens = samples([8, 5])
    batch = batch_of(tokens, [0, 1])
    logits = torch.randn(2, 8, VOCAB, dtype=torch.float64, requires_grad=True)
    sample_losses(logits, batch).sum().backward()
    moved = logits.grad.abs().sum(-1) > 0
    assert moved.tolist() == [[1 <= t < 7 for t in range(8)], [1 <= t < 4 for t in range(8)]]
