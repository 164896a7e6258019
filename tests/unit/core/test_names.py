"""The registry and the binding of settings."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import EntryPoint
from typing import Annotated

import pytest
from pydantic import Field

from didact.core import binding, registry
from didact.core.errors import ConfigError


def method(pool, /, *, k1: float = 1.2, name: str, layers: Annotated[int, Field(ge=1)] = 3):
    return pool, k1, name, layers


@dataclass(frozen=True, kw_only=True)
class Method:
    k1: float = 1.2


def test_settings_are_the_keyword_only_parameters():
    assert binding.bind(method, {"name": "a", "k1": "2"}, "score.m") == {
        "k1": 2.0,
        "name": "a",
        "layers": 3,
    }
    assert binding.bind(Method, {}, "score.m") == {"k1": 1.2}
    assert binding.as_json(method, {"name": "a"}) == {"k1": 1.2, "name": "a", "layers": 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a", "k_1": 1}, r"score.m: unknown setting 'k_1'; did you mean 'k1'\? \(known: k1, layers, name\)"),
        ({}, r"score.m.name: this setting is required"),
        ({"name": "a", "layers": 0}, r"score.m.layers: .*greater than or equal to 1; got 0"),
        ({"name": "a", "k1": "x"}, r"score.m.k1: .*valid number.*; got 'x'"),
        ({"name": "a", "k1": float("nan")}, r"score.m.k1: .*finite"),
    ],
)  # fmt: skip
def test_wrong_settings_are_explained(settings, message):
    with pytest.raises(ConfigError, match=message):
        binding.bind(method, settings, "score.m")


BASE = """
from __future__ import annotations
from dataclasses import dataclass
from decimal import Decimal as Exact
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from pydantic import Field
if TYPE_CHECKING:
    from somewhere import Elsewhere, Pool

@dataclass(frozen=True, kw_only=True)
class Base:
    name: ClassVar[str] = "base"
    share: Annotated[Exact, Field(gt=0)] = Exact("0.5")
    unit: Literal["nats", "bits"] = "nats"
    layers: list[Annotated[int, Field(ge=1)]] | None = None

class Plain:
    def __init__(self, *, amount: Annotated[Exact, Field(gt=0)]) -> None:
        self.amount = amount

def select(pool: Pool, /, *, amount: Exact) -> Pool:
    return pool

@dataclass(frozen=True, kw_only=True)
class Unreadable:
    other: Elsewhere
"""
METHODS = """
from dataclasses import dataclass
from functools import wraps
from base_of_a_plug_in import Base, Plain, Unreadable, select

Exact = str  # another thing by the same name

@dataclass(frozen=True, kw_only=True)
class Mine(Base):
    own: "Exact" = "a"

class Undecorated(Base):
    pass

class AlsoPlain(Plain):
    amount: "Exact"

@wraps(select)
def wrapped(*arguments, **settings):
    return select(*arguments, **settings)

@dataclass(frozen=True, kw_only=True)
class AlsoUnreadable(Unreadable):
    own: int = 1
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """A module whose methods inherit from another one's, where annotations are postponed."""
    (tmp_path / "base_of_a_plug_in.py").write_text(BASE)
    (tmp_path / "a_plug_in.py").write_text(METHODS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("a_plug_in")
    for name in ("base_of_a_plug_in", "a_plug_in"):
        del sys.modules[name]


def test_inherited_settings_have_the_types_of_the_module_that_wrote_them(plug_in):
    given = {"share": "0.25", "unit": "bits", "layers": [1, 2], "own": "b"}
    expected = {"share": Decimal("0.25"), "unit": "bits", "layers": [1, 2]}
    assert binding.bind(plug_in.Mine, given, "score.m") == {**expected, "own": "b"}
    del given["own"]
    assert binding.bind(plug_in.Undecorated, given, "score.m") == expected
    assert binding.bind(plug_in.AlsoPlain, {"amount": "2"}, "score.m") == {"amount": Decimal(2)}
    assert binding.bind(plug_in.wrapped, {"amount": "2"}, "select.m") == {"amount": Decimal(2)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": "0"}, r"score.m.share: .*greater than 0; got '0'"),
        ({"unit": "bit"}, r"score.m.unit: .*'nats' or 'bits'; got 'bit'"),
        ({"layers": [1, 0]}, r"score.m.layers.1: .*greater than or equal to 1; got 0"),
    ],
)
def test_inherited_settings_keep_their_ranges(plug_in, settings, message):
    with pytest.raises(ConfigError, match=message):
        binding.bind(plug_in.Mine, settings, "score.m")


def test_a_type_that_cannot_be_read_is_named_with_the_remedy(plug_in):
    with pytest.raises(
        ConfigError,
        match=r"a_plug_in.AlsoUnreadable: the type 'Elsewhere' of its setting 'other' cannot be "
        r"read \(name 'Elsewhere' is not defined\); import or define .* at the top of "
        r"base_of_a_plug_in, not under TYPE_CHECKING",
    ):
        binding.schema(plug_in.AlsoUnreadable)


@pytest.mark.parametrize("group", registry.METHOD_GROUPS)
def test_every_name_resolves(group):
    for name in registry.known(group):
        assert callable(registry.find(group, name))


def test_an_unknown_name_gets_suggestions():
    with pytest.raises(
        ConfigError, match=r"unknown scorer 'compresion'; did you mean 'compression'"
    ):
        registry.find("scorers", "compresion")


@pytest.fixture
def plug_ins(monkeypatch):
    def install(*points):
        monkeypatch.setattr(
            registry,
            "entry_points",
            lambda group: [EntryPoint(n, v, group) for n, v in points if group == "didact.scorers"],
        )
        registry.known.cache_clear()

    yield install
    registry.known.cache_clear()


def test_a_plug_in_is_found_by_name(plug_ins):
    plug_ins(("mine", "didact.scoring.length:Length"))
    assert registry.find("scorers", "mine").__name__ == "Length"


def test_two_claims_on_a_name_are_an_error(plug_ins):
    plug_ins(("bm25", "somebody.else:BM25"))
    with pytest.raises(ConfigError, match=r"'bm25' is claimed by didact.scoring.bm25:BM25 and by"):
        registry.known("scorers")
