"""FLOPs of passes through a transformer: one function for each, with source and omissions.

One multiply-add is two FLOPs. Counted are the matrix products: weights, and the two products of
attention (scores and their use), as full squares: eager and padded kernels compute the masked half
too. Ignored everywhere: softmax (about 5 / (4·head dimension) of attention), norms, activations,
rotary angles, biases, residual additions, the loss, the optimizer, and the scores that a fused
kernel computes a second time in its backward pass (half of `attention_flops`; eager attention keeps
them). `n_params` in formulas without a `ModelSpec` means weights in matrix products: the head is
one, embedding look-ups are not.
What a method costs is its scorer's `estimate_from_specs`; `less_counted`, `less_published`,
`rds_plus_coded`, `rds_plus_printed`, `lora_published`, `training_flops_6nd` and `similarity_flops`
are as papers charge it, to be shown beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from didact.accounting.spec import LoraSpec, ModelSpec
from didact.core.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of a set of sequences as executed, by which they cost: padding is part of them.

    Attributes:
        n: Number of sequences.
        tokens: Sum of their lengths S.
        squares: Sum of S², for attention.
    """

    n: int
    tokens: int
    squares: float

    def __add__(self, other: Lengths) -> Lengths:
        return Lengths(self.n + other.n, self.tokens + other.tokens, self.squares + other.squares)


NOTHING = Lengths(0, 0, 0.0)


# Passes of one model


def attention_flops(spec: ModelSpec, squares: float) -> float:
    """4·layers·width·ΣS²: two products of S·S·width in each layer, 2 FLOPs per multiply-add.

    Source: PaLM (arXiv 2204.02311), appendix B. The causal mask is not credited.
    """
    return 4.0 * spec.n_layers * spec.attention_width * squares


def forward_flops(spec: ModelSpec, n_tokens: int, squares: float = 0.0) -> float:
    """2 FLOPs per weight and token, and attention. `squares` is ΣS² over sequences as executed.

    Also an encoder's pass, whose spec has no head. Source: Kaplan et al. (arXiv 2001.08361).
    """
    return forward_flops_2nd(spec.n_matmul, n_tokens) + attention_flops(spec, squares)


def input_gradient_flops(spec: ModelSpec, n_tokens: int, squares: float = 0.0) -> float:
    """The part of a backward pass that leads to every layer's output gradient.

    One product per weight and token, four per layer in attention; gradients of the weights are
    left out, since per-sample products take their place.
    """
    return forward_flops_2nd(spec.n_matmul, n_tokens) + 2 * attention_flops(spec, squares)


def backward_flops(spec: ModelSpec, n_tokens: int, squares: float = 0.0) -> float:
    """Twice the forward pass: each product has two factors and each factor a gradient.

    All parameters are trained, the embedding too. Recomputing activations (gradient checkpointing)
    costs another forward pass and is not in it.
    """
    return 2 * forward_flops(spec, n_tokens, squares)


def training_flops(spec: ModelSpec, n_tokens: int, squares: float = 0.0) -> float:
    """Forward and backward; also one gradient of a loss, of a batch or of each sample in it."""
    return forward_flops(spec, n_tokens, squares) + backward_flops(spec, n_tokens, squares)


def hvp_flops(spec: ModelSpec, n_tokens: int, squares: float = 0.0) -> float:
    """Product of the loss's Hessian with a vector, forward over reverse.

    Each of a gradient's three products and the two tangents of each, nine in all, so three
    gradients (18N).
    """
    return 3 * training_flops(spec, n_tokens, squares)


# Rules of thumb, as the literature charges them


def forward_flops_2nd(n_params: float, n_tokens: float) -> float:
    """2·N·D (Kaplan et al., arXiv 2001.08361). Omits attention."""
    return 2.0 * n_params * n_tokens


