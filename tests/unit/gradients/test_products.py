from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from didact.core.errors import ConfigError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch import Tensor, nn  # noqa: E402
from torch.func import functional_call, grad, vmap  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from didact.accounting import algebra  # noqa: E402
from didact.gradients import backward_pass  # noqa: E402
from didact.gradients.products import ProductKernel  # noqa: E402

# transformers 5.2x renames gradient checkpointing; peft still asks by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")

# Sums of at most 1e5 products of float64 numbers of order 1, added in another order.
EXACT = {"rtol": 1e-10, "atol": 1e-12}
VOCAB = 37


@contextmanager
def only(form: str | None) -> Iterator[None]:
    """Every parameter is multiplied in this form where it can give what is wanted."""

    def preferred(*shape: int, **wanted: Any) -> list[algebra.Algebra]:
        return sorted(algebra.algebras(*shape, **wanted), key=lambda each: each.form != form)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backward_pass, "algebras", preferred)
        yield


def products(model: Any, batch: Any, directions: Any, names: Any = None) -> Any:
    with ProductKernel(model, names) as kernel:
        return kernel.products(batch, directions, losses=losses)


@dataclass(frozen=True)
class Batch:
    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    weights: Tensor


def padded(b: int = 4, s: int = 7, seed: int = 0, prompt: int = 2) -> Batch:
    """Samples of lengths s, s - 1, …, weighted losses, none on the first tokens."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCAB, (b, s), generator=random)
    lengths = torch.tensor([max(s - n, 3) for n in range(b)])
    mask = (torch.arange(s) < lengths[:, None]).long()
    ids[:, 3] = ids[:, 0]  # a repeated token, so that summing look-ups after squaring shows
    weights = torch.rand(b, s, generator=random, dtype=torch.float64) * mask
    weights[:, :prompt] = 0
    return Batch(ids * mask, mask, torch.arange(s).expand(b, s).clone(), weights)


def losses(model: Any, batch: Batch) -> Tensor:
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).logits
    nll = functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), batch.input_ids[:, 1:], reduction="none"
    )
    weights = batch.weights[:, 1:].to(nll.dtype)
    return (nll * weights).sum(1) / weights.sum(1)


COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {**COMMON, "tie_word_embeddings": False}),
    "llama-tied": ("LlamaConfig", {**COMMON, "tie_word_embeddings": True}),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": VOCAB, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32,
            "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
            "bos_token_id": 1, "eos_token_id": 2,
        },
    ),
    "qwen2": ("Qwen2Config", {**COMMON, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {**COMMON, "head_dim": 8, "tie_word_embeddings": False}),
    "gemma2": ("Gemma2Config", {**COMMON, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "gemma3": (
        "Gemma3TextConfig",
        {**COMMON, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4},
    ),
    "neox": (
        "GPTNeoXConfig",
        {**{k: v for k, v in COMMON.items() if k != "num_key_value_heads"}, "hidden_dropout": 0.0},
    ),
}  # fmt: skip


def build(family: str, attention: str = "eager", *, double: bool = True) -> Any:
    torch.manual_seed(0)
    name, settings = FAMILIES[family]
    config = getattr(transformers, name)(**settings)
    config._attn_implementation = attention
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    model = model.double() if double else model.float()
    for parameter in model.parameters():  # gains of one and biases of zero hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def adapted(attention: str = "eager") -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=3, lora_alpha=6, lora_dropout=0.1, target_modules=["q_proj", "o_proj", "down_proj"]
    )
    model = peft.get_peft_model(build("llama", attention), config).double()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    return model.eval()


class Losses(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *tensors: Tensor) -> Tensor:
        return losses(self.inner, Batch(*(t[None] for t in tensors)))[0]


def reference(model: Any, batch: Batch, names: list[str]) -> dict[str, Tensor]:
    """Per-sample gradients of every parameter from torch.func."""
    whole = Losses(model)
    parameters = dict(model.named_parameters())

    def loss(chosen: dict[str, Tensor], *tensors: Tensor) -> Tensor:
        return functional_call(whole, {f"inner.{k}": v for k, v in chosen.items()}, tensors)

    tensors = [getattr(batch, field.name) for field in dataclasses.fields(batch)]
    each = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0))
    return each({name: parameters[name].detach() for name in names}, *tensors)


def one_at_a_time(model: Any, batch: Batch, names: list[str]) -> dict[str, Tensor]:
    """The same by plain autograd: transformers' masks for sdpa do not go through vmap."""
    parameters = dict(model.named_parameters())
    each = []
    for n in range(len(batch.input_ids)):
        row = Batch(*(getattr(batch, field.name)[n : n + 1] for field in dataclasses.fields(batch)))
        each.append(torch.autograd.grad(losses(model, row)[0], [parameters[k] for k in names]))
    return {name: torch.stack([g[i] for g in each]) for i, name in enumerate(names)}


