"""Finished pieces of a selection under way, so that a killed one goes on where it was."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from didact.core.arrays import Int1D
    from didact.core.pieces import Pieces

Arrays = dict[str, npt.NDArray[Any]]


def load_piece(pieces: Pieces, name: str) -> Arrays | None:
    """A piece that is there."""
    return pieces.load(name, read_arrays)


def save_piece(pieces: Pieces, name: str, **arrays: Int1D) -> None:
    """Keep a piece: numbers from 0 up. It stands for everything up to it."""
    pieces.save(name, partial(write_arrays, arrays))


def write_arrays(arrays: Arrays, folder: Path) -> None:
    """Write numbers from 0 up into a folder, each array in the smallest type that holds it."""
    small: dict[str, Any] = {
        name: values.astype(np.min_scalar_type(values.max(initial=0)))
        for name, values in arrays.items()
    }
    with (folder / "arrays.npz").open("wb") as file:
        np.savez(file, **small)


def read_arrays(folder: Path) -> Arrays:
    """What `write_arrays` wrote."""
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        return dict(file)