def training_flops_6nd(n_params: float, n_tokens: float) -> float:
    """6·N·D: 2 forward, 4 backward per weight and token (Kaplan et al., arXiv 2001.08361).

    Omits attention, 12·layers·width·S more per token: over 10 % once S > 0.05·N / (layers·width).
    """
    return 6.0 * n_params * n_tokens


# Low-rank adapters


def lora_counted(spec: ModelSpec, lora: LoraSpec, n_tokens: int, squares: float = 0.0) -> float:
    """Forward and backward with a frozen base: about 4N and 6 FLOPs per adapter weight and token.

    Frozen weights get no gradient (2N saved), and below the lowest adapters of the first layer
    nothing is passed on: not through its frozen matrices, nor through those adapters' A, nor by
    the products of its attention that none of them needs, since the embedding is frozen as well.
    Left out: scaling, dropout. Not for gradient checkpointing, which passes gradients on to the
    embedding and computes the forward pass twice.
    """
    passed = spec.n_matmul - lora.n_below
    adapters = 3 * lora.n_params - lora.rank * sum(d_in * n for _, d_in, n in lora.first)
    weights = forward_flops_2nd(spec.n_matmul + passed + adapters, n_tokens)
    product = 2.0 * spec.attention_width * squares
    return weights + 3 * attention_flops(spec, squares) - lora.idle * product


def lora_published(n_params: float, n_tokens: float) -> float:
    """6·N·D with N of the whole base model, as papers on data selection charge LoRA.

    Source: CCDS (arXiv 2410.16208), RDS+ (arXiv 2503.01807). Up to 1.5 times `lora_counted`.
    """
    return training_flops_6nd(n_params, n_tokens)


# Selection methods


def projection_flops(n_params: float, dim: int) -> float:
    """2·P·d for one gradient of P numbers times a dense random matrix; making it is left out."""
    return 2.0 * n_params * dim


def similarity_flops(n: int, n_target: int, dim: float, *, checkpoints: int = 1) -> float:
    """2·n·m·d for all inner products of n samples with m target samples, at each checkpoint."""
    return 2.0 * checkpoints * n * n_target * dim


@dataclass(frozen=True, slots=True)
class LessFlops:
    """FLOPs of LESS (arXiv 2402.04333), without projection and similarities.

    Attributes:
        warm_up: FLOPs of training on a random share of the pool.
        gradients: FLOPs of the gradients of every sample at every checkpoint.
    """

    warm_up: float
    gradients: float

    @property
    def total(self) -> float:
        """Warm-up and gradients together."""
        return self.warm_up + self.gradients


def less_counted(
    n_params: float,
    n_tokens: float,
    *,
    share: float = 0.05,
    epochs: float = 4,
    checkpoints: int = 4,
) -> LessFlops:
    """LESS by its parts: 6N per token of the warm-up, and of the pool for each checkpoint.

    Charges adapters as `lora_published` does. Target gradients are left out.
    """
    whole = lora_published(n_params, n_tokens)
    return LessFlops(warm_up=share * epochs * whole, gradients=checkpoints * whole)


def less_published(n_params: float, n_tokens: float) -> float:
    """5.4 forward passes over the pool, as the figures of CCDS (arXiv 2410.16208) draw LESS.

    That is 1.8 training passes where `less_counted` has 4.2.
    """
    return 5.4 * forward_flops_2nd(n_params, n_tokens)


RdsPlusMethod = Literal["random", "perplexity", "ifd", "embedding", "rds", "less"]
_RDS_PLUS_METHODS: Final = ("random", "perplexity", "ifd", "embedding", "rds", "less")
_RDS_PLUS_TOKENS: Final = 2048  # that RDS+ charges for every sample, however long it is
_RDS_PLUS_EPOCHS: Final = 2
_IFD_READ, _IFD_TRAINED = 200_000, 1_000  # samples, fixed in the released code


