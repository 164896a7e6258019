"""A data scorer: any transformer with a linear head, fitted to labels of some samples."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from didact.accounting.flops import regression_flops
from didact.accounting.lengths import micro_batches
from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError, ExecutionError
from didact.core.identity import versions
from didact.core.keep import keep
from didact.core.pieces import Pieces
from didact.core.protocols import Context, Device, Dtype, Progress
from didact.core.statistics import spearman
from didact.models.batches import collate, memory_errors
from didact.models.folder import digest
from didact.models.language_model import torch_dtype
from didact.models.regressor import HEAD, Regressor, open_regressor, predict, regress
from didact.models.saving import quiet
from didact.models.tokens import Tokens
from didact.training.dropout import SampleDropout, sample_keys
from didact.training.schedule import learning_rate_factor

OPTIMIZER, REPORT, STATE = "optimizer.safetensors", "regression.json", "epoch.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionSettings:
    """The settings of a data scorer's fit; defaults as DELT's released code has on one device.

    Attributes:
        epochs: Passes over the labelled samples.
        learning_rate: The highest learning rate; cosine to zero after the warm-up.
        warm_up: Updates in which the learning rate rises, at most a tenth of all.
        batch_size: Samples per update. The paper has 512, with 147,456 samples.
        tokens_per_batch: Most tokens of a forward pass, padding included.
        weight_decay: AdamW's weight decay, on matrices.
        max_grad_norm: The norm to which longer gradients are shortened.
        dev_share: Share of the samples, drawn at random, that are not trained on and choose the
            epoch.
        dtype: Type of arithmetic; weights and updates are float32, or float64.
        seed: Seed of the split, the head, dropout and the order.
    """

    epochs: int = 5
    learning_rate: float = 1e-4
    warm_up: int = 10
    batch_size: int = 32
    tokens_per_batch: int = 8192
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    dev_share: float = 0.1
    dtype: Dtype = "auto"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """The errors of one epoch of a fit.

    Attributes:
        train_mse: Mean squared error over the epoch's samples as they passed.
        dev_mse: Mean squared error over the dev samples at the epoch's end.
        spearman: Rank correlation with the dev labels at the epoch's end; NaN where one side is
            constant.
    """

    train_mse: float
    dev_mse: float
    spearman: float


@dataclass(frozen=True, slots=True)
class FittedRegression:
    """A fitted data scorer.

    Attributes:
        path: Folder of the data scorer.
        epochs: The errors of each epoch.
        chosen: The epoch that was kept, from 1: the highest Spearman on the dev samples.
        n_train: Number of samples trained on.
        n_dev: Number of samples that chose the epoch.
        label_mean: Mean of all labels given.
        label_std: Standard deviation of all labels given, population.
    """

    path: Path
    epochs: tuple[Epoch, ...]
    chosen: int
    n_train: int
    n_dev: int
    label_mean: float
    label_std: float

    @property
    def spearman(self) -> float:
        """Rank correlation of the chosen epoch on the dev samples."""
        return self.epochs[self.chosen - 1].spearman

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for manifests and reports."""
        return {
            "spearman": [round(e.spearman, 6) if math.isfinite(e.spearman) else None
                         for e in self.epochs],
            "chosen_epoch": self.chosen, "n_train": self.n_train, "n_dev": self.n_dev,
            "label_mean": self.label_mean, "label_std": self.label_std,
        }  # fmt: skip


def fit_regression(
    model_path: Path,
    tokens: Tokens,
    labels: Float1D,
    settings: RegressionSettings,
    *,
    ctx: Context,
    device: Device = "auto",
) -> FittedRegression:
    """Fit a transformer with a linear head to labels, and keep the epoch that ranks best.

    Finished, it is found again, with what it cost; interrupted, it goes on after its last epoch.

    Args:
        model_path: A folder that `didact.models.folder.find` has checked: an encoder or a decoder.
        tokens: The samples, in that model's tokenizer's ids.
        labels: What to predict, float64 `(n,)`, in a scale near 1; samples without a finite label
            or without a token are left out.
        settings: The settings of the fit.
        ctx: The keeper of the data scorer; charged with FLOPs as executed and tokens.
        device: The device it runs on.

    Raises:
        DataError: Fewer than four samples can be used.
        ExecutionError: The loss is not finite, or memory runs out.

    **Source:** DELT (arXiv:2506.21545), appendix A: mean of the last hidden states, a linear head
    with bias, squared error, AdamW, 5 epochs, a tenth held out to choose by Spearman.
    **Cost:** `epochs` times three forward passes of the samples, and one of those held out.
    """
    labels = np.asarray(labels, np.float64)
    if len(labels) != len(tokens):
        raise DataError(f"{len(labels)} labels for {len(tokens)} samples")
    usable = np.flatnonzero(np.isfinite(labels) & (tokens.lengths > 0))
    if len(usable) < 4:
        raise DataError(f"data scorer: {len(usable)} samples with a label; expected 4 or more")
    libraries = versions(("torch", "transformers", "tokenizers"))
    key = [digest(model_path), _digest(tokens, labels), asdict(settings), libraries]

    def make(work: Context) -> tuple[Pieces, dict[str, Any]]:
        fit = partial(_fit, model_path, tokens, labels, usable, settings, work)
        return work.executor.call(fit, device=device)

    return keep(ctx, "data-scorers", key, make, save=_save_fitted, load=read_fitted)


