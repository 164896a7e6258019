"""What a training takes of each row of a pool: its tokens as the model reads them, its FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from didact.accounting.flops import Lengths, lora_counted, training_flops
from didact.accounting.lengths import executed_training
from didact.accounting.lora import default_targets, lora_spec
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError
from didact.core.identity import versions
from didact.core.keep import Piece, keep, kept_pieces
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Progress
from didact.execution.devices import local_devices
from didact.models.architecture import read_spec
from didact.models.encode import Encoding, encode
from didact.models.folder import digest
from didact.training.settings import DEFAULT_BATCH, TrainSettings, tokens_per_batch

_TOGETHER: Final = 16  # batches of a pool in a piece
# Seconds to tokenise: 4,400 chats (2.0 MB) took 1.1 s (roles) to 1.7 s (the model's template) and
# 1,440 texts in five scripts (1.7 MB) 0.6 s, with a byte-level BPE of 1,024 tokens and one thread.
_PER_BYTE: Final = 4e-7
_PER_SAMPLE: Final = 1e-4
_DRAWN: Final = 8192  # most lengths that stand for a selection
_DECIDING: Final = (
    "lora_rank", "lora_targets", "loss", "template", "max_length", "batch_size", "tokens_per_batch"
)  # fmt: skip
_LIBRARIES: Final = ("tokenizers", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """A training on rows of a pool, foreseen row by row.

    Attributes:
        lengths: Tokens of every row of the pool as the model reads it, int64 `(n,)`: template in,
            cut off; 0 of a row without a token to learn, which is left out.
        flops: FLOPs of forward and backward from tokens and squared lengths.
        epochs: Passes over the rows.
        batch_size: Samples per optimizer step.
        tokens_per_batch: Most tokens of a forward pass, padding included.
    """

    lengths: Int1D
    flops: Callable[[int, float], float]
    epochs: int
    batch_size: int
    tokens_per_batch: int

    @property
    def each(self) -> Float1D:
        """FLOPs of every row over all epochs, without padding, `(n,)`."""
        lengths = self.lengths.astype(np.float64)
        a_token, a_square = self.flops(1, 0.0), self.flops(0, 1.0)
        return np.asarray(self.epochs * (a_token * lengths + a_square * lengths**2))

    def padding(self, rows: Int1D) -> float:
        """What padding adds to the FLOPs of some rows in random batches, as a share of them."""
        lengths = self.lengths[rows]
        lengths = lengths[lengths > 0]
        if not len(lengths):
            return 0.0
        if len(lengths) > _DRAWN:
            lengths = np.random.default_rng(0).choice(lengths, _DRAWN, replace=False)
        ran = executed_training(
            lengths, n=len(lengths), batch_size=self.batch_size,
            tokens_per_batch=self.tokens_per_batch,
        )  # fmt: skip
        bare = Lengths(len(lengths), int(lengths.sum()), float((lengths.astype(float) ** 2).sum()))
        return self.flops(ran.tokens, ran.squares) / self.flops(bare.tokens, bare.squares) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTraining:
    """A training that is not begun: what decides the FLOPs that samples take in it.

    Attributes:
        model: A folder that `didact.models.folder.find` has checked, or a model's numbers.
        settings: The settings of the training.
        epochs: Passes over the samples.
        notes: What is not known of the model, in sentences.
    """

    model: Path | ModelSpec
    settings: TrainSettings
    epochs: int = 1
    notes: tuple[str, ...] = ()

    @property
    def batch_size(self) -> int:
        """Samples per optimizer step."""
        return self.settings.batch_size or DEFAULT_BATCH

    @property
    def tokens_per_batch(self) -> int:
        """Most tokens of a forward pass, padding included."""
        if self.settings.tokens_per_batch is not None:
            return self.settings.tokens_per_batch
        # Of a model known by its numbers nobody says where it will run: not here on the CPU.
        numbers = isinstance(self.model, ModelSpec)
        return tokens_per_batch("cuda" if numbers else local_devices(self.settings.device)[0])

    def spec(self) -> ModelSpec:
        """The model's numbers."""
        return self.model if isinstance(self.model, ModelSpec) else read_spec(self.model)

    def said(self) -> dict[str, Any]:
        """The training in a few words, JSON values: what is not as it is by default."""
        given = {name: value for name, value in self._deciding().items() if value is not None}
        return {"model": self.spec().name, "epochs": self.epochs, **given}

    def _deciding(self) -> dict[str, Any]:
        """Settings that samples' FLOPs depend on; None for those that are as by default."""
        default, given = asdict(TrainSettings()), asdict(self.settings)
        return {k: None if given[k] == default[k] else given[k] for k in _DECIDING}

    def identity(self) -> dict[str, Any]:
        """Everything that its FLOPs depend on, JSON values."""
        known = (
            {"model": asdict(self.model), "libraries": {}}
            if isinstance(self.model, ModelSpec)
            else {"model": digest(self.model), "libraries": versions(_LIBRARIES)}
        )
        return {
            **known,
            "settings": {**self._deciding(), "tokens_per_batch": self.tokens_per_batch},
            "epochs": self.epochs,
        }

    def estimate_counting(self, stats: PoolStats) -> Cost:
        """What `foresee` will cost: processor time of tokenising the pool."""
        if isinstance(self.model, ModelSpec):
            return Cost()
        return Cost(cpu_seconds=_PER_BYTE * stats.n_bytes + _PER_SAMPLE * stats.n)

    def foresee(self, pool: Pool, ctx: Context) -> Foresight:
        """What it takes of each row of a pool; tokenises the pool, but for a model's numbers."""
        spec, settings = self.spec(), self.settings
        if isinstance(self.model, ModelSpec):
            lengths = counted_lengths(pool, spec, settings)
        else:
            lengths = read_lengths(pool, self.model, settings, ctx)
        return Foresight(
            lengths=lengths, flops=executed_flops(spec, settings), epochs=self.epochs,
            batch_size=self.batch_size, tokens_per_batch=self.tokens_per_batch,
        )  # fmt: skip