@dataclass(frozen=True, slots=True)
class PublishedFlops:
    """FLOPs of a selection and of the training after it, as a paper charges them.

    Attributes:
        selection: FLOPs of scoring the pool.
        training: FLOPs of training on what was chosen.
    """

    selection: float
    training: float

    @property
    def total(self) -> float:
        """Selection and training together."""
        return self.selection + self.training


def rds_plus_coded(
    method: RdsPlusMethod,
    *,
    n_params: float,
    n_pool: float,
    n_chosen: float,
    n_selector: float | None = None,
) -> PublishedFlops:
    """A method's cost as the released plotting code of RDS+ has it.

    Two epochs at 6N on 2,048 tokens a sample; one forward pass over the pool for `perplexity`,
    `embedding` and `rds`; three gradients of the pool for `less`, whose training is charged twice
    (24N) without a word why. `ifd` trains on 1,000 samples and reads 200,000, whatever the pool.

    Source: RDS+ (arXiv 2503.01807), `plot_pareto_fig.py`, which has N = 8e9 and 1.1e8 for GTR.

    Args:
        method: The method; "embedding" is GTR or NV-Embed by its `n_selector`.
        n_params: Parameters of the model that is trained.
        n_pool: Samples of the pool.
        n_chosen: Samples that are trained on.
        n_selector: Parameters of the model that scores; `n_params` when not given.

    Raises:
        ConfigError: The method is none of RDS+'s.
    """
    once = training_flops_6nd(n_params, _RDS_PLUS_TOKENS * n_chosen)
    doubled = 2 if _known(method) == "less" else 1
    return PublishedFlops(
        selection=_rds_plus_selection(method, n_selector or n_params, n_pool, passes=1),
        training=doubled * _RDS_PLUS_EPOCHS * once,
    )


def rds_plus_printed(
    method: RdsPlusMethod,
    *,
    n_params: float,
    n_pool: float,
    n_chosen: float,
    n_selector: float | None = None,
) -> PublishedFlops:
    """A method's cost as the appendix of RDS+ prints it, which is not what its code has.

    The pool's forward pass is charged twice there, and `less` trains like the others. It has no
    `ifd` of its own: that is the code's.

    Source: RDS+ (arXiv 2503.01807), appendix on FLOPs, which has N = 7e9.

    Args:
        method: The method.
        n_params: Parameters of the model that is trained.
        n_pool: Samples of the pool.
        n_chosen: Samples that are trained on.
        n_selector: Parameters of the model that scores; `n_params` when not given.

    Raises:
        ConfigError: The method is none of RDS+'s.
    """
    once = training_flops_6nd(n_params, _RDS_PLUS_TOKENS * n_chosen)
    return PublishedFlops(
        selection=_rds_plus_selection(_known(method), n_selector or n_params, n_pool, passes=2),
        training=_RDS_PLUS_EPOCHS * once,
    )


def _rds_plus_selection(
    method: RdsPlusMethod, n_params: float, n_pool: float, *, passes: int
) -> float:
    tokens = _RDS_PLUS_TOKENS * n_pool
    if method == "random":
        return 0.0
    if method == "less":
        return 3 * training_flops_6nd(n_params, tokens)
    if method == "ifd":
        trained = training_flops_6nd(n_params, _RDS_PLUS_TOKENS * _IFD_TRAINED)
        return trained + forward_flops_2nd(n_params, _RDS_PLUS_TOKENS * _IFD_READ)
    return passes * forward_flops_2nd(n_params, tokens)


def _known(method: RdsPlusMethod) -> RdsPlusMethod:
    if method not in _RDS_PLUS_METHODS:
        raise ConfigError(f"method {method!r} is not one of RDS+'s"
                          f"{did_you_mean(method, _RDS_PLUS_METHODS)}")  # fmt: skip
    return method


def regression_flops(spec: ModelSpec, lengths: Lengths) -> float:
    """One epoch of a data scorer's training: an encoder whose linear head's product is left out."""
    return training_flops(spec, lengths.tokens, lengths.squares)
