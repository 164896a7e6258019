"""The adjoint of inner training on a tiny transformer, against differences and other algebra."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from didact.accounting.segments import segments  # noqa: E402
from didact.accounting.spec import ModelSpec  # noqa: E402
from didact.core.cost import Bill  # noqa: E402
from didact.core.errors import ConfigError, DataError  # noqa: E402
from didact.core.keep import keep  # noqa: E402
from didact.core.pieces import Pieces  # noqa: E402
from didact.core.protocols import Context  # noqa: E402
from didact.execution.executors import serial  # noqa: E402
from didact.gradients.adjoint import (  # noqa: E402
    Adjoint,
    read_adjoint,
    run_adjoint,
    save_adjoint,
)
from didact.gradients.inner_batches import drawn_rows, inner_batches  # noqa: E402
from didact.gradients.inner_training import InnerSettings, run_inner  # noqa: E402
from didact.gradients.language_problem import LanguageProblem  # noqa: E402
from didact.gradients.parameters import (  # noqa: E402
    lambda_path,
    load,
    norm,
    parameters_of,
    theta_path,
)
from didact.gradients.products import ProductKernel  # noqa: E402
from didact.models.batches import collate  # noqa: E402
from didact.models.language_model import LanguageModel, open_model  # noqa: E402
from didact.models.losses import causal_losses  # noqa: E402
from didact.models.tokens import Tokens  # noqa: E402

ETA = 0.1


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small are faster on one, beside other tests
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def gpt2(tiny_model, tmp_path_factory):
    """A tiny GPT-2: unlike Llama it computes in float64 throughout when asked to."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("tiny-gpt2")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=64,
        initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model(gpt2):
    with open_model(gpt2, device="cpu", dtype="float64", attention="eager") as model:
        yield model


def some_tokens(n, seed, *, length=(5, 12)) -> Tokens:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(*length, n)
    weights = [np.r_[0.0, 0.0, rng.uniform(0.5, 2, s - 2)] for s in lengths]
    return Tokens(
        ids=rng.integers(0, 250, lengths.sum()).astype(np.int32),
        weights=np.concatenate(weights).astype(np.float32),
        offsets=np.r_[0, lengths.cumsum()],
        n_bytes=lengths,
        truncated=np.zeros(n, bool),
    )


def problem_of(model: LanguageModel, steps: int, **more) -> LanguageProblem:
    batches = [some_tokens(3, 10 + t) for t in range(steps)]
    given = {"tokens_per_batch": 24, "charge": lambda cost: None, **more}
    return LanguageProblem(model, batches, some_tokens(4, 1), **given)


def run(model, cache, steps, *, dies_after=None, **more) -> tuple[Adjoint, Bill]:
    """The adjoint, kept in a cache, and what it cost; it may die after so many passes.

    A gradient or product of a batch, or of the target, is one pass.
    """
    quiet = {"forward": lambda done: None, "backward": lambda done: None}
    asked = {"visited": range(steps), **quiet, **more}
    ctx = Context(executor=serial(), seed=0, cache_dir=cache)

    def make(work):
        passes = 0

        def charge(cost):
            nonlocal passes
            work.meter.add(cost)
            passes += 1
            if passes == dies_after:
                raise Killed

        problem = problem_of(model, steps, tokens_per_batch=9999, charge=charge)
        start = parameters_of(model)
        return run_adjoint(problem, start, InnerSettings(steps, ETA), work.pieces, **asked), {}

    found = keep(
        ctx, "adjoints", [steps, list(asked["visited"])], make,
        save=lambda made, folder: save_adjoint(*made, folder), load=read_adjoint,
    )  # fmt: skip
    return found, ctx.meter.bill


class Killed(Exception):  # noqa: N818 - not an error
    pass


