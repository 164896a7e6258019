"""The model that is evaluated: found, opened, and what its folder says of its training."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from didact.accounting.spec import ModelSpec
from didact.core.arrays import UInt64s
from didact.core.errors import DataError, need
from didact.core.manifest import fingerprint
from didact.core.paths import Given, shown
from didact.core.protocols import Dtype
from didact.models.encode import Encoding
from didact.models.folder import (
    RECORD,
    digest,
    find,
    header,
    local_folder,
    read_json,
    weight_files,
)  # fmt: skip
from didact.training.trained import seen_by

if TYPE_CHECKING:
    from didact.models.language_model import LanguageModel

ADAPTER: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_LOW_RANK: Final = re.compile(r"\.lora_[AB]\.")
_NOT_TOLD: Final = {"settings", "seconds", "peak_flops_per_second", "mfu", "cost", "device"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModel:
    """A model that was found and checked, and can be opened; small and picklable.

    Attributes:
        given: As the user named it.
        folder: The folder that was trained: the model's, or the adapter's.
        path: The model's folder; of an adapter its base's.
        digest: Identity of its files.
    """

    given: str
    folder: Path
    path: Path
    digest: str

    @property
    def adapted(self) -> bool:
        """Whether the folder is an adapter's."""
        return self.folder != self.path

    @property
    def tokenizer_folder(self) -> Path:
        """Where its tokenizer is: beside the adapter if there is one, else the model's."""
        return self.folder if (self.folder / "tokenizer.json").is_file() else self.path

    @property
    def has_chat_template(self) -> bool:
        """Whether its tokenizer has a chat template."""
        from didact.models.language_model import open_tokenizer

        return bool(getattr(open_tokenizer(self.tokenizer_folder), "chat_template", None))

    @contextmanager
    def open(self, device: str, dtype: Dtype) -> Iterator[LanguageModel]:
        """The model on a device."""
        from didact.models.language_model import open_model, open_tokenizer
        from didact.training.adapters import open_adapter

        with open_model(self.path, device=device, dtype=dtype) as model:
            opened = model
            if self.adapted:
                opened = replace(open_adapter(model, self.folder), spec=self.spec())
                if self.tokenizer_folder != self.path:
                    tokenizer = open_tokenizer(self.folder)
                    opened = replace(
                        opened, tokenizer=tokenizer, pad_id=tokenizer.pad_token_id or 0
                    )
            yield opened

    def spec(self, encodings: Sequence[Encoding] = ()) -> ModelSpec:
        """The numbers of the model, its adapter's included, as its cost depends on them.

        Args:
            encodings: How it is shown samples, of each kind that there is.
        """
        from didact.models.language_model import spec_as_shown

        spec = spec_as_shown(self.path, encodings, tokenizer_folder=self.tokenizer_folder)
        if self.adapted:
            tensors = header(self.folder / ADAPTER_WEIGHTS).items()
            low = [(t.shape[0], t.shape[1], 1) for name, t in tensors if _LOW_RANK.search(name)]
            spec = replace(spec, matrices=(*spec.matrices, *low))
        return spec

    def trained_on(self) -> UInt64s | None:
        """Content hashes of what it was trained on, its base's among them; None if unknown."""
        known = [s for f in {self.folder, self.path} if (s := seen_by(f)) is not None]
        return np.unique(np.concatenate(known)) if known else None

    def training(self) -> dict[str, Any] | None:
        """What its folder says of its training; None where it says nothing.

        Raises:
            DataError: What it says is damaged.
        """
        path = self.folder / RECORD
        return read_json(path, dict) if path.is_file() else None


def find_evaluated(model: Given) -> EvaluatedModel:
    """The model behind a name: a folder, a run's folder, an adapter's, or a hub name.

    Raises:
        DataError: There is none; it is half written or damaged; its base is not to be found.
        MissingDependencyError: The libraries of models are not installed.
    """
    need("evaluating a model", "models")
    path = local_folder(model)
    if not (path / "config.json").is_file() and not (path / ADAPTER).is_file():
        inside = path / "model"  # a run keeps its model there
        if path.is_dir() and inside.is_dir():
            path = inside
    if (path / ADAPTER).is_file() and not weight_files(path):
        return _adapted(shown(model), path)
    found = find(path if path.exists() else model)
    return EvaluatedModel(given=shown(model), folder=found, path=found, digest=digest(found))


def _adapted(given: str, folder: Path) -> EvaluatedModel:
    """The model of an adapter's folder, on its base."""
    config = read_json(folder / ADAPTER, dict)
    kind, named = config.get("peft_type"), str(config.get("base_model_name_or_path") or "")
    if kind != "LORA" or not named:
        raise DataError(
            f"{folder / ADAPTER}: an adapter of type {kind} on {named or 'no model'}; expected "
            "LORA and its base model: merge the two (merge_and_unload and save_pretrained in PEFT)"
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise DataError(
            f"{folder}: no {ADAPTER_WEIGHTS}; the adapter was not written whole, or as a "
            "pickle, which can run code: save it again with save_pretrained"
        )
    near = [p for p in (Path(named), folder / named, folder.parent / named) if p.is_dir()]
    try:
        base = find(near[0] if near else named)
    except DataError as error:
        raise DataError(
            f"{folder}: the adapter's base model {named!r} is not to be found ({error}); put it "
            f"there, or correct base_model_name_or_path in {folder / ADAPTER}"
        ) from error
    both = fingerprint([digest(base), digest(folder)])
    return EvaluatedModel(given=given, folder=folder, path=base, digest=both)


def training_facts(model: EvaluatedModel) -> dict[str, Any] | None:
    """Its training as tables carry it: without the settings, and without what was measured."""
    found = model.training()
    if found is None:
        return None
    return {name: value for name, value in found.items() if name not in _NOT_TOLD}