def executed_flops(spec: ModelSpec, settings: TrainSettings) -> Callable[[int, float], float]:
    """FLOPs of forward and backward, from tokens and squared lengths, as a training executes them.

    Raises:
        ConfigError: A name in `lora_targets` is not in the model.
    """
    if settings.lora_rank is None:
        return partial(training_flops, spec)
    targets = settings.lora_targets or default_targets(spec)
    return partial(lora_counted, spec, lora_spec(spec, rank=settings.lora_rank, targets=targets))


def encoding(pool: Pool, settings: TrainSettings, context: int) -> Encoding:
    """How a training encodes the samples of a pool for a model that reads `context` tokens.

    Raises:
        ConfigError: `max_length` is over it.
    """
    if settings.max_length is not None and settings.max_length > context:
        raise ConfigError(
            f"max_length={settings.max_length}: the model reads at most {context} tokens"
        )
    return Encoding(
        kind=pool.kind, loss=settings.loss, template=settings.template,
        pool_template=pool.meta["template"], max_length=settings.max_length or context,
    )  # fmt: skip


def read_lengths(pool: Pool, path: Path, settings: TrainSettings, ctx: Context) -> Int1D:
    """Tokens of every row as a model reads it, 0 without a token to learn; kept by what they are.

    Args:
        pool: The pool.
        path: A folder that `didact.models.folder.find` has checked.
        settings: Of these `loss`, `template` and `max_length`.
        ctx: Workers, cache, progress.

    Raises:
        ConfigError: The tokenizer has no chat template and none was named, or `max_length` is over
            the context.

    **Cost:** tokenises the whole pool once for a tokenizer and these settings.
    """
    from didact.models.language_model import context_of, open_tokenizer

    how = encoding(pool, settings, context_of(path, open_tokenizer(path)))
    key = [pool.fingerprint, digest(path), asdict(how), versions(_LIBRARIES)]

    def make(work: Context) -> Int1D:
        return _tokenised(pool, path, how, work)

    return keep(ctx, "lengths", key, make, save=_save, load=_load)


def counted_lengths(pool: Pool, spec: ModelSpec, settings: TrainSettings) -> Int1D:
    """Tokens of every row where a model is known by its numbers alone.

    The pool's own count with what template and special tokens add, cut off. Every row with a token
    is taken to have one to learn.
    """
    most = settings.max_length or spec.context or np.iinfo(np.int64).max
    lengths = np.minimum(pool.n_tokens + spec.added(pool.kind), most)
    return np.where(pool.n_tokens > 0, lengths, 0)


def _tokenised(pool: Pool, path: Path, how: Encoding, ctx: Context) -> Int1D:
    batches = list(pool.batches())
    wanted = [
        Piece(f"rows-{at:06d}", batches[at : at + _TOGETHER])
        for at in range(0, len(batches), _TOGETHER)
    ]
    found, done = [np.empty(0, np.int64)], 0
    ctx.progress(Progress("tokenize", 0, len(pool)))
    for part in kept_pieces(
        ctx, wanted, shared=(pool, path, how), open=_opened, join=np.concatenate,
        save=_save, load=_load,
    ):  # fmt: skip
        found.append(part)
        done += len(part)
        ctx.progress(Progress("tokenize", done, len(pool)))
    return np.concatenate(found)


@contextmanager
def _opened(
    shared: tuple[Pool, Path, Encoding], device: str
) -> Iterator[Callable[[range], Metered[Int1D]]]:
    from didact.models.language_model import open_tokenizer

    del device
    pool, path, how = shared
    yield partial(_lengths, pool, open_tokenizer(path), how)


def _lengths(pool: Pool, tokenizer: Any, how: Encoding, rows: range) -> Metered[Int1D]:
    tokens = encode(pool.read(rows, ["turns"]).column("turns"), tokenizer, how)
    lengths = tokens.lengths.copy()
    lengths[list(tokens.missing)] = 0
    return Metered(lengths)


def _save(lengths: Int1D, folder: Path) -> None:
    np.save(folder / "lengths.npy", lengths, allow_pickle=False)


def _load(folder: Path) -> Int1D:
    found: Int1D = np.load(folder / "lengths.npy", allow_pickle=False)
    return found
