"""A model's folder: found, checked and measured without loading the model, or torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from didact.core import atomic, paths
from didact.core.bounded import read_bounded
from didact.core.errors import DataError, MissingDependencyError
from didact.core.nesting import parse_json
from didact.models.copies import local_copy

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
RECORD = "training.json"  # of how a model was made, with times: no part of it
_BESIDE = ("*.json", "*.model", "*.txt", "*.jinja", "trained_on.npy")  # how it is set up and read
_FETCHED = ("*.safetensors", *_BESIDE)
_MAY_ASK_FOR_CODE = ("config.json", "tokenizer_config.json", "processor_config.json")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
_MAX_HEADER = 100_000_000  # bytes; the format's own limit
_MOST_LEVELS = 100  # of a file of JSON; transformers copies what it reads level by level
_BYTES = {"BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "BF16": 2} | {
    f"{kind}{8 * n}": n for kind in "FIU" for n in (1, 2, 4, 8)
}


def find(model: paths.Given) -> Path:
    """The checked folder of a model.

    Args:
        model: A local folder; one behind a URL, which is copied once into the cache; or a name on
            the Hugging Face hub. Of the last two safetensors, configuration and tokenizer files
            are fetched and nothing else.

    Raises:
        DataError: There is no such model, or `check` refuses it.
        MissingDependencyError: A hub name without huggingface_hub.
    """
    path = local_folder(model)
    if path.exists():
        check(path)
        return path
    if not isinstance(model, str) or not _HUB_NAME.fullmatch(model):
        raise DataError(
            f"model {str(model)!r}: no such folder; expected a folder with config.json and "
            f"{WEIGHTS}, or a hub name like 'owner/name'"
        )
    path = _downloaded(model)
    check(path)
    return path


def local_folder(model: paths.Given) -> Path:
    """The path that a model's name is; of what lies behind a URL the copy in the cache.

    Raises:
        DataError: Behind the URL is no model.
    """
    path = paths.place(model)
    return path if isinstance(path, Path) else local_copy(path, _FETCHED, _PICKLES)


def _downloaded(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError(
            f"model {name!r} is not a local folder, and fetching it from the hub needs "
            "huggingface_hub: pip install 'didact[models]', or give a local folder"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FETCHED)))
    except Exception as error:  # also those of whichever HTTP library the hub's client has
        raise DataError(
            f"model {name!r} is neither a folder here nor to be had from the Hugging Face hub "
            f"({type(error).__name__}: {first_line(error)}); give a local folder"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of an error's message; libraries add whole paragraphs of advice."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


@contextmanager
def opening(given: object, fault: str) -> Iterator[None]:
    """Say which folder it is that a library cannot open, and what the library says of it.

    Args:
        given: The folder, as it was named.
        fault: Whose fault is told: "model2vec cannot open it".

    Raises:
        DataError: The library failed; a configuration of anybody makes it fail anyhow.
    """
    try:
        yield
    except Exception as error:
        raise DataError(f"{given}: {fault}: {type(error).__name__}: {error}") from error


def check(path: Path) -> None:
    """Refuse a folder that cannot be loaded, or not without running code that came with it.

    Pickles beside safetensors are left alone: load with `use_safetensors=True`.

    Raises:
        DataError: No configuration; no weights, or only pickled ones; remote code; a damaged,
            short or missing file.
    """
    if not path.is_dir():
        raise DataError(f"{path}: a file; expected the model's folder, give {path.parent}")
    places = _places(path)
    if len(places) == 1 and not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            raise DataError(
                f"{path}: an adapter without its base model; merge the two "
                "(merge_and_unload and save_pretrained in PEFT) and give that folder"
            )
        raise DataError(f"{path}: no config.json; give the folder save_pretrained wrote")
    weights = []
    for place in places:
        _refuse_remote_code(place)
        found = weight_files(place)
        pickles = sorted(p.name for p in place.glob("*") if p.suffix in _PICKLES)
        if not found and pickles:
            raise DataError(
                f"{place / pickles[0]}: pickled weights can run code when they are read; expected "
                f"{WEIGHTS}: load the model once where you trust it and save it again with "
                "save_pretrained, or take a version that has safetensors"
            )
        weights += found
    if not weights:
        raise DataError(
            f"{path}: no weights; expected {WEIGHTS}, or {INDEX} and the files it names: "
            "give the folder save_pretrained wrote"
        )
    for file in weights:
        header(file)


def _places(path: Path) -> list[Path]:
    """The folder and those of its sentence-transformers modules, where it has them."""
    modules = path / "modules.json"
    if not modules.is_file():
        return [path]
    places = [path]
    for module in read_modules(modules):
        if not str(module.get("type", "")).startswith("sentence_transformers."):
            raise DataError(
                f"{modules}: module type {module.get('type')!r} is code that came with the model, "
                "which is never run; give a model of sentence_transformers' own modules"
            )
        place = path / module.get("path", "")
        if place.is_dir() and place not in places:
            places.append(place)
    return places


def _refuse_remote_code(place: Path) -> None:
    for file in (place / name for name in _MAY_ASK_FOR_CODE):
        if file.is_file() and read_json(file, dict).get("auto_map"):
            raise DataError(
                f"{file}: 'auto_map' asks to run code that came with the model, which is never "
                "done; if the installed transformers knows this architecture itself, remove the "
                "entry from a local copy, else give another model"
            )


def weight_files(place: Path) -> list[Path]:
    """The safetensors files of the weights, in transformers' order of preference; [] if none.

    Raises:
        DataError: The index is damaged or names a file that is not there.
    """
    if (place / WEIGHTS).is_file():
        return [place / WEIGHTS]
    index = place / INDEX
    if not index.is_file():
        return []
    named = read_json(index, dict).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise DataError(f"{index}: no 'weight_map'; fetch the file again")
    strange = [name for name in named.values() if not _is_name(name)]
    if strange:
        raise DataError(
            f"{index}: {strange[0]!r:.60} is no file of the model's folder; fetch the file again"
        )
    files = [place / name for name in sorted(set(named.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{index}: names {len(missing)} of {len(files)} files that are not there "
            f"({missing[0]}, …); fetch them again"
        )
    return files


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Shape and type of one tensor, as a safetensors header has them."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


def header(file: Path) -> dict[str, TensorHeader]:
    """Names, shapes and types of a safetensors file's tensors; its data is not read.

    Raises:
        DataError: The header is not one, or the file is shorter or longer than it says.
    """
    n_bytes = file.stat().st_size
    with file.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        if not 2 <= length <= min(n_bytes - 8, _MAX_HEADER):
            raise DataError(
                f"{file}: not a safetensors file, or cut short (a header of {length} bytes in a "
                f"file of {n_bytes}); fetch it again"
            )
        raw = source.read(length)
    try:
        entries = parse_json(raw, levels=_MOST_LEVELS)
        entries.pop("__metadata__", None)
        tensors = {k: TensorHeader(tuple(v["shape"]), str(v["dtype"])) for k, v in entries.items()}
        spans = sorted((int(a), int(b)) for a, b in (v["data_offsets"] for v in entries.values()))
        sized = [
            (v["data_offsets"][1] - v["data_offsets"][0], tensors[k]) for k, v in entries.items()
        ]
        fits = all(n == t.size * _BYTES[t.dtype] for n, t in sized if t.dtype in _BYTES)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{file}: damaged safetensors header; fetch the file again") from error
    bounds = [(0, 0), *spans, (n_bytes - 8 - length,) * 2]
    if not fits or any(a[1] != b[0] for a, b in pairwise(bounds)):
        raise DataError(
            f"{file}: its {len(tensors)} tensors take {bounds[-2][1]} bytes after the header, the "
            f"file has {bounds[-1][1]}; it is cut short or damaged, fetch it again"
        )
    return tensors


def digest(path: Path) -> str:
    """blake2b over names and contents of configuration, tokenizer and weights, 32 hex digits.

    **Cost:** reads the weights once.
    """
    # All safetensors: transformers puts an adapter that lies beside the weights on the model.
    globs = (*_BESIDE, "*.safetensors")
    found = {f for place in _places(path) for glob in globs for f in place.glob(glob)}
    files = {f for f in found if f.name != RECORD}
    named = sorted((f.relative_to(path).as_posix(), f) for f in files)
    return _digest(tuple((name, file, _stamp(file)) for name, file in named))


def _stamp(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@lru_cache(maxsize=16)
def _digest(files: tuple[tuple[str, Path, tuple[int, ...]], ...]) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for name, file, _ in files:
        hasher.update(json.dumps([name, atomic.digest(file)]).encode())
    return hasher.hexdigest()


def read_modules(file: Path) -> list[dict[str, Any]]:
    """The modules that a sentence-transformers modules.json names; DataError where it is none."""
    modules: list[dict[str, Any]] = read_json(file, list)
    if not modules or not all(isinstance(module, dict) for module in modules):
        raise DataError(f"{file}: expected a list of one module or more; fetch the file again")
    for module in modules:
        name = module.get("path", "")
        if name not in ("", ".") and not _is_name(name):
            raise DataError(
                f"{file}: the module's path {name!r:.60} is no folder of the model; fetch the file "
                "again"
            )
    return modules


def _is_name(name: Any) -> bool:
    """Whether a name is that of a file or folder right inside another one."""
    plain = isinstance(name, str) and 0 < len(name) < 256 and name.isprintable()
    return plain and name not in {".", ".."} and not set(name) & {"/", "\\"}


def read_json(file: paths.Place, kind: type) -> Any:
    """A JSON file of one kind, dict or list; DataError for anything else."""
    try:
        value = parse_json(read_bounded(file), levels=_MOST_LEVELS)
    except FileNotFoundError as error:
        raise DataError(
            f"{file}: there is none; expected a model's folder, with its configuration and weights"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not JSON ({error}); fetch the file again") from error
    if not isinstance(value, kind):
        raise DataError(f"{file}: expected a JSON {kind.__name__}; fetch the file again")
    return value
