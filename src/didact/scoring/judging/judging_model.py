"""The judging model: checked against a pool, ready to be opened by a worker."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from didact.core.identity import versions
from didact.core.protocols import Device, Dtype
from didact.models.architecture import read_spec
from didact.models.encode import Encoding, encode
from didact.models.tokens import Tokens

if TYPE_CHECKING:
    from didact.models.language_model import LanguageModel

UNTRAINED = 0.9  # of ln V, the loss of a model that knows nothing
MODEL_LIBRARIES = ("torch", "transformers", "tokenizers")  # what a model computes depends on them


@dataclass(frozen=True, kw_only=True)
class JudgingModel:
    """A language model that was checked and can be opened; small and picklable.

    Attributes:
        path: The model's folder.
        digest: Identity of its files.
        encoding: How samples become its tokens.
        device: Where it runs.
        dtype: Type of weights and arithmetic.
        tokens_per_batch: Most tokens of a batch.
        context: Most tokens it reads at once.
    """

    path: Path
    digest: str
    encoding: Encoding
    device: Device
    dtype: Dtype
    tokens_per_batch: int
    context: int

    @contextmanager
    def open(self, device: str, *, attention: str | None = None) -> Iterator[LanguageModel]:
        """The model on a device."""
        from didact.models.language_model import open_model

        with open_model(self.path, device=device, dtype=self.dtype, attention=attention) as model:
            yield model

    def tokens(self, batch: pa.RecordBatch, model: LanguageModel) -> Tokens:
        """The batch's column `turns` as tokens."""
        return encode(batch.column("turns"), model.tokenizer, self.encoding)

    @property
    def identity(self) -> dict[str, Any]:
        """What values depend on that this model makes; whatever it is shown."""
        return {"model": self.digest, "dtype": self.dtype, "versions": versions(MODEL_LIBRARIES)}

    @property
    def facts(self) -> dict[str, Any]:
        """What the result depends on beside the settings; its dtype shows where it is opened."""
        facts = {k: v for k, v in self.identity.items() if k != "dtype"}
        if self.encoding.kind == "labelled" and self.encoding.loss == "completion":
            facts["note"] = "completions labelled false were judged like the others; leave them out"
        return facts

    def untrained(self, loss: float, of: str) -> str:
        """A warning if the model foretells hardly better than one that knows nothing; else "".

        Args:
            loss: Its mean loss, nats per token, before anything is trained.
            of: What the loss is of: "the target set".

        A model that knows nothing has a loss of ln V with V tokens to choose from, or a little
        more; from 0.9 of that on it is warned.
        """
        blind = math.log(read_spec(self.path).vocab)
        if not loss >= UNTRAINED * blind:
            return ""
        return (
            f"the judging model looks untrained: its loss on {of} is {loss:.2f} nats per token, "
            f"and {blind:.2f} takes no knowledge; give a trained model, or train it (didact train)"
        )


def with_note(facts: Mapping[str, Any], note: str) -> dict[str, Any]:
    """Facts with one more note for people; an empty one adds nothing."""
    notes = [text for text in (facts.get("note"), note) if text]
    return {**facts, "note": "; ".join(notes)} if notes else dict(facts)