def _fit(
    model_path: Path,
    tokens: Tokens,
    labels: Float1D,
    usable: Int1D,
    settings: RegressionSettings,
    ctx: Context,
    device: str,
) -> Metered[tuple[Pieces, dict[str, Any]]]:
    """The epochs, the chosen one among them, and what they came to; charged as it goes."""
    split = np.random.default_rng([settings.seed, 0]).permutation(usable)
    n_dev = max(2, round(settings.dev_share * len(usable)))
    fit = _Fit(tokens, labels, np.sort(split[:n_dev]), np.sort(split[n_dev:]), settings, ctx)
    mixed = torch_dtype(settings.dtype, device).itemsize == 2
    with open_regressor(model_path, device=device, dtype=fit.wide) as model:
        epochs = fit.run(model, mixed=mixed)
    chosen = best_epoch([e.spearman for e in epochs])
    report = {
        "epochs": [_json(e) for e in epochs], "chosen_epoch": chosen, "n_train": len(fit.train),
        "n_dev": n_dev, "label_mean": float(labels[usable].mean()),
        "label_std": float(labels[usable].std()), "settings": asdict(settings),
    }  # fmt: skip
    return Metered((ctx.pieces, report))


def best_epoch(correlations: Sequence[float]) -> int:
    """The first of the highest, from 1; the last where none is a number."""
    usable = [c if math.isfinite(c) else -math.inf for c in correlations]
    if max(usable) == -math.inf:
        return len(usable)
    return 1 + int(np.argmax(usable))


