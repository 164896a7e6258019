"""The devices of this machine: they belong to whoever runs the work, not to who asks for it."""

from __future__ import annotations

from didact.core.errors import ConfigError
from didact.core.protocols import Device


def local_devices(setting: Device) -> tuple[str, ...]:
    """The devices that models run on: every visible accelerator, or the CPU.

    torch is asked, since it is what will run there; only where an accelerator may be meant.

    Raises:
        ConfigError: CUDA was asked for and there is none.
    """
    if setting == "cpu":
        return ("cpu",)
    import torch

    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if setting == "cuda" and not n:
        raise ConfigError(
            "device=cuda: no CUDA device is visible to torch; use device=cpu or auto, or install "
            "a CUDA build of torch"
        )
    return tuple(f"cuda:{i}" for i in range(n)) or ("cpu",)
