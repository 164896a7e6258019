"""Finished pieces of a selection under way, so that a killed one goes on where it was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from didact._version import __version__
from didact.core.atomic import replacing
from didact.core.manifest import fingerprint
from didact.text.deflate import fast_backend

if TYPE_CHECKING:
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Int1D


@dataclass(frozen=True, slots=True)
class Kept:
    """Pieces by name, a small file each.

    Attributes:
        folder: Where they are; None keeps nothing.
        key: What they depend on; a file of another key, or a damaged one, is not read.
    """

    folder: Path | None
    key: str

    def load(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """A piece that is there."""
        if self.folder is None:
            return None
        try:
            data = self._path(self.folder, name).read_bytes()
        except OSError:
            return None
        digest, body = data[:16], data[16:]
        if digest != self._digest(body):
            return None
        with np.load(io.BytesIO(body), allow_pickle=False) as file:
            return dict(file)

    def save(self, name: str, **arrays: Int1D) -> None:
        """Keep a piece: numbers from 0 up."""
        if self.folder is None:
            return
        buffer = io.BytesIO()
        small: dict[str, Any] = {
            name: values.astype(np.min_scalar_type(values.max(initial=0)))
            for name, values in arrays.items()
        }
        np.savez(buffer, **small)
        body = buffer.getvalue()
        with replacing(self._path(self.folder, name)) as temporary:
            temporary.write_bytes(self._digest(body) + body)

    @staticmethod
    def _path(folder: Path, name: str) -> Path:
        return folder / f"select-{name}.part"

    def _digest(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self.key.encode()[:64], digest_size=16).digest()


def kept_for(
    ctx: Context, pool: Pool, rows: Int1D, method: str, settings: Mapping[str, Any]
) -> Kept:
    """The pieces of one selection: of this pool, these candidates, method, settings and seed."""
    rensa = importlib.util.find_spec("rensa") is not None
    key = {
        "didact": __version__,
        "pool": pool.fingerprint,
        "rows": hashlib.blake2b(rows.tobytes(), digest_size=16).hexdigest(),
        "method": method,
        "settings": dict(settings),
        "seed": ctx.seed,
        # what sizes and near-duplicates may depend on
        "zlib": "" if fast_backend() else zlib.ZLIB_RUNTIME_VERSION,
        "rensa": importlib.metadata.version("rensa") if rensa else "",
    }
    return Kept(ctx.scratch, fingerprint(key))
