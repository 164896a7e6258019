"""Dropout by sample: its law, and that no split into batches or padding changes it."""
# ruff: noqa: E402 - what needs torch is imported where it is there

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional

from didact.core.errors import ConfigError
from didact.core.protocols import Context
from didact.execution.executors import serial
from didact.models.encode import Encoding, encode
from didact.models.language_model import open_tokenizer
from didact.training.causal import train
from didact.training.dropout import SampleDropout, sample_keys
from didact.training.regression import RegressionSettings, fit_regression
from didact.training.settings import Seeds, TrainSettings

KEYS = sample_keys(3, 7, np.arange(6))


def dropped(keys, x, p=0.25):
    with SampleDropout(keys):
        return functional.dropout(x, p), torch.nn.Dropout(p)(x)


def test_a_share_of_p_is_dropped_and_the_rest_divided_by_its_complement():
    first, second = dropped(KEYS, torch.ones(6, 100, 200))
    for found in (first, second):
        assert sorted(set(found.flatten().tolist())) == pytest.approx([0, 4 / 3])
        # 120,000 draws: four standard deviations are 0.005
        assert (found == 0).double().mean().item() == pytest.approx(0.25, abs=0.005)
    both = ((first == 0) & (second == 0)).double().mean().item()
    assert both == pytest.approx(0.0625, abs=0.003)  # layers are independent
    neighbors = (first[:, :-1] == 0) & (first[:, 1:] == 0)
    assert neighbors.double().mean().item() == pytest.approx(0.0625, abs=0.003)
    assert ((first[0] == 0) & (first[1] == 0)).double().mean().item() == pytest.approx(
        0.0625, abs=0.008
    )


def test_a_sample_is_dropped_alike_alone_padded_and_among_others():
    x = torch.randn(6, 4, 9, 8)
    whole = dropped(KEYS, x)
    for rows, length in (([4], 9), ([5, 0], 9), ([1, 3, 2], 5)):
        part = dropped(KEYS[rows], x[rows, :, :length])
        for found, wanted in zip(part, whole, strict=True):
            assert torch.equal(found, wanted[rows, :, :length])
    flat = dropped(KEYS, x.flatten(0, 1))
    assert torch.equal(flat[0].reshape(x.shape), whole[0])


def test_seed_and_step_and_sample_draw_anew():
    keys = [sample_keys(s, t, np.arange(3)) for s in (0, 1) for t in (0, 1)]
    assert len(set(torch.cat(keys).tolist())) == 12
    assert torch.equal(sample_keys(3, 7, np.array([5, 2])), KEYS[[5, 2]])


def test_without_training_or_probability_nothing_is_dropped():
    x, state = torch.randn(6, 3), torch.get_rng_state()
    with SampleDropout(KEYS):
        assert torch.equal(functional.dropout(x, 0.5, training=False), x)
        assert torch.equal(functional.dropout(x, 0.0), x)
        functional.dropout(x, 0.5)
    assert torch.equal(torch.get_rng_state(), state)


# torch takes a mask or `is_causal`
@pytest.mark.parametrize(
    ("more", "mask"),
    [
        ({"is_causal": True}, None),
        *product(({"enable_gqa": True}, {"scale": 0.3}, {}), (None, "bool", "float")),
    ],
)
def test_attention_is_torchs_with_weights_dropped_by_sample(more, mask):
    q = torch.randn(6, 4, 5, 8, dtype=torch.float64)
    k, v = torch.randn(2, 6, 2 if more.get("enable_gqa") else 4, 5, 8, dtype=torch.float64)
    inside = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    if mask:
        more = {
            **more,
            "attn_mask": inside if mask == "bool" else torch.where(inside, 0.0, -1e9).double(),
        }
    wanted = functional.scaled_dot_product_attention(q, k, v, **more)
    with SampleDropout(KEYS):
        tiny = functional.scaled_dot_product_attention(q, k, v, dropout_p=1e-12, **more)
        half = functional.scaled_dot_product_attention(q, k, v, dropout_p=0.5, **more)
    torch.testing.assert_close(tiny, wanted, rtol=1e-9, atol=1e-9)
    with SampleDropout(KEYS[[3]]):
        functional.dropout(q[[3]], 0.5)  # the first of the pass, as above
        alone = functional.scaled_dot_product_attention(
            q[[3]], k[[3]], v[[3]], dropout_p=0.5, **more
        )
    torch.testing.assert_close(alone, half[[3]])
    assert not torch.allclose(half, wanted)


def test_what_is_not_laid_out_by_samples_is_refused():
    with SampleDropout(KEYS), pytest.raises(ConfigError, match="7 rows of 6 samples"):
        functional.dropout(torch.ones(7, 2), 0.5)


def test_micro_batches_are_no_seed_of_a_training(sums, tiny, tmp_path):
    """A GPT-2 with its own dropout of embeddings, attention and layers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = open_tokenizer(tiny)
    tokenizer.save_pretrained(tmp_path / "gpt2")
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 4}
    GPT2LMHeadModel(GPT2Config(**sizes, n_positions=128)).save_pretrained(tmp_path / "gpt2")

    def losses(tokens_per_batch, seed=0):
        settings = TrainSettings(
            batch_size=8, learning_rate=3e-3, device="cpu", max_length=96, dtype="float64",
            tokens_per_batch=tokens_per_batch,
        )  # fmt: skip
        out = tmp_path / f"{tokens_per_batch}-{seed}"
        done = train(sums, np.arange(40), tmp_path / "gpt2", out, settings, seeds=Seeds(init=seed))
        return np.asarray([[step.loss, step.grad_norm] for step in done.steps])

    whole = losses(1000)
    np.testing.assert_allclose(losses(1), whole, rtol=1e-6)
    assert np.abs(losses(1000, seed=1) / whole - 1).max() > 1e-3


def test_tokens_per_batch_is_no_seed_of_a_data_scorer(sums, tiny, tmp_path):
    from transformers import BertConfig, BertModel

    tokenizer = open_tokenizer(tiny)
    tokenizer.save_pretrained(tmp_path / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "bert")
    how = Encoding(kind="chat", loss="all", max_length=64)
    tokens = encode(sums.read(range(120), ["turns"]).column("turns"), tokenizer, how)
    labels = np.random.default_rng(0).normal(size=120)
    found = []
    for tokens_per_batch in (64, 4096):
        settings = RegressionSettings(
            epochs=2, batch_size=16, learning_rate=3e-3, dtype="float64",
            tokens_per_batch=tokens_per_batch,
        )  # fmt: skip
        ctx = Context(executor=serial(), seed=0, cache_dir=tmp_path / "cache")
        done = fit_regression(tmp_path / "bert", tokens, labels, settings, ctx=ctx)
        found.append([[epoch.train_mse, epoch.dev_mse] for epoch in done.epochs])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
