"""Names → lazy "module:object": methods, row formats, trainers.

Built-ins stand here, one line each; others are entry points of installed plug-ins, in the group
`didact.scorers` and so on.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Literal

import xxhash

from didact.core.errors import ConfigError, did_you_mean

Group = Literal["scorers", "selectors", "orderers", "formats", "trainers"]
METHOD_GROUPS: tuple[Group, ...] = ("scorers", "selectors", "orderers")
_TEXT_KERNELS: Final = Path(__file__).parents[1] / "text"

_BUILT_IN: dict[Group, dict[str, str]] = {
    "scorers": {
        "bits_per_byte": "didact.scoring.bits_per_byte:BitsPerByte",
        "bm25": "didact.scoring.bm25:BM25",
        "classifier": "didact.scoring.classifier:Classifier",
        "column": "didact.scoring.column:Column",
        "compression": "didact.scoring.compression:Compression",
        "dsir": "didact.scoring.dsir:DSIR",
        "embedding": "didact.scoring.embedding:Embedding",
        "ifd": "didact.scoring.ifd:IFD",
        "length": "didact.scoring.length:Length",
        "learned_grade": "didact.scoring.learned_grade:LearnedGrade",
        "less": "didact.scoring.less.less:LESS",
        "lqs": "didact.scoring.adjoint.lqs:LQS",
        "ngram_perplexity": "didact.scoring.ngram_perplexity:NgramPerplexity",
        "pds": "didact.scoring.adjoint.pds:PDS",
        "perplexity": "didact.scoring.perplexity:Perplexity",
        "random": "didact.scoring.random:Random",
        "rds": "didact.scoring.rds:RDS",
        "static_embedding": "didact.scoring.static_embedding:StaticEmbedding",
        "zip_fit": "didact.scoring.zip_fit:ZipFit",
    },
    "selectors": {
        "feature_based": "didact.selection.feature_based.feature_based:feature_based",
        "gumbel_top_k": "didact.selection.gumbel_top_k:gumbel_top_k",
        "middle": "didact.selection.middle:middle",
        "round_robin": "didact.selection.round_robin:round_robin",
        "shingle_novelty": "didact.selection.shingle_novelty.shingle_novelty:shingle_novelty",
        "threshold": "didact.selection.threshold:threshold",
        "top_k": "didact.selection.top_k:top_k",
        "zip": "didact.selection.zip.zip:zip_",
    },
    "orderers": {
        "fold": "didact.ordering.fold:fold",
        "keep": "didact.ordering.keep:keep",
        "saw": "didact.ordering.saw:saw",
        "segment": "didact.ordering.segment:segment",
        "shuffle": "didact.ordering.shuffle:shuffle",
        "sort": "didact.ordering.sort:sort",
        "stair": "didact.ordering.stair:stair",
        "zigzag": "didact.ordering.zigzag:zigzag",
    },
    "formats": {
        "messages": "didact.data.formats.messages:FORMAT",
        "sharegpt": "didact.data.formats.sharegpt:FORMAT",
        "alpaca": "didact.data.formats.alpaca:FORMAT",
        "prompt_completion": "didact.data.formats.prompt_completion:FORMAT",
        "text": "didact.data.formats.text:FORMAT",
        "preference": "didact.data.formats.preference:FORMAT",
        "labelled": "didact.data.formats.labelled:FORMAT",
    },
    "trainers": {
        "axolotl": "didact.data.trainers.axolotl:write_files",
        "hf": "didact.data.trainers.hf:write_files",
        "llama-factory": "didact.data.trainers.llama_factory:write_files",
        "ms-swift": "didact.data.trainers.ms_swift:write_files",
        "nemo-automodel": "didact.data.trainers.nemo_automodel:write_files",
        "torchtitan": "didact.data.trainers.torchtitan:write_files",
        "trl": "didact.data.trainers.trl:write_files",
        "trl-grpo": "didact.data.trainers.trl:write_grpo",
        "trl-reward": "didact.data.trainers.trl:write_reward",
        "verl": "didact.data.trainers.verl:write_files",
    },
}


@cache
def known(group: Group) -> dict[str, str]:
    """Every name of a group with its "module:object", sorted by name.

    Formats stand as they are registered, which is the order in which a row is tried on them.

    Raises:
        ConfigError: Two plug-ins, or a plug-in and didact, claim one name.
    """
    out = dict(_BUILT_IN[group])
    for point in _points(group):
        if out.get(point.name, point.value) != point.value:
            raise ConfigError(
                f"{group}: the name {point.name!r} is claimed by {out[point.name]} and by "
                f"{point.value}; uninstall one of them"
            )
        out[point.name] = point.value
    return out if group == "formats" else dict(sorted(out.items()))


def is_plug_in(group: Group, name: str) -> bool:
    """Whether a known name is not didact's own."""
    return name not in _BUILT_IN[group]