def random_directions(model: Any, names: list[str], count: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    parameters = dict(model.named_parameters())
    return {
        name: torch.randn(count, *parameters[name].shape, dtype=torch.float64) for name in names
    }


def adam_like(name: str, tile: Tensor) -> Tensor:
    """Nonlinear, and not zero at zero."""
    first, second = 0.01 * (1 + len(name) % 3), 0.001
    return (first + 0.1 * tile) / (second + 0.001 * tile.square()).sqrt()


def expected(
    gradients: dict[str, Tensor], directions: dict[str, Tensor] | None, transform: Any = None
) -> tuple[Tensor | None, Tensor]:
    if transform is not None:
        gradients = {name: transform(name, g) for name, g in gradients.items()}
    norms = sum(g.flatten(1).square().sum(1) for g in gradients.values())
    if directions is None:
        return None, norms
    dots = sum(g.flatten(1) @ directions[n].flatten(1).t() for n, g in gradients.items())
    return dots, norms


def trainable(model: Any) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad]


@pytest.mark.parametrize("family", [*FAMILIES, "lora"])
def test_equal_to_torch_func(family: str) -> None:
    model = adapted() if family == "lora" else build(family)
    names = trainable(model)
    batch = padded()
    gradients = reference(model, batch, names)
    with ProductKernel(model) as kernel:
        assert list(kernel.parameters) == names
        for count in (1, 3):
            directions = random_directions(model, names, count)
            got = kernel.products(batch, directions, losses=losses)
            dots, norms = expected(gradients, directions)
            torch.testing.assert_close(got.dots, dots, **EXACT)
            torch.testing.assert_close(got.squared_norms, norms, **EXACT)
        got = kernel.products(batch, directions, transform=adam_like, losses=losses)
        dots, norms = expected(gradients, directions, adam_like)
        torch.testing.assert_close(got.dots, dots, **EXACT)
        torch.testing.assert_close(got.squared_norms, norms, **EXACT)
        torch.testing.assert_close(got.losses, losses(model, batch).detach(), **EXACT)


