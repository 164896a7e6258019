"""What the embeddings of texts share: which fields are compared, and with what of the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from didact.core.identity import about
from didact.core.pool import Pool
from didact.core.protocols import Context, Fitted
from didact.core.sample_field import SampleField
from didact.scoring.similarity.cosines import Encoder, Within, similarity


@dataclass(frozen=True, kw_only=True)
class TextSimilarity:
    """A scorer that embeds one field of a sample and compares it with the target's.

    Args:
        model: A folder with the encoder, or a hub name.
        field: The part of the pool's samples that is embedded.
        target_field: The part of the target's samples; by default as `field`.
        within: How cosines to the samples of one target task become its score: their `mean` or
            `max`; `each` keeps one score per target sample, for `round_robin` over samples.
        reduce: How the scores of several tasks (or target samples) become one.
    """

    model: str
    field: SampleField = "text"
    target_field: SampleField | None = None
    within: Within = "mean"
    reduce: Literal["mean", "max"] = "mean"

    needs_target: ClassVar[bool] = True

    @property
    def where(self) -> str:
        """Where its settings stand in a config, for messages: "score.embedding"."""
        return f"score.{about(type(self)).name}"

    def fitted(
        self,
        target: Pool,
        ctx: Context,
        encoder: Callable[[SampleField], Encoder],
        facts: Mapping[str, Any],
    ) -> Fitted:
        """The target's vectors, embedded with the encoder of a field."""
        return similarity(
            encoder(self.field),
            target,
            ctx,
            target_encoder=encoder(self.target_field or self.field),
            within=self.within,
            reduce=self.reduce,
            where=self.where,
            facts=facts,
        )