def find(group: Group, name: str) -> Any:
    """The class, function or value behind a name.

    Raises:
        ConfigError: Nothing has this name; the message suggests the nearest.
    """
    names = known(group)
    if name not in names:
        raise ConfigError(f"unknown {group[:-1]} {name!r}{did_you_mean(name, names)}")
    module, _, attribute = names[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{group[:-1]} {name!r} is registered as {names[name]!r}, which cannot be imported "
            f"({error}); repair or uninstall the plug-in"
        ) from error
    if callable(found):
        source_of(found)  # as it is when it is imported, whatever is edited afterwards
    return found


class NameIn:
    """Marks a field of a pydantic model that holds a name of a group, or one of some other words.

    The names are looked up when a value is checked, not when the model is made.
    """

    def __init__(self, group: Group, *others: str) -> None:
        self._group, self._others = group, others

    def names(self) -> list[str]:
        """Every value that the field may have."""
        return [*self._others, *known(self._group)]

    def __get_pydantic_core_schema__(self, *_: Any) -> Any:
        from pydantic_core.core_schema import no_info_plain_validator_function

        return no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        return {"enum": self.names(), "type": "string"}

    def _checked(self, value: Any) -> Any:
        from pydantic_core import PydanticKnownError

        *names, last = self.names()
        if value in [*names, last]:
            return value
        expected = f"{', '.join(map(repr, names))} or {last!r}"
        raise PydanticKnownError("literal_error", {"expected": expected})


def name_of(found: Any) -> str | None:
    """The name a class or function is registered under, or None."""
    place = f"{found.__module__}:{found.__qualname__}"
    for group in METHOD_GROUPS:
        for name, registered in known(group).items():
            if registered == place:
                return name
    return None


@cache
def source_of(found: Any) -> str:
    """Identity of a method's code: what was edited, or upgraded, is another method.

    Of didact's own the text of its module counts, and the version beside it; of a plug-in's the
    text of its whole package, and its version; of both the text of `didact.text`, whose words and
    sizes so many rest on.
    """
    place = f"{found.__module__}:{found.__qualname__}"
    module = sys.modules[found.__module__]
    package = sys.modules.get(found.__module__.partition(".")[0], module)
    paths = [Path(file)] if (file := getattr(module, "__file__", None)) else []
    version = ""
    if package.__name__ != __name__.partition(".")[0]:
        for folder in getattr(package, "__path__", ()):
            paths += Path(folder).rglob("*.py")
        version = next(
            (_version(p) for g in METHOD_GROUPS for p in _points(g) if p.value == place), ""
        )
    hashed = xxhash.xxh3_64()
    for path in sorted(_TEXT_KERNELS.rglob("*.py")):
        hashed.update(path.read_bytes())
    for path in sorted({p.resolve() for p in paths}):
        hashed.update(path.read_bytes())
    return f"{place} {version} {hashed.hexdigest()}"


def plug_in_packages() -> set[str]:
    """Top packages of the methods, formats and trainers of plug-ins."""
    places = (place for group in _BUILT_IN for place in known(group).values())
    return {place.partition(".")[0].partition(":")[0] for place in places} - {"didact"}


def _points(group: Group) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=f"didact.{group}"), key=lambda point: point.name))


def _version(point: EntryPoint) -> str:
    return "" if point.dist is None else f"{point.dist.name} {point.dist.version}"