def test_influence_is_minus_the_derivative_of_the_targets_loss(model, tmp_path):
    steps, samples = 5, some_tokens(3, 99)
    problem = problem_of(model, steps)
    folder = run(model, tmp_path, steps)[0].folder
    found = torch.zeros(len(samples), dtype=torch.float64)
    batch = collate(samples, np.arange(len(samples)), pad_id=0, device="cpu")
    own = dict(model.module.named_parameters())
    for t in range(steps):
        with torch.no_grad():
            for name, value in load(theta_path(folder, t)).items():
                own[name].copy_(value)
        direction = {k: v[None] for k, v in load(lambda_path(folder, t + 1)).items()}
        with ProductKernel(model.module) as kernel:
            found += ETA * kernel.products(batch, direction, losses=causal_losses).dots[:, 0]

    # Each sample twice: the mean is its own loss.
    one = [samples.take([row, row]) for row in range(len(samples))]
    start = load(theta_path(folder, 0))

    def area(sample, epsilon):
        theta, total = start, 0.0
        for t in range(steps):
            _, g = problem.train_gradient(theta, t)
            own = LanguageProblem(
                model, [], one[sample], tokens_per_batch=24, charge=lambda cost: None
            )
            _, more = own.target_gradient(theta)
            theta = {k: v - ETA * (g[k] + epsilon * more[k]) for k, v in theta.items()}
            total += problem.target_gradient(theta)[0]
        return total

    for sample in range(len(samples)):
        difference = -(area(sample, 1e-5) - area(sample, -1e-5)) / 2e-5
        # Rounding of A divided by ε and the third derivative times ε² are both below 1e-8.
        assert float(found[sample]) == pytest.approx(difference, rel=1e-5)


def test_hvp_is_symmetric_and_equal_to_double_backward(model):
    problem = problem_of(model, 1)
    theta = parameters_of(model)
    generator = torch.Generator().manual_seed(3)
    u, v = (
        {k: torch.randn(p.shape, generator=generator, dtype=p.dtype) for k, p in theta.items()}
        for _ in range(2)
    )
    hu, hv = problem.hvp(theta, 0, u), problem.hvp(theta, 0, v)
    inner = {"a": sum((u[k] * hv[k]).sum() for k in u), "b": sum((v[k] * hu[k]).sum() for k in u)}
    assert float(inner["a"]) == pytest.approx(float(inner["b"]), rel=1e-10)  # float64 sums
    for name, value in _double_backward(model.module, v).items():
        assert torch.allclose(hv[name], value, rtol=1e-9, atol=1e-11)  # float64 sums


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Gemma2"])
def test_hvp_of_other_architectures(family):
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=256, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, initializer_range=0.1,
        tie_word_embeddings=family == "Gemma2",
    )  # fmt: skip
    torch.manual_seed(0)
    kind = getattr(transformers, f"{family}ForCausalLM")
    module = kind._from_config(config, attn_implementation="eager").eval()
    spec = ModelSpec("tiny", (), 256, 16, 2, 16, 0, 0, tied=False)  # only cost depends on it
    model = LanguageModel(module, None, spec, torch.device("cpu"), "float32", 64, 0)
    theta = parameters_of(model)
    v = {k: torch.ones_like(p) for k, p in theta.items()}
    found = problem_of(model, 1).hvp(theta, 0, v)
    expected = _double_backward(module, v)
    error = norm({k: found[k] - value for k, value in expected.items()})
    assert error < 1e-5 * norm(expected)  # float32; measured 6e-7


