"""N-gram perplexity: how well an n-gram model of a clean text foretells a sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, DataError, need
from didact.core.findings import counted, were
from didact.core.identity import identity_of_file, method, versions
from didact.core.keep import keep
from didact.core.one_pass import one_pass
from didact.core.paths import Place, RemotePath, masked, place, shown
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted, Progress
from didact.core.sample_field import SampleField, check_fields
from didact.data.reading.files import Codec, File, chunks, readable
from didact.data.reading.ingest import read_pool
from didact.data.reading.settings import DataSettings
from didact.scoring.around.about_scores import UNKNOWN
from didact.text.ngram_lm import kenlm_binary
from didact.text.ngram_lm.tokens import Sentence, Sentences, Unit, sentences_of

# Processor seconds a byte on one core of an AMD EPYC (Zen 3) that is shared with others, reading
# included: of the pool's texts, of a text that is counted, and of an ARPA file. Only `estimate`
# uses them. Of words 12 to 28 by the size of the model, which estimates do not know.
_SECONDS_PER_BYTE: Final[dict[Unit, float]] = {
    "words": 22e-9, "whitespace": 22e-9, "characters": 55e-9
}  # fmt: skip
_SECONDS_PER_BYTE_COUNTED: Final[dict[Unit, float]] = {
    "words": 200e-9, "whitespace": 200e-9, "characters": 350e-9
}  # fmt: skip
_SECONDS_PER_BYTE_OF_ARPA: Final = 20e-9
# Of the pool's texts by a KenLM binary, which is mapped into memory and costs nothing by itself.
_SECONDS_PER_BYTE_BY_BINARY: Final[dict[Unit, float]] = {
    "words": 400e-9, "whitespace": 90e-9, "characters": 280e-9
}  # fmt: skip
_KIND: Final = "ngram-models"  # in the cache
_RULE: Final = 1  # raised when the same text gives another model
_COMPRESSED: Final[dict[bytes, Codec]] = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
_FEW: Final = 0.9  # share of a file's words that a unit gives as they are; below it is noted
_MISSING: Final[dict[Unit, str]] = {
    "words": "no words: a perplexity needs at least one token",
    "characters": "no characters but white space: a perplexity needs at least one token",
    "whitespace": "nothing but white space: a perplexity needs at least one token",
}


def _libraries(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """`kenlm`, where it judges."""
    return ("kenlm",) if _is_binary(settings.get("model")) else ()


@method("ngram_perplexity", libraries=_libraries, files=("model", "text"), needs=("fast",))
@dataclass(frozen=True, kw_only=True)
class NgramPerplexity:
    """Perplexity of each sample by an n-gram model of the target set, of a text, or of a file.

    Lowest is text like the one the model is of; which end is better is a setting. Perplexity is
    10 ^ (-log₁₀ p / tokens): a mean per token, so that long samples are not disfavored, in which
    every sentence has one token more, its end. Its log₂ is bits per token: per word, or with
    `unit: characters` per character.

    The model is made here, interpolated modified Kneser-Ney as KenLM's `lmplz` makes it without
    pruning, or read from an ARPA file (.gz, .zst) or, with the extra `kenlm`, from a KenLM binary.
    What a model does not know has the probability of `<unk>`; the column `unknown` has the share of
    such tokens. `<s>` and `</s>` in a text are unknown tokens like others.

    Args:
        order: Words of the longest n-grams; 5 where nothing is given, of a file what it has.
        unit: What a token is. `words`: those of `didact.text.words`, in lower case, without
            punctuation, in scripts without spaces a character. `characters`: as they are, a run of
            white space being one. `whitespace`: what stands between white space, as it is, which
            is what `kenlm` makes of a text; for files that were made that way.
        sentence: A sentence is a `line`, as in KenLM's tools and CCNet, or the whole `text`.
        model: An ARPA file or a KenLM binary, instead of a target set.
        text: A file with text to make the model of, in any format that pools have, instead of a
            target set; what is read is each row's whole text. Rows that cannot be read are left
            out, and counted in the note.
        prefer: Which end is better.
        field: The part of the pool's samples that is scored.
        target_field: The part of the target's samples that the model is of; by default as `field`.

    **Source:** Chen and Goodman 1998; KenLM (Heafield 2011; Heafield et al. 2013); as a filter
    CCNet (Wenzek et al. 2020, arXiv:1911.00359). Equal to `kenlm` on an ARPA file and to `lmplz` on
    a text, in differential tests. Where an order has no n-gram that counts as 1, 2 or 3, as in a
    target of few rows, its discounts are ½, 1 and 1½, as with `lmplz --discount_fallback`; the note
    says so.
    **Cost:** one pass over the text, 12 to 28 ns a byte for words by the size of the model and 55
    for characters, on one core; with a KenLM binary 400 for words, 90 for `whitespace` and 280 for
    characters. Making a model: 200 ns a byte of its text, characters 350; 24 bytes an n-gram on
    disk and in memory, 55 while it is made.
    """

    order: Annotated[int, Field(ge=1, le=5)] | None = None
    unit: Unit = "words"
    sentence: Sentence = "line"
    model: Annotated[str, Field(min_length=1)] | None = None
    text: Annotated[str, Field(min_length=1)] | None = None
    prefer: Literal["lowest", "highest"] = "lowest"
    field: SampleField = "text"
    target_field: SampleField | None = None

    @property
    def needs_target(self) -> bool:
        """Whether the model is of the target set."""
        return self.model is None and self.text is None

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes of the pool, and of what the model is made of, times their rates."""
        if _is_binary(self.model):
            return Cost(cpu_seconds=_SECONDS_PER_BYTE_BY_BINARY[self.unit] * pool.n_bytes)
        seconds = _SECONDS_PER_BYTE[self.unit] * pool.n_bytes
        if self.model is not None:
            seconds += _SECONDS_PER_BYTE_OF_ARPA * _size(self.model)
        elif self.text is not None:
            seconds += _SECONDS_PER_BYTE_COUNTED[self.unit] * _size(self.text)
        elif target is not None:
            seconds += _SECONDS_PER_BYTE_COUNTED[self.unit] * target.n_bytes
        return Cost(cpu_seconds=seconds)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Make the model or read it; it lies in the cache from then on.

        Raises:
            ConfigError: Two of a target set, `model` and `text`; an `order` that a file does not
                have; or a `target_field` without a target set.
            DataError: A file is damaged, or what the model is made of has no tokens.
            MissingDependencyError: numba is not installed, or kenlm for a KenLM binary.
        """
        need("ngram_perplexity", "fast")
        of_target = target if self.needs_target else None
        where = "score.ngram_perplexity"
        target_field = check_fields(pool, of_target, self.field, self.target_field, where)
        if self.model is not None and self.text is not None:
            raise ConfigError(
                f"score.ngram_perplexity: model={shown(self.model)} and text={shown(self.text)}; "
                "give the file of a model or the text to make one of, not both"
            )
        if self.target_field is not None and not self.needs_target:
            raise ConfigError(
                f"score.ngram_perplexity.target_field={self.target_field}: there is no target set "
                "of which to take a part, with model or text; leave it out"
            )
        if target is not None and not self.needs_target:
            given = f"model={self.model}" if self.model is not None else f"text={self.text}"
            given = masked(given)
            raise ConfigError(
                f"score.ngram_perplexity: {given} and a target set, which is another thing to make "
                "the model of; leave out one of the two"
            )
        if self.model is not None:
            path = place(self.model)
            if _beginning(path).startswith(kenlm_binary.MAGIC):
                if isinstance(path, RemotePath):
                    raise DataError(
                        f"{path}: is a KenLM binary, which is read from a disk alone; expected a "
                        "local file, or an ARPA file: download it"
                    )
                return self._by_binary(path)
            folder, about = self._read(path, ctx)
        elif self.text is not None:
            settings = DataSettings(on_bad_row="skip")
            of = read_pool([self.text], settings, ctx, role="target").pool
            folder, about = self._made(of, "text", ctx)
            about["text_rejected"] = sum(f.count for f in of.findings if f.kind == "rejected")
        else:
            assert target is not None  # noqa: S101 - `needs_target` says so
            folder, about = self._made(target, target_field, ctx)
        note = "; ".join(self._notes(about))
        return self._fitted(_open_model, folder, {**about, **({"note": note} if note else {})})

    def _fitted(self, opened: Any, path: Path, facts: dict[str, Any]) -> Fitted:
        return one_pass(
            partial(judged, unit=self.unit, sentence=self.sentence),
            (self.field,),
            higher_is_better=self.prefer == "highest",
            facts=facts,
            open=partial(opened, path),
        )

    def _by_binary(self, path: Path) -> Fitted:
        order = int(kenlm_binary.open_binary(path).order)  # here, so that it is refused at once
        self._check_order(path, order)
        return self._fitted(_open_binary, path, {"order": order, "versions": versions(("kenlm",))})

    def _read(self, path: Place, ctx: Context) -> tuple[Path, dict[str, Any]]:
        """The model of an ARPA file: where it lies, and what should be known of it."""
        key = [_RULE, "arpa", identity_of_file(path), versions(("pyarrow",))]

        def make(work: Context) -> Any:
            from didact.text.ngram_lm.arpa import read_arpa

            size = path.stat().st_size

            def watch(done: int) -> None:
                work.progress(Progress("read model", done, size, "bytes"))

            return read_arpa(chunks(File(path, "arpa", _codec(path), watch=watch)), str(path))

        folder, about = keep(ctx, _KIND, key, make, save=_save, load=_load)
        self._check_order(path, len(about["ngrams"]))
        return folder, about

    def _made(self, of: Pool, field: SampleField, ctx: Context) -> tuple[Path, dict[str, Any]]:
        """A model of the texts of a pool: where it lies, and what should be known of it."""
        order = self.order or 5
        asked = [of.fingerprint, field, order, self.unit, self.sentence]
        key = [_RULE, *asked, versions(("pyarrow",))]  # which lowers the case of words

        def make(work: Context) -> Any:
            from didact.text.ngram_lm.counting import Counts

            counts = Counts(order)
            task = _Cut(of, field, self.unit, self.sentence)
            done = 0
            for rows, found in work.executor.map(cut, of.batches(), shared=task):
                counts.add(found)
                done += rows
                work.progress(Progress("count n-grams", done, len(of)))
            if not counts.tokens:
                raise DataError(
                    f"score.ngram_perplexity: the {field} of the {len(of)} samples that the model "
                    f"is made of has no {self.unit}; give other samples, or set "
                    "score.ngram_perplexity.target_field to the part that has them"
                )
            return counts.estimate()

        return keep(ctx, _KIND, key, make, save=_save, load=_load)

    def _check_order(self, path: Place, order: int) -> None:
        if self.order is not None and self.order != order:
            raise ConfigError(
                f"score.ngram_perplexity.order={self.order}: {path} is a model of order {order}; "
                f"set {order} or leave the setting out"
            )

    def _notes(self, about: dict[str, Any]) -> Iterator[str]:
        """What people should know of the model."""
        if orders := about.get("fallback"):
            yield (
                f"the text of the model ({about['tokens']:,} tokens) is too little to tell what to "
                f"take off the counts of its {_listed(orders)}-grams: ½, 1 and 1½, as `lmplz "
                "--discount_fallback` does"
            )
        if (share := about.get("spelled", {}).get(self.unit, 1.0)) < _FEW:
            yield (
                f"{1 - share:.0%} of the words of {self.model} are none that unit={self.unit} ever "
                "gives, so they match nothing; unit=whitespace reads texts as they are"
            )
        if not about.get("has_unk", True):
            yield (
                f"{self.model} has no <unk>: a word it does not know has a log₁₀ p of -100, as in "
                "KenLM, so scores are above all the share of such words (column unknown); "
                "make it again with <unk> (SRILM: ngram-count -unk)"
            )
        if rejected := about.get("text_rejected"):
            of = f"{counted(rejected, 'row')} of {shown(self.text)}"
            yield f"{of} {were(rejected)} no sample: left out"


@dataclass(frozen=True, slots=True)
class _Cut:
    """What a worker needs that cuts texts into tokens."""

    pool: Pool
    field: SampleField
    unit: Unit
    sentence: Sentence


def cut(task: _Cut, rows: range) -> Metered[tuple[int, Sentences]]:
    """How many rows a range has, and their sentences."""
    texts = task.pool.read(rows, [task.field]).column(0)
    return Metered((len(rows), sentences_of(texts, task.unit, task.sentence)))


def judged(judge: Any, batch: pa.RecordBatch, *, unit: Unit, sentence: Sentence) -> BatchScores:
    """Perplexity of each text in the batch's only column; those without tokens are missing."""
    found = judge(batch.column(0), unit, sentence)
    missing = {int(row): _MISSING[unit] for row in np.flatnonzero(found.tokens == 0)}
    values = np.where(found.tokens > 0, found.perplexity, 0.0)
    return BatchScores(values.reshape(-1, 1), {UNKNOWN: found.unknown_share}, missing)


