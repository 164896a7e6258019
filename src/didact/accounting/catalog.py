"""A model known by name or by size alone, as the cost formulas see it; no file is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Final

import numpy as np

from didact.accounting.architectures import bert, llama
from didact.accounting.known_models import DATED, KNOWN_MODELS, KnownModel
from didact.accounting.spec import ModelSpec, headless
from didact.core.errors import ConfigError, did_you_mean

_SUFFIX: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_SIZE = re.compile(r"([+-]?[\d_,]*\.?\d+(?:e[+-]?\d+)?)\s*([kmbt]?)", re.IGNORECASE)
_SMALLEST, _LARGEST = 1e5, 1e13
_MOST_OPEN = Decimal("0.25")  # "1B" may be 0.75 to 1.25 billion, not 0.5 to 1.5
_LARGEST_ENCODER = 1e9  # larger ones are language models without their head
_TIED_BELOW = 4.5e9  # in the table the largest tied one outside of Gemma has 4.02 billion
_MOST_EMBEDDED = 0.25  # the share of a small model that is its embedding
_SMALLEST_ENCODER = 2e7  # in the table
_CONTEXT = 4096
_KINDS_OF_IT = re.compile(r"-(?:instruct|chat|it|hf|pt|deduped)(?=-|$)")
_UNITS = (
    (r"[kmgtp]i?b|[kmgt]?bytes?", "bytes, a size of memory or of a file"),
    (r"[kmbt]?\s*tok(?:en)?s?", "tokens, a size of data"),
    (r"[kmgtpe]?\s*flops?(?:/s)?", "FLOPs, an amount of compute"),
    (r"h|hours?|gpu-?hours?|d|days?|s|min", "a time"),
    (r"usd|\$|eur|€", "money"),
    (r"layers?|samples?|rows?", "a count of something else"),
)


@dataclass(frozen=True, slots=True)
class Described:
    """A model known by name or size alone.

    Attributes:
        given: What it was described by: "Llama-2-7b", "7B".
        spec: Its numbers; for a size those that models of that size typically have.
        low: Factor on its parameters for the least that `given` may mean; 1.0 for a name.
        high: Factor for the most: 7.5 / 7 for "7B"; 1.0 for a name.
        source: Where the numbers are from.
    """

    given: str
    spec: ModelSpec
    low: float
    high: float
    source: str


def described(text: str | float, *, encoder: bool = False) -> Described:
    """A model from its name or its number of parameters.

    Names are those of the table, in any case, with or without the owner, and with or without
    suffixes such as -hf, -instruct, -chat, -it. A size leaves open half a unit of its last digit
    that is not 0, at most a quarter: 7B is 6.5 to 7.5 billion, 70B 65 to 75, 1B 0.75 to 1.25.
    Its shape has the width and vocabulary of the table's models at that size, and as many layers
    as make the sum.

    Args:
        text: "Llama-2-7b", "meta-llama/Llama-2-7b-hf", "7B", "350M", 7e9.
        encoder: Whether it makes vectors of texts: a language model is then read without its
            head, and a size up to one billion is a BERT's.

    Raises:
        ConfigError: Nothing is known by this name; the size is not positive, not one of a model,
            or in another unit.
    """
    given = text.strip() if isinstance(text, str) else f"{text:.15g}"
    if re.match(r"[+-]?\d+,(?!\d{3}(?!\d))", given):
        raise ConfigError(f"model {given!r}: commas part thousands; write a fraction as in 1.5B")
    found = _SIZE.fullmatch(given)
    if found:
        digits = found[1].replace("_", "").replace(",", "")
        return _of_size(given, digits, found[2], encoder=encoder)
    _check_unit(given)
    index = _index()
    for name in _forms(given, of_query=True):
        if name in index:
            row = index[name]
            spec = headless(row.spec) if encoder else row.spec
            return Described(given, spec, 1.0, 1.0, row.source)
    names = [_short(row) for row in KNOWN_MODELS]
    hint = did_you_mean(given.rpartition("/")[2], names)
    raise ConfigError(
        f"model {given!r} is not in the table{hint}; or give its number of parameters: 7B, 350M, "
        "6.74e9"
    )


def _of_size(given: str, digits: str, suffix: str, *, encoder: bool) -> Described:
    number = Decimal(digits)
    size = float(number) * _SUFFIX[suffix.lower()]
    if not size > 0:
        raise ConfigError(f"model {given!r}: a number of parameters above 0 is expected, as in 7B")
    if not _SMALLEST <= size <= _LARGEST:
        hint = f"; did you mean {given}B?" if not suffix and 0.1 <= size <= 1000 else ""
        raise ConfigError(
            f"model {given!r}: {size:,.0f} parameters{hint} (expected 100k to 10T, as in 7B, 350M)"
        )
    step = Decimal(1).scaleb(int(number.normalize().as_tuple().exponent))
    half = float(min(step / 2, _MOST_OPEN * number) / number)
    spec = _encoder(given, size) if encoder else _decoder(given, size)
    source = f"a typical shape for its size, from {len(KNOWN_MODELS)} models' ({DATED})"
    return Described(given, spec, 1 - half, 1 + half, source)


def _check_unit(given: str) -> None:
    if not (found := re.match(r"[+-]?[\d_,]*\.?\d+(?:e[+-]?\d+)?\s*", given, re.IGNORECASE)):
        return
    unit = given[found.end() :].strip()
    for pattern, meaning in _UNITS:
        if re.fullmatch(pattern, unit, re.IGNORECASE):
            raise ConfigError(
                f"model {given!r}: that is {meaning}; expected a number of parameters such as 7B "
                "or 350M, or a model's name"
            )


# -- names -----------------------------------------------------------------------------------------


@cache
def _index() -> dict[str, KnownModel]:
    """Every form of every name; of two rows that share one the first has it."""
    out: dict[str, KnownModel] = {}
    for form in range(4):
        for row in KNOWN_MODELS:
            names = list(dict.fromkeys(_forms(row.repository, of_query=False)))
            if form < len(names):
                out.setdefault(names[form], row)
    return out


def _forms(name: str, *, of_query: bool) -> Iterator[str]:
    """A name as it is and ever shorter, without what does not change the numbers."""
    last = re.sub(r"[_\s]+", "-", name.strip().rpartition("/")[2].lower()).removeprefix("meta-")
    plain = _KINDS_OF_IT.sub("", last)
    bare = re.sub(r"-v[\d.]+$", "", plain)
    forms = [last, plain, bare, re.sub(r"-base(?:-\d{4})?$|-\d{4}$", "", bare)]
    if not of_query:
        forms[-1] = re.sub(r"-en$|-uncased$|-base-2407$", "", bare)
    yield from (form.replace("-", "") for form in forms)


def _short(row: KnownModel) -> str:
    return _KINDS_OF_IT.sub("", row.spec.name.lower()).removeprefix("meta-")


# -- sizes -----------------------------------------------------------------------------------------


def _decoder(given: str, size: float, *, head: bool = True) -> ModelSpec:
    """A Llama of a size: width and vocabulary as in the table near it, layers by the sum."""
    wanted, wide, most = _typical(size, encoder=False)
    head_dim = 64 if wanted < 2048 else 128
    heads = max(round(wanted / head_dim), 1)
    width = heads * head_dim
    vocab = max(round(min(most, _MOST_EMBEDDED * size / width)), 64)

    def shape(layers: int, inner: int) -> ModelSpec:
        whole = llama(
            given, width=width, inner=inner, layers=layers, heads=heads, kv_heads=min(heads, 8),
            head_dim=head_dim, vocab=vocab, context=_CONTEXT, tied=size < _TIED_BELOW,
        )  # fmt: skip
        return whole if head else headless(whole)

    return _summing(shape, size, round(wide * width))


def _encoder(given: str, size: float) -> ModelSpec:
    """A BERT of a size, or beyond one billion a language model without its head."""
    if size > _LARGEST_ENCODER:
        return _decoder(given, size, head=False)
    wanted, wide, most = _typical(size, encoder=True)
    width = max(64 * round(wanted / 64), 64)
    small = size < _SMALLEST_ENCODER  # a vocabulary as in the table would be most of it
    vocab = max(round(min(most, _MOST_EMBEDDED * size / width)), 64) if small else round(most)

    def shape(layers: int, inner: int) -> ModelSpec:
        return bert(given, width=width, layers=layers, inner=inner, vocab=vocab)

    return _summing(shape, size, round(wide * width))


def _summing(shape: Callable[[int, int], ModelSpec], size: float, inner: int) -> ModelSpec:
    """The `shape(layers, inner)` of a size: whole layers first, then `inner` makes up the sum."""

    def missing(layers: int, inner: int) -> float:
        return size - shape(layers, inner).n_total

    first = missing(0, inner)
    layers = max(round(first / (first - missing(1, inner))), 1)
    left = missing(layers, inner)
    inner += round(left / (left - missing(layers, inner + 1)))
    return replace(shape(layers, max(inner, 1)), n_total=round(size))  # rounding left under 0.3 %


def _typical(size: float, *, encoder: bool) -> tuple[float, float, float]:
    """Width, `inner` as a multiple of it, and vocabulary of models about this size.

    Lines through the table's logarithms, weighted by a normal curve over doublings of the size.
    """
    specs = [row.spec for row in KNOWN_MODELS if row.encoder == encoder]
    far = np.log([spec.n_total for spec in specs]) - math.log(size)
    weights = np.exp(-((far / math.log(2)) ** 2) / 4) + 1e-3
    widths = [spec.width for spec in specs]
    inner = [max(d_out for _, d_out, *_ in spec.modules) for spec in specs]
    numbers = (widths, np.divide(inner, widths), [spec.vocab for spec in specs])
    width, wide, vocab = (
        math.exp(float(np.polyfit(far, np.log(each), 1, w=weights)[1])) for each in numbers
    )
    return width, wide, vocab
