"""What this machine gets out of a real model: forward passes, steps of a training, the peak."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import torch

from didact.accounting.devices import Calibration
from didact.accounting.flops import forward_flops, training_flops
from didact.accounting.spec import ModelSpec
from didact.core.errors import ConfigError
from didact.core.identity import versions
from didact.core.protocols import Dtype, Progress, ProgressCallback, ignore_progress
from didact.execution.calibrated import this_machine
from didact.models.architecture import loaded_spec
from didact.models.batches import Batch, memory_errors
from didact.models.language_model import torch_dtype
from didact.models.losses import causal_losses
from didact.models.proxy import Shape, shape_for, suitable_vocab
from didact.training.settings import tokens_per_batch
from didact.training.utilization import device_name, peak_flops_per_second

_LIBRARIES: Final = ("torch", "transformers")
LENGTH: Final = 512  # tokens of every sequence: no padding
_PARAMS: Final = {"cpu": 5_000_000, "cuda": 350_000_000}  # what such devices train in a trial


def calibrated(
    *,
    device: str,
    dtype: Dtype = "auto",
    seconds: float = 30.0,
    shape: Shape | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Calibration:
    """Measure forward passes and training steps of a Llama without padding, and the peak.

    FLOPs are counted as `accounting.flops` counts them, so that hours foretold are hours taken.
    Half of the time goes to each, at least one step after one to warm up.

    Args:
        device: "cpu", "cuda:0", …
        dtype: Type of arithmetic; bfloat16 on an accelerator that has it, float32 elsewhere.
        seconds: Wall-clock seconds it takes, about; a step under way is finished.
        shape: Sizes of the model; by default 5 million parameters on a CPU, 350 million elsewhere.
        progress: Told of what is measured.

    Raises:
        ConfigError: The time is not positive.

    **Cost:** the seconds asked for, and some to make the model.
    """
    if not seconds > 0:
        raise ConfigError(f"seconds={seconds}: expected a time above 0; 30 is a good one")
    began = time.perf_counter()
    arithmetic = torch_dtype(dtype, device)
    if shape is None:
        size = _PARAMS["cpu" if device == "cpu" else "cuda"]
        shape = shape_for(size, suitable_vocab(size))
    batch = _batch(shape.vocab, tokens_per_batch(device), device)
    ran, mixed = batch.executed, arithmetic == torch.bfloat16
    remedy = "close what else uses the device, or measure with dtype=bfloat16"
    with memory_errors("calibrating", remedy):
        model, spec = _model(shape, device)
        step = _training_step(model, batch, mixed=mixed)
        progress(Progress("calibrate", 0, 3, "parts", note="training"))
        trained = _per_second(step, seconds / 2)
        model = model.to(arithmetic)
        progress(Progress("calibrate", 1, 3, "parts", note="forward passes"))
        read = _per_second(lambda: _forward(model, batch), seconds / 2)
    progress(Progress("calibrate", 2, 3, "parts", note="peak"))
    name = str(arithmetic).removeprefix("torch.")
    forward = read * forward_flops(spec, ran.tokens, ran.squares)
    training = trained * training_flops(spec, ran.tokens, ran.squares)
    # On a machine that others use, too, a product may be measured in a bad moment.
    peak = max(peak_flops_per_second(device, name), forward, training)
    progress(Progress("calibrate", 3, 3, "parts"))
    return Calibration(
        device=device_name(device),
        machine=this_machine(),
        threads=torch.get_num_threads(),
        dtype=name,
        date=datetime.now(UTC).date().isoformat(),
        versions=tuple(f"{library} {v}" for library, v in versions(_LIBRARIES).items()),
        forward_flops_per_second=forward,
        training_flops_per_second=training,
        peak_flops_per_second=peak,
        n_params=spec.n_total,
        tokens_per_batch=ran.tokens,
        seconds=time.perf_counter() - began,
    )


def _model(shape: Shape, device: str) -> tuple[Any, ModelSpec]:
    """A Llama with random weights, and its numbers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.width, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads, max_position_embeddings=LENGTH, tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
    return model, loaded_spec(config.to_dict(), shapes, "the model of the calibration")


def _batch(vocab: int, tokens: int, device: str) -> Batch:
    """Sequences of one length, with a loss on every token but the first."""
    rows = max(tokens // LENGTH, 1)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, vocab, (rows, LENGTH)))
    weights = torch.ones(ids.shape)
    weights[:, 0] = 0
    return Batch(
        rows=np.arange(rows),
        input_ids=ids.to(device),
        attention_mask=torch.ones_like(ids).to(device),
        position_ids=torch.arange(LENGTH).expand(rows, -1).to(device),
        weights=weights.to(device),
    )


def _training_step(model: Any, batch: Batch, *, mixed: bool) -> Callable[[], None]:
    """A step as `training.loop` has it: bfloat16 beside float32 weights where there is any."""
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    kind = batch.input_ids.device.type

    def step() -> None:
        model.train()
        with torch.autocast(kind, torch.bfloat16) if mixed else nullcontext():
            loss = causal_losses(model, batch).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device

    return step


def _forward(model: Any, batch: Batch) -> None:
    model.eval()
    with torch.inference_mode():
        causal_losses(model, batch).mean().item()


def _per_second(work: Callable[[], None], seconds: float) -> float:
    """How often some work is done in a second, the first time left out."""
    work()
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        work()
        done += 1
    return done / (time.perf_counter() - began)