@contextmanager
def _open_model(folder: Path) -> Iterator[Any]:
    """A model in the cache, its cells shared by all workers of a machine."""
    from didact.text.ngram_lm.model import Model

    about = json.loads((folder / "about.json").read_bytes())
    cells = np.load(folder / "cells.npy", mmap_mode="r", allow_pickle=False)
    yield Model(np.asarray(cells), np.array(about["sizes"]), about["closed"]).judge


@contextmanager
def _open_binary(path: Path) -> Iterator[Any]:
    yield partial(kenlm_binary.judge, kenlm_binary.open_binary(path))


def _save(model: Any, folder: Path) -> None:
    np.save(folder / "cells.npy", model.cells, allow_pickle=False)
    about = {"sizes": model.sizes.tolist(), "closed": bool(model.closed), "about": model.about}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _load(folder: Path) -> tuple[Path, dict[str, Any]]:
    return folder, json.loads((folder / "about.json").read_bytes())["about"]


def _raw(path: Place) -> bytes:
    with readable(path), path.open("rb") as file:
        return file.read(1 << 12)


def _codec(path: Place) -> Codec:
    """How a file is compressed, by its first bytes."""
    raw = _raw(path)
    found: list[Codec] = [codec for magic, codec in _COMPRESSED.items() if raw.startswith(magic)]
    return found[0] if found else ""


def _beginning(path: Place) -> bytes:
    """The first bytes of a model's file, decompressed.

    Raises:
        DataError: They are neither text nor a KenLM binary.
    """
    codec = _codec(path)
    raw = next(iter(chunks(File(path, "arpa", codec))), b"") if codec else _raw(path)
    if not raw.startswith(kenlm_binary.MAGIC) and (b"\0" in raw or not raw.strip()):
        what = f"begins with the bytes {raw[:16]!r}" if raw else "is empty"
        raise DataError(
            f"{path}: {what}; expected an ARPA file, which is text and begins with \\data\\, or a "
            "KenLM binary: check the path"
        )
    return raw


def _is_binary(model: str | None) -> bool:
    """Whether a model is a KenLM binary; a file that is not there is none: fitting will say so."""
    path = place(model or "")
    return path.is_file() and _raw(path).startswith(kenlm_binary.MAGIC)


def _size(path: str) -> int:
    """Bytes of a file, 0 where there is none: fitting will say so."""
    file = place(path)
    return file.stat().st_size if file.is_file() else 0


def _listed(orders: list[int]) -> str:
    *first, last = (str(order) for order in orders)
    return f"{', '.join(first)} and {last}" if first else last