@pytest.mark.parametrize("family", ["llama-tied", "gpt2", "gemma3"])
@pytest.mark.parametrize("form", ["tile", "gram", "dot"])
def test_every_form_gives_the_same(family: str, form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build(family), padded()
    names = trainable(model)
    directions = random_directions(model, names, 2)
    dots, norms = expected(reference(model, batch, names), directions)
    for elements in (2**26, 100):  # the latter: one sample at a time
        monkeypatch.setattr(backward_pass, "_TILE_ELEMENTS", elements)
        with only(form), ProductKernel(model) as kernel:
            got = kernel.products(batch, directions, norms=form != "dot", losses=losses)
        torch.testing.assert_close(got.dots, dots, **EXACT)
        if form != "dot":
            torch.testing.assert_close(got.squared_norms, norms, **EXACT)


@pytest.mark.parametrize("family", ["llama-tied", "gpt2", "qwen3", "lora"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_and_attention(family: str, attention: str, *, reentrant: bool) -> None:
    model = adapted(attention) if family == "lora" else build(family, attention)
    names, batch = trainable(model), padded()
    directions = random_directions(model, names, 1)
    # transformers' eager softmax is float32 also in a float64 model: the reference attends alike.
    each = reference if attention == "eager" else one_at_a_time
    dots, norms = expected(each(model, batch, names), directions, adam_like)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.train()  # transformers checkpoints only then
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with ProductKernel(model) as kernel:
        got = kernel.products(batch, directions, transform=adam_like, losses=losses)
    torch.testing.assert_close(got.dots, dots, **EXACT)
    torch.testing.assert_close(got.squared_norms, norms, **EXACT)


@pytest.mark.parametrize("family", ["llama-tied", "gpt2"])
def test_some_parameters_only(family: str) -> None:
    model, batch = build(family), padded()
    names = [name for name in trainable(model) if "1." in name and "norm" not in name]
    directions = random_directions(model, names[::2], 2)  # the others count as zero
    gradients = reference(model, batch, names)
    dots, _ = expected({name: gradients[name] for name in directions}, directions)
    _, norms = expected(gradients, None)
    required = [p.requires_grad for p in model.parameters()]
    got = products(model, batch, directions, names)
    torch.testing.assert_close(got.dots, dots, **EXACT)
    torch.testing.assert_close(got.squared_norms, norms, **EXACT)
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == required


def test_an_alias_names_a_shared_parameter() -> None:
    model, batch = build("llama-tied"), padded()
    name = "model.embed_tokens.weight"
    directions = random_directions(model, [name], 1)
    dots, norms = expected(reference(model, batch, [name]), directions)
    under_alias = {"lm_head.weight": directions[name]}
    got = products(model, batch, under_alias, ["lm_head.weight"])
    torch.testing.assert_close(got.dots, dots, **EXACT)
    torch.testing.assert_close(got.squared_norms, norms, **EXACT)


@pytest.mark.parametrize("form", ["tile", "gram"])
@pytest.mark.parametrize("prompt", [2, 7])
def test_tokens_without_gradient_at_a_wide_head_are_dropped(
    form: Any, prompt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(algebra, "_HEAD_INPUT", 8)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**COMMON, "hidden_size": 8, "tie_word_embeddings": True})
    model = transformers.LlamaForCausalLM(config).double().eval()
    assert VOCAB > algebra._HEAD_RATIO * 8
    batch = padded(s=12, prompt=prompt)
    batch.weights[1, 5] = 0.3  # samples have different numbers of tokens that count
    names = trainable(model)
    directions = random_directions(model, names, 1)
    dots, norms = expected(reference(build_eager(model), batch, names), directions)
    with only(form), ProductKernel(model) as kernel:
        got = kernel.products(batch, directions, losses=losses)
    torch.testing.assert_close(got.dots, dots, **EXACT)
    torch.testing.assert_close(got.squared_norms, norms, **EXACT)
    with only("tile"), ProductKernel(model, ["lm_head.weight"]) as kernel:
        got = kernel.products(batch, None, losses=losses)
    counted = 12 - prompt  # targets; each is predicted one token earlier
    kept = 12 if counted > 0.75 * 12 else counted
    assert got.flops == 2 * 4 * kept * 8 * VOCAB


def build_eager(model: Any) -> Any:
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("family", ["llama-tied", "gemma2", "lora"])
def test_a_sample_does_not_depend_on_its_neighbors(family: str) -> None:
    model = adapted() if family == "lora" else build(family)
    batch = padded(b=5)
    directions = random_directions(model, trainable(model), 2)
    with ProductKernel(model) as kernel:

        def of(rows: list[int]) -> Any:
            some = Batch(*(getattr(batch, f.name)[rows] for f in dataclasses.fields(batch)))
            return kernel.products(some, directions, losses=losses)

        whole, shuffled = of([0, 1, 2, 3, 4]), of([3, 0, 4])
        single = of([3])
    close = {"rtol": 1e-12, "atol": 1e-14}  # other block sizes of one GEMM, nothing else
    torch.testing.assert_close(whole.dots[[3, 0, 4]], shuffled.dots, **close)
    torch.testing.assert_close(whole.squared_norms[[3, 0, 4]], shuffled.squared_norms, **close)
    torch.testing.assert_close(whole.dots[[3]], single.dots, **close)
    torch.testing.assert_close(whole.squared_norms[[3]], single.squared_norms, **close)


@pytest.mark.parametrize("form", ["tile", "gram", "dot", None])
def test_nan_stays_in_its_sample(form: Any) -> None:
    model, batch = build("llama-tied"), padded()
    directions = random_directions(model, trainable(model), 1)
    norms = form != "dot"
    broken = dataclasses.replace(batch, weights=batch.weights.clone())
    broken.weights[2, 4] = torch.nan
    with only(form), ProductKernel(model) as kernel:
        good = kernel.products(batch, directions, norms=norms, losses=losses)
        got = kernel.products(broken, directions, norms=norms, losses=losses)
    others = [0, 1, 3]
    assert got.losses[2].isnan()
    assert got.dots[2].isnan().all()
    assert torch.equal(got.dots[others], good.dots[others])
    if norms:
        assert got.squared_norms[2].isnan()
        assert torch.equal(got.squared_norms[others], good.squared_norms[others])


# Small modules of our own: everything below is not about transformers.


@dataclass(frozen=True)
class Rows:
    """`input_ids` are features here, and `given` the gradients of the outputs."""

    input_ids: Tensor
    given: Tensor


def weighed(model: Any, batch: Rows) -> Tensor:
    return (model(batch.input_ids) * batch.given).flatten(1).sum(1)


def rows(b: int = 3, s: int = 4, i: int = 5, o: int = 6) -> Rows:
    torch.manual_seed(2)
    return Rows(torch.randn(b, s, i).double(), torch.randn(b, s, o).double())


@pytest.mark.parametrize("form", ["tile", "gram"])
def test_ghost_products_by_hand(form: Any) -> None:
    # W = GᵀX = [[-1, -.25], [5, -1]], worked out by hand
    layer = nn.Linear(2, 2, bias=False).double()
    x = torch.tensor([[[1.0, 2], [0, -1], [3, 0.5]]], dtype=torch.float64)
    g = torch.tensor([[[0.5, -1], [1, 0], [-0.5, 2]]], dtype=torch.float64)
    direction = {"weight": torch.tensor([[[1.0, 0], [2, -1]]], dtype=torch.float64)}
    with only(form), ProductKernel(layer) as kernel:
        got = kernel.products(Rows(x, g), direction, losses=weighed)
        seen = []
        kernel.products(
            Rows(x, g), None, losses=weighed, visitor=lambda name, tile, part: seen.append(tile + 0)
        )
    assert got.dots.tolist() == [[10.0]]
    assert got.squared_norms.tolist() == pytest.approx([27.0625], rel=1e-15)
    assert seen[0].tolist() == [[[-1, -0.25], [5, -1]]]


def test_tiles_on_a_cpu_are_small_unless_somebody_visits_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = nn.Linear(512, 512, bias=False).double()  # 2**18 elements a sample, and 2**22 at most
    batch = rows(40, 3, 512, 512)
    directions, seen = {"weight": torch.randn(2, 512, 512).double()}, []

    def transform(_name: str, tile: Tensor) -> Tensor:
        seen.append(len(tile))
        return tile

    def run(**more: Any) -> Any:
        with ProductKernel(layer) as kernel:
            return kernel.products(batch, directions, transform=transform, losses=weighed, **more)

    small = run()
    assert seen == [16, 16, 8]
    seen.clear()
    run(visitor=lambda name, tile, rows: None)
    assert seen == [40]
    monkeypatch.setattr(backward_pass, "_CACHED_ELEMENTS", 2**26)
    whole = run()
    assert seen == [40, 40]
    torch.testing.assert_close(small.dots, whole.dots, **EXACT)
    torch.testing.assert_close(small.squared_norms, whole.squared_norms, **EXACT)
    assert small.flops == whole.flops


@pytest.mark.parametrize("form", ["tile", "gram"])
def test_embedding_sums_a_token_before_squaring(form: Any) -> None:
    table = nn.Embedding(7, 2).double()
    ids = torch.tensor([[3, 5, 3]])
    g = torch.tensor([[[1.0, 0], [0, 2], [-1, 1]]], dtype=torch.float64)
    with only(form), ProductKernel(table) as kernel:
        assert kernel.products(
            Rows(ids, g), None, losses=weighed
        ).squared_norms.tolist() == pytest.approx([5.0], rel=1e-15)


def test_flops_are_those_that_torch_counts() -> None:
    for family, form in [("llama-tied", "gram"), ("llama", "tile"), ("gpt2", None)]:
        model, batch = build(family), padded(s=12)
        directions = random_directions(model, trainable(model), 2)
        with FlopCounterMode(display=False) as plain:
            model.requires_grad_(True)
            losses(model, batch).sum().backward()
        with only(form), ProductKernel(model) as kernel, FlopCounterMode(display=False) as counter:
            got = kernel.products(batch, directions, losses=losses)
        weights = sum(
            2 * batch.input_ids.numel() * module.weight.numel()
            for module in model.modules()
            if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        )  # a plain backward spends these on weight gradients, ours does not
        assert got.flops == counter.get_total_flops() - (plain.get_total_flops() - weights)


class Twice(nn.Module):
    """One layer used twice, one norm twice, both under checkpoints."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)
        self.norm = nn.RMSNorm(5)
        self.last = nn.Linear(5, 6)
        self.never = nn.Linear(2, 2)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        for _ in range(2):
            x = x + checkpoint(
                lambda h: self.norm(self.layer(h).tanh()), x, use_reentrant=self.reentrant
            )
        return self.last(x)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("transform", [None, adam_like])
def test_a_module_called_twice(transform: Any, *, reentrant: bool) -> None:
    torch.manual_seed(0)
    model, batch = Twice(reentrant=reentrant).double(), rows()
    names = trainable(model)
    directions = random_directions(model, names, 2)
    each = [
        torch.autograd.grad(weighed(Twice_plain(model), row)[0], list(model.parameters()), materialize_grads=True)
        for row in (Rows(batch.input_ids[n : n + 1], batch.given[n : n + 1]) for n in range(3))
    ]  # fmt: skip
    gradients = {name: torch.stack([g[i] for g in each]) for i, name in enumerate(names)}
    dots, norms = expected(gradients, directions, transform)
    calls: list[str] = []

    def count(name: str, tile: Tensor, _part: slice) -> None:
        calls.append(name)

    with ProductKernel(model) as kernel:
        got = kernel.products(
            batch,
            directions,
            transform=transform,
            losses=weighed,
            visitor=count if transform else None,
        )
    torch.testing.assert_close(got.dots, dots, **EXACT)
    torch.testing.assert_close(got.squared_norms, norms, **EXACT)
    if transform:
        assert sorted(calls) == sorted(names)  # one tile each, though it occurs twice


def Twice_plain(model: Twice) -> Any:
    def forward(x: Tensor) -> Tensor:
        for _ in range(2):
            x = x + model.norm(model.layer(x).tanh())
        return model.last(x)

    return forward


def test_flattened_tokens_and_vectors() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 5)
            self.layer = nn.Linear(5, 6)
            self.norm = nn.RMSNorm(6)
            self.pooled = nn.Linear(6, 2)

        def forward(self, ids: Tensor) -> Tensor:
            h = self.norm(self.layer(self.table(ids.flatten())))
            return self.pooled(h.view(*ids.shape, 6).mean(1))

    torch.manual_seed(0)
    model = Flat().double()
    batch = Rows(torch.randint(0, 9, (3, 4)), torch.randn(3, 2).double())
    names = trainable(model)
    with ProductKernel(model) as kernel:
        directions = random_directions(model, names, 2)
        got = kernel.products(batch, directions, losses=weighed)
    each = [
        torch.autograd.grad(
            weighed(model, Rows(batch.input_ids[n : n + 1], batch.given[n : n + 1]))[0],
            list(model.parameters()),
        )
        for n in range(3)
    ]
    gradients = {name: torch.stack([g[i] for g in each]) for i, name in enumerate(names)}
    dots, norms = expected(gradients, directions)
    torch.testing.assert_close(got.dots, dots, **EXACT)
    torch.testing.assert_close(got.squared_norms, norms, **EXACT)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 6)
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


def test_an_unknown_module_is_named() -> None:
    model = nn.Sequential(Odd()).double()
    with pytest.raises(ConfigError, match=r"0 \(Odd\).*scale.*leave them out"):
        ProductKernel(model)
    with pytest.raises(ConfigError, match=r"Bilinear"):
        ProductKernel(nn.Bilinear(2, 2, 2))
    with pytest.raises(ConfigError, match=r"Embedding"):
        ProductKernel(nn.Embedding(4, 2, scale_grad_by_freq=True))
    ProductKernel(model, ["0.layer.weight"])


def test_a_use_outside_of_its_module_is_an_error() -> None:
    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + functional.linear(x, self.layer.weight)

    model = Outside().double()
    outside = pytest.raises(ConfigError, match=r"'layer.weight' is used outside")
    with ProductKernel(model) as kernel, outside:
        kernel.products(rows(), None, losses=weighed)
    assert model.layer.weight.grad is None


def test_no_batch_dimension_is_an_error() -> None:
    model, batch = build("gpt2"), padded()
    without = dataclasses.replace(batch, position_ids=None)
    with ProductKernel(model) as kernel:
        with pytest.raises(ConfigError, match=r"transformer.wpe \(Embedding\).*position_ids"):
            kernel.products(without, None, losses=losses)
        kernel.products(batch, None, losses=losses)  # usable after an error


def test_restores_everything_also_after_an_exception() -> None:
    model, batch = build("llama"), padded()
    model.lm_head.weight.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    state = [dict(vars(m)) for m in model.modules()]
    shaped = model.model.norm.forward

    def fails(name: str, tile: Tensor) -> Tensor:
        raise ArithmeticError(name)

    with pytest.raises(ArithmeticError), ProductKernel(model) as kernel:
        kernel.products(batch, None, transform=fails, losses=losses)
    assert [p.requires_grad for p in model.parameters()] == before
    assert [dict(vars(m)) for m in model.modules()] == state
    assert model.model.norm.forward == shaped
    assert all(p.grad is None for p in model.parameters())
    assert all(not p._backward_hooks for p in model.parameters())


def test_plain_training_works_inside() -> None:
    model, batch = build("llama-tied"), padded()
    losses(model, batch).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with ProductKernel(model) as kernel:
        kernel.products(batch, None, losses=losses)
        losses(model, batch).sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


def test_bad_calls() -> None:
    model, batch = Odd().double().layer, rows()
    kernel = ProductKernel(model)
    with pytest.raises(ConfigError, match="enter the kernel"):
        kernel.products(batch, None, losses=weighed)
    with pytest.raises(ConfigError, match=r"no parameter 'wieght'; did you mean 'weight'"):
        ProductKernel(model, ["wieght"])
    with pytest.raises(ConfigError, match="no parameter is chosen"):
        ProductKernel(model, [])
    with kernel:
        for directions, message in [
            ({"wieght": torch.ones(1, 6, 5)}, "no chosen parameter"),
            ({"weight": torch.ones(6, 5)}, r"expected \(D, 6, 5\)"),
            ({"weight": torch.ones(1, 6, 5), "bias": torch.ones(2, 6)}, r"\[1, 2\]"),
            ({"weight": torch.ones(0, 6, 5)}, r"D ≥ 1"),
            ({}, r"D ≥ 1"),
        ]:
            with pytest.raises(ConfigError, match=message):
                kernel.products(batch, directions, losses=weighed)
        with pytest.raises(ConfigError, match=r"shape \(\)"):
            kernel.products(batch, None, losses=lambda m, b: weighed(m, b).sum())
        with pytest.raises(ConfigError, match="reach no chosen parameter"):
            kernel.products(batch, None, losses=lambda m, b: b.given.sum((1, 2)))
        with pytest.raises(ConfigError, match="same shape"):
            kernel.products(batch, None, transform=lambda name, t: t.flatten(1), losses=weighed)
    on = pytest.raises(ConfigError, match=r"dropout '0' is on")
    with ProductKernel(nn.Sequential(nn.Dropout(0.1), model)) as kernel, on:
        kernel.products(batch, None, losses=weighed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_accumulates_in_float32(dtype: Any) -> None:
    model, batch = build("llama-tied"), padded()
    names = trainable(model)
    directions = random_directions(model, names, 1)
    dots, norms = expected(reference(model, batch, names), directions)
    got = products(model.to(dtype), batch, directions)
    assert got.dots.dtype == got.squared_norms.dtype == torch.float32
    # bfloat16 keeps 8 bits; a forward and backward of 2 layers lose about two of them.
    error = 1e-5 if dtype == torch.float32 else 3e-2
    scale = norms.sqrt()[:, None] * sum(d.square().sum() for d in directions.values()).sqrt()
    assert ((got.dots - dots).abs() < error * scale).all()
    torch.testing.assert_close(got.squared_norms.double(), norms, rtol=2 * error, atol=0)


def test_memory_does_not_grow_with_the_number_of_layers() -> None:
    """Live bytes during the products, beyond the model: one layer's tile, not all of them."""
    b, d = 8, 64
    peaks = {}
    for layers in (2, 8):
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(d, d, bias=False) for _ in range(layers)])
        batch = Rows(torch.randn(b, 2, d), torch.randn(b, 2, d))
        profiled = torch.profiler.profile(profile_memory=True)
        with only("tile"), ProductKernel(model) as kernel, profiled as profile:
            kernel.products(batch, None, losses=weighed)
        live = peak = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                live += event.nbytes()
                peak = max(peak, live)
        peaks[layers] = peak
    tile = b * d * d * 4
    assert tile < peaks[2] < 1.5 * tile
    assert peaks[8] < peaks[2] + tile / 2  # activations only
