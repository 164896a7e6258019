"""The registry and the binding of settings."""

from __future__ import annotations

from dataclasses import dataclass
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