def _double_backward(module, v):
    """The Hessian of problem_of's first batch times v, as the gradient of ⟨gradient, v⟩."""
    tokens = some_tokens(3, 10)
    batch = collate(tokens, np.arange(3), pad_id=0, device="cpu")
    named = dict(module.named_parameters())
    losses = causal_losses(module, batch).mean()
    first = torch.autograd.grad(losses, list(named.values()), create_graph=True)
    product = sum((g * v[k]).sum() for k, g in zip(named, first, strict=True))
    second = torch.autograd.grad(
        product, list(named.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(named, second, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_difference_is_close_to_the_exact_product(gpt2, dtype):
    with open_model(gpt2, device="cpu", dtype=dtype, attention="eager") as model:
        theta = parameters_of(model)
        _, v = problem_of(model, 1).target_gradient(theta)
        exact = problem_of(model, 1).hvp(theta, 0, v)
        about = problem_of(model, 1, hvp="finite_difference").hvp(theta, 0, v)
        error = norm({k: about[k] - exact[k] for k in exact})
        # Measured: 3e-5 in float64 (the fourth derivative), 1.4e-4 in float32 (rounding).
        assert error < (1e-4 if dtype == "float64" else 1e-3) * norm(exact)


def test_micro_batches_change_rounding_alone(model):
    theta = parameters_of(model)
    small, large = (
        problem_of(model, 1, tokens_per_batch=8),
        problem_of(model, 1, tokens_per_batch=999),
    )
    found = small.hvp(theta, 0, theta)
    for name, value in large.hvp(theta, 0, theta).items():
        assert torch.allclose(found[name], value, rtol=1e-9, atol=1e-12)
    (a, g), (b, h) = small.target_gradient(theta), large.target_gradient(theta)
    assert a == pytest.approx(b, rel=1e-12)
    assert all(torch.allclose(g[k], h[k], rtol=1e-9, atol=1e-12) for k in g)


def test_flops_are_those_that_torch_counts(model, tmp_path):
    with FlopCounterMode(display=False) as counter:
        _, bill = run(model, tmp_path, 4)
    assert (bill.charged.flops, bill.charged.tokens) == (bill.value.flops, bill.value.tokens)
    assert bill.charged.flops == pytest.approx(counter.get_total_flops(), rel=1e-12)
    # Each step's batch once going forward, the first segment's first step again going back, three
    # products; the target four times, and once more before all steps.
    batches = [int(some_tokens(3, 10 + t).offsets[-1]) for t in range(4)]
    target = int(some_tokens(4, 1).offsets[-1])
    assert bill.charged.tokens == sum(batches) + batches[0] + sum(batches[1:]) + 5 * target


def test_an_interrupted_run_goes_on_where_it_was(model, tmp_path):
    steps = 9
    whole, all_of_it = run(model, tmp_path / "whole", steps, visited=(0, 4))

    def dies_at(when):
        def watch(done):
            if done == when:
                raise Killed

        return watch

    cache = tmp_path / "parts"
    stops = [{"forward": dies_at(5)}, {"backward": dies_at(2)}, {"backward": dies_at(5)}]
    left = []
    for stop in stops:
        with pytest.raises(Killed):
            run(model, cache, steps, visited=(0, 4), **stop)
        assert not list(cache.glob("adjoints/*"))
        left.append({p.name for p in cache.glob("unfinished/adjoints-*/*")})
    assert left[0] < left[1] < left[2]
    again, rest = run(model, cache, steps, visited=(0, 4))
    assert rest.charged.flops < 0.6 * all_of_it.charged.flops
    _same(again, rest, whole, all_of_it)
    found, nothing = run(model, cache, steps, visited=(0, 4))
    assert found == again
    assert (nothing.charged.flops, nothing.charged.tokens) == (0, 0)
    assert nothing.value.flops == all_of_it.value.flops


@pytest.mark.parametrize("passes", [3, 9, 10, 11, 17, 18, 27, 31])
def test_wherever_it_is_interrupted_bytes_and_value_are_the_same(model, tmp_path, passes):
    """9 steps forward in segments of 3, the target's loss, then back: 31 passes."""
    whole, all_of_it = run(model, tmp_path / "whole", 9, visited=(0, 4), theta_only=(9,))
    with pytest.raises(Killed):
        run(model, tmp_path / "parts", 9, visited=(0, 4), theta_only=(9,), dies_after=passes)
    again, rest = run(model, tmp_path / "parts", 9, visited=(0, 4), theta_only=(9,))
    _same(again, rest, whole, all_of_it)
    assert rest.charged.flops <= rest.value.flops


@pytest.mark.parametrize(
    "piece", ["forward-000000", "forward-000003", "target-before", "backward-000006"]
)
def test_a_damaged_piece_is_made_again(model, tmp_path, piece):
    whole, all_of_it = run(model, tmp_path / "whole", 9, visited=(0, 4))
    with pytest.raises(Killed):
        run(model, tmp_path / "parts", 9, visited=(0, 4), dies_after=18)  # one segment back is done
    (folder,) = tmp_path.glob(f"parts/unfinished/adjoints-*/{piece}")
    for file in [*folder.glob("*.safetensors"), *folder.glob("loss.json")]:
        file.write_bytes(file.read_bytes()[:-1])
    again, rest = run(model, tmp_path / "parts", 9, visited=(0, 4))
    _same(again, rest, whole, all_of_it)


def _same(again: Adjoint, rest: Bill, whole: Adjoint, all_of_it: Bill) -> None:
    """An adjoint that was interrupted, and one that was not: their bytes and their value."""
    assert again.train_losses == whole.train_losses
    assert again.target_losses == whole.target_losses
    assert again.target_loss_before == whole.target_loss_before
    assert rest.value.flops == all_of_it.value.flops == all_of_it.charged.flops
    assert rest.value.tokens == all_of_it.value.tokens
    names = sorted(p.name for p in whole.folder.iterdir())
    last = ["theta-000009.safetensors"] if len(names) == 7 else []
    assert names == [
        "adjoint.json", "entry.json", "lambda-000001.safetensors", "lambda-000005.safetensors",
        "theta-000000.safetensors", "theta-000004.safetensors", *last,
    ]  # fmt: skip
    assert sorted(p.name for p in again.folder.iterdir()) == names
    for name in set(names) - {"entry.json"}:  # which tells processor time
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_segments_cover_all_steps_once(steps):
    found = segments(steps)
    assert [t for first, stop in found for t in range(first, stop)] == list(range(steps))
    assert len(found) <= steps**0.5 + 2


def test_a_learning_rate_too_large_names_the_step(model, tmp_path):
    with pytest.raises(
        ConfigError, match=r"loss is (nan|inf) at step \d+ of 6; lower learning_rate"
    ):
        run_inner(
            problem_of(model, 6), parameters_of(model), InnerSettings(6, 1e200), Pieces(tmp_path),
            lambda done: None,
        )  # fmt: skip


def test_a_bfloat16_model_is_trained_in_float32(gpt2, tmp_path):
    with open_model(gpt2, device="cpu", dtype="bfloat16", attention="eager") as model:
        half = run(model, tmp_path / "16", 3)[0].folder
        lam, last = load(lambda_path(half, 1)), load(theta_path(half, 2))
    assert {v.dtype for v in (*lam.values(), *last.values())} == {torch.float32}
    with open_model(gpt2, device="cpu", dtype="float32", attention="eager") as model:
        full = run(model, tmp_path / "32", 3)[0].folder
    exact = load(lambda_path(full, 1))
    # bfloat16 has eight bits; the sum over three target gradients keeps about six of them.
    assert norm({k: lam[k] - exact[k] for k in exact}) < 0.05 * norm(exact)


# -- batches ---------------------------------------------------------------------------------------


def encoder(everything: Tokens):
    def encoded(rows):
        parts = [
            everything.ids[everything.offsets[r] : everything.offsets[r + 1]] for r in rows.tolist()
        ]
        lengths = [len(p) for p in parts]
        return Tokens(
            ids=np.concatenate(parts), weights=np.ones(sum(lengths), np.float32),
            offsets=np.cumsum([0, *lengths]), n_bytes=np.asarray(lengths),
            truncated=np.zeros(len(parts), bool),
            missing={i: "row 3 is empty" for i, r in enumerate(rows.tolist()) if r == 3},
        )  # fmt: skip

    return encoded


def test_inner_batches_do_not_depend_on_the_pools_order():
    tokens, hashes = some_tokens(12, 5), np.arange(100, 112, dtype=np.uint64)
    drawn = {"steps": 6, "size": 4, "key": 7}
    rows = np.arange(12)
    found = inner_batches(encoder(tokens), hashes, rows, **drawn)
    other = inner_batches(encoder(tokens), hashes, rows[::-1].copy(), **drawn)
    assert [b.ids.tolist() for b in found] == [b.ids.tolist() for b in other]
    assert {len(b) for b in found} == {4}
    # 24 places for 11 samples with a loss: two of each, and two more.
    empty = tokens.ids[tokens.offsets[3] : tokens.offsets[4]].tolist()
    seen = [s for b in found for s in np.split(b.ids, b.offsets[1:-1])]
    counts = {tuple(s.tolist()): 0 for s in seen}
    for sample in seen:
        counts[tuple(sample.tolist())] += 1
    assert sorted(counts.values()) == [2] * 9 + [3] * 2
    assert tuple(empty) not in counts
    changed = inner_batches(encoder(tokens), hashes, rows, **{**drawn, "key": 8})
    assert [b.ids.tolist() for b in changed] != [b.ids.tolist() for b in found]


def test_a_small_pool_is_a_batch_as_a_whole():
    found = inner_batches(
        encoder(some_tokens(2, 5)),
        np.arange(2, dtype=np.uint64),
        np.arange(2),
        steps=3,
        size=16,
        key=1,
    )
    assert [len(b) for b in found] == [2, 2, 2]


def test_a_pool_without_losses_says_why():
    with pytest.raises(DataError, match="no sample of the pool has a loss .* row 3 is empty"):
        inner_batches(
            encoder(some_tokens(5, 5)), np.arange(5, dtype=np.uint64), np.asarray([3]),
            steps=1, size=1, key=1,
        )  # fmt: skip


def test_draws_are_uniform_and_nested():
    hashes = np.random.default_rng(0).integers(0, 2**63, 4000).astype(np.uint64)
    rows = np.arange(4000)
    small, large = drawn_rows(hashes, rows, 400, 3), drawn_rows(hashes, rows, 1000, 3)
    assert set(small) < set(large)
    assert (np.diff(small) > 0).all()
    assert abs(np.mean(small) / 4000 - 0.5) < 4 * 0.289 / 400**0.5  # four standard errors
