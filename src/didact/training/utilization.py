"""How much of what a device can do a training used."""

from __future__ import annotations

import time
from functools import lru_cache

import torch


@lru_cache(maxsize=8)
def peak_flops_per_second(device: str, dtype: str) -> float:
    """FLOPs a second of a large product of square matrices, the best of five; measured here.

    A data sheet's peak is higher, on accelerators by a tenth to a third.

    Args:
        device: "cpu", "cuda:0", …
        dtype: Type of arithmetic, by torch's name.

    **Cost:** 10 GFLOP on a CPU, 5.5 TFLOP on an accelerator.
    """
    size = 1024 if device == "cpu" else 8192
    kind = getattr(torch, dtype)
    a = torch.ones((size, size), dtype=kind, device=device)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def device_name(device: str) -> str:
    """What people call a device."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