def _save_fitted(made: tuple[Pieces, dict[str, Any]], folder: Path) -> None:
    pieces, report = made
    pieces.link(f"epoch-{report['chosen_epoch']}", folder)
    for name in (OPTIMIZER, STATE):
        (folder / name).unlink()
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def read_fitted(folder: Path) -> FittedRegression:
    """A finished fit, read from its folder."""
    report = json.loads((folder / REPORT).read_text("utf-8"))
    return FittedRegression(
        folder, tuple(_epoch(entry) for entry in report["epochs"]), report["chosen_epoch"],
        report["n_train"], report["n_dev"], report["label_mean"], report["label_std"],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Fit:
    """A fit on its way: data, settings, and the context that keeps its epochs."""

    tokens: Tokens
    labels: Float1D
    dev: Int1D
    train: Int1D
    settings: RegressionSettings
    ctx: Context

    @property
    def wide(self) -> Dtype:
        """Type of weights and updates."""
        return "float64" if self.settings.dtype == "float64" else "float32"

    def run(self, model: Regressor, *, mixed: bool) -> list[Epoch]:
        """All epochs, those of an interrupted run too."""
        settings, parameters = self.settings, model.parameters()
        groups = [
            {"params": [p for p in parameters.values() if p.ndim > 1],
             "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
        ]  # fmt: skip
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        epochs = self._resumed(model, optimizer)
        per_epoch = -(-len(self.train) // settings.batch_size)
        steps = per_epoch * settings.epochs
        for epoch in range(len(epochs), settings.epochs):
            rng = np.random.default_rng([settings.seed, 1, epoch])
            order = rng.permutation(self.train)
            squared = 0.0
            for at in range(per_epoch):
                step = epoch * per_epoch + at
                rows = order[at * settings.batch_size : (at + 1) * settings.batch_size]
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * learning_rate_factor(
                        step, steps=steps, schedule="cosine",
                        warm_up=min(settings.warm_up, steps // 10),
                    )  # fmt: skip
                spent = self._update(model, optimizer, rows, step, mixed=mixed)
                squared += spent.value
                self.ctx.meter.add(spent.cost)
                self.ctx.progress(Progress("data scorer", step + 1, steps, "steps"))
            found = predict(
                model, self.tokens, rows=self.dev, tokens_per_batch=settings.tokens_per_batch
            )
            self.ctx.meter.add(found.cost)
            values, wanted = found.value[self.dev], self.labels[self.dev]
            mse = float(np.square(values - wanted).mean())
            epochs.append(Epoch(squared / len(self.train), mse, spearman(values, wanted)))
            self._save(model, optimizer, epochs)
        return epochs

    def _update(
        self, model: Regressor, optimizer: torch.optim.Optimizer, rows: Int1D, step: int,
        *, mixed: bool,
    ) -> Metered[float]:  # fmt: skip
        """One step on the mean squared error of some rows; its sum before the update."""
        flops, squared = 0.0, 0.0
        model.module.train()
        optimizer.zero_grad(set_to_none=True)
        index = [model.device.index or 0] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=index):
            torch.manual_seed(self.settings.seed * 1_000_003 + step)  # what is random but dropout
            for part in micro_batches(self.tokens.lengths, rows, self.settings.tokens_per_batch):
                batch = collate(self.tokens, part, pad_id=model.pad_id, device=model.device)
                wanted = torch.from_numpy(self.labels[part]).to(model.device)
                with memory_errors(
                    "the data scorer was fitted", "set a smaller tokens_per_batch or max_length"
                ):
                    keys = sample_keys(self.settings.seed, step, part).to(model.device)
                    half = torch.autocast(model.device.type, torch.bfloat16, enabled=mixed)
                    with half, SampleDropout(keys):
                        values = regress(model, batch)
                    loss = (values - wanted.to(values.dtype)).square().sum()
                    (loss / len(rows)).backward()  # type: ignore[no-untyped-call]
                squared += float(loss.detach())
                flops += regression_flops(model.spec, batch.executed)
        model.module.eval()
        if not math.isfinite(squared):
            raise ExecutionError(
                f"data scorer: the loss is {squared} at update {step + 1}; lower learning_rate"
            )
        held = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(held, self.settings.max_grad_norm)
        optimizer.step()
        tokens = int(self.tokens.lengths[rows].sum())
        return Metered(squared, Cost(flops=flops, tokens=tokens))

    def _save(
        self, model: Regressor, optimizer: torch.optim.Optimizer, epochs: list[Epoch]
    ) -> None:
        """The epoch whole; of the earlier ones only the best is kept."""
        from safetensors.torch import save_file

        tensors = {
            f"{name}/{key}": value.contiguous()
            for name, parameter in model.parameters().items()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        number = len(epochs)
        with quiet(), self.ctx.pieces.writing(f"epoch-{number}") as folder:
            model.module.save_pretrained(folder)
            model.tokenizer.save_pretrained(folder)
            save_file(dict(model.head.state_dict()), folder / HEAD)
            save_file(tensors, folder / OPTIMIZER)
            state = {"epochs": [_json(e) for e in epochs]}
            (folder / STATE).write_text(json.dumps(state), "utf-8")
        best = best_epoch([e.spearman for e in epochs])
        for old in range(1, number):
            if old != best:
                self.ctx.pieces.drop(f"epoch-{old}")

    def _resumed(self, model: Regressor, optimizer: torch.optim.Optimizer) -> list[Epoch]:
        """The epochs that are done, with model and optimizer as the last of them left them."""
        done = sorted((int(name[6:]) for name in self.ctx.pieces.names()), reverse=True)
        for number in done:
            folder = self.ctx.pieces.intact(f"epoch-{number}")
            if folder is None:
                continue
            epochs = _epochs(folder)
            best = best_epoch([e.spearman for e in epochs])
            if self.ctx.pieces.intact(f"epoch-{best}") is not None:
                self.ctx.pieces.load(f"epoch-{number}", _epochs)
                self._restore(model, optimizer, folder)
                return epochs
        return []

    def _restore(self, model: Regressor, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        from safetensors.torch import load_file

        tensors = load_file(folder / OPTIMIZER)
        with torch.no_grad(), open_regressor(folder, device="cpu", dtype=self.wide) as saved:
            for name, parameter in saved.parameters().items():
                model.parameters()[name].copy_(parameter)
        for name, parameter in model.parameters().items():
            own = {k.rpartition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{name}/")}
            if own:
                optimizer.state[parameter] = {
                    k: v if k == "step" else v.to(model.device) for k, v in own.items()
                }


def _epochs(folder: Path) -> list[Epoch]:
    state = json.loads((folder / STATE).read_text("utf-8"))
    return [_epoch(entry) for entry in state["epochs"]]


def _json(epoch: Epoch) -> dict[str, float | None]:
    return {k: v if math.isfinite(v) else None for k, v in asdict(epoch).items()}


def _epoch(entry: dict[str, float | None]) -> Epoch:
    return Epoch(**{k: math.nan if v is None else v for k, v in entry.items()})


def _digest(tokens: Tokens, labels: Float1D) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for array in (tokens.ids, tokens.offsets, labels):
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
