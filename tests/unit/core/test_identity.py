"""Who a method is: its name, its text, and the libraries and models its results depend on."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import re
import shutil
import sys
from functools import partial

import pytest

import didact
from didact.core import registry
from didact.core.identity import about, base_libraries, identity, method, versions
from didact.testing import make_pool
from didact.verbs import context, identified

METHODS = [(group, name) for group in registry.METHOD_GROUPS for name in registry.known(group)]
VERSION = importlib.metadata.version


@method("mine", libraries=("numpy",), models=("model",))
class Mine:
    """A scorer that says who it is."""


class Inherited(Mine):
    """Another one, which has only the code of it."""


def plain(*_):
    """A selector that says nothing."""


@pytest.fixture
def installed(monkeypatch):
    """Pretend that some libraries have these versions."""

    def pretend(**named):
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name: named[name] if name in named else VERSION(name),
        )

    return pretend


# -- every registered method -----------------------------------------------------------------------


@pytest.mark.parametrize(("group", "name"), METHODS)
def test_every_method_says_the_name_it_is_registered_under(group, name):
    found = registry.find(group, name)
    assert about(found).name == name
    assert "about" in vars(found), "it lacks the decorator"


@pytest.mark.parametrize(("group", "name"), METHODS)
def test_models_are_settings_and_libraries_are_ones_that_didact_names(group, name):
    """A misspelt name would be a version that never changes."""
    found = registry.find(group, name)
    settings = inspect.signature(found).parameters
    assert set(about(found).models) <= set(settings)
    given = {
        key: setting.default for key, setting in settings.items()
        if setting.default is not setting.empty
    }  # fmt: skip
    asked = [given, {**given, "near_duplicates": object()}, {**given, "model": "folder"}]
    named = {library for s in asked for library in about(found).libraries(s)}
    known = {re.split(r"[^\w-]", r)[0].lower() for r in importlib.metadata.requires("didact")}
    assert {n.lower().replace("_", "-") for n in named} <= {k.replace("_", "-") for k in known}


def test_a_library_that_is_not_installed_has_no_version():
    asked = ("numpy", "no-such-distribution-anywhere")
    assert list(versions(asked).items()) == [(asked[1], ""), ("numpy", VERSION("numpy"))]


# -- what changes it -------------------------------------------------------------------------------


def of_mine(settings=None, digest=str.upper):
    return identity(Mine, settings or {"model": "folder"}, digest)


def test_an_identity_is_json_and_does_not_change_by_itself():
    assert json.loads(json.dumps(of_mine())) == of_mine()
    assert of_mine()["models"] == {"model": "FOLDER"}
    assert of_mine()["libraries"] == {"numpy": VERSION("numpy")}


def test_the_version_of_a_library_changes_it(installed):
    before, base = of_mine(), base_libraries()
    installed(pyarrow="0.0.1")
    assert of_mine() == before
    assert base_libraries() != base
    installed(numpy="0.0.1")
    assert of_mine() != before
    assert of_mine()["libraries"] == {"numpy": "0.0.1"}


def test_libraries_may_depend_on_settings():
    @method("fast", libraries=lambda s: ("numpy",) if s["fast"] else ())
    def fast():
        pass

    assert identity(fast, {"fast": True}, str.upper)["libraries"] == {"numpy": VERSION("numpy")}
    assert identity(fast, {"fast": False}, str.upper)["libraries"] == {}


def test_the_content_of_a_model_changes_it():
    assert of_mine(digest=lambda _: "one") != of_mine(digest=lambda _: "two")
    assert of_mine({"model": None}, digest=pytest.fail)["models"] == {}


def test_the_module_s_text_changes_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits within a second
    text = "from didact.core.identity import method\n@method('plugged')\ndef plugged():\n    return {}\n"

    def now(returned):
        (tmp_path / "plugged_in.py").write_text(text.format(returned))
        importlib.invalidate_caches()
        sys.modules.pop("plugged_in", None)
        return identity(importlib.import_module("plugged_in").plugged, {}, str.upper)

    first, second = now(1), now(2)
    assert first != second
    assert {**first, "source": ""} == {**second, "source": ""}
    assert now(1) == first
    sys.modules.pop("plugged_in")


def test_the_text_kernels_change_it(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_TEXT_KERNELS", tmp_path)

    def now(rule):
        (tmp_path / "words.py").write_text(f"RULE = {rule}\n")
        registry.source_of.cache_clear()
        return of_mine()["source"]

    assert now(1) != now(2)
    assert now(1) == now(1)
    registry.source_of.cache_clear()


def test_two_methods_of_one_module_differ():
    def other():
        pass

    source = identity(plain, {}, str.upper)["source"]
    assert source != identity(other, {}, str.upper)["source"]


# -- who says nothing ------------------------------------------------------------------------------


def test_a_class_that_inherits_is_not_that_method():
    assert about(Inherited).name == "Inherited"
    assert about(Inherited).models == ()
    assert identity(Inherited, {"model": "folder"}, str.upper)["libraries"] == {}
    assert identity(Inherited, {}, str.upper)["source"] != of_mine()["source"]
    again = method("theirs", libraries=("pyarrow",))(Inherited)
    assert (about(again).name, about(Mine).name) == ("theirs", "mine")


def test_what_is_not_registered_has_its_own_name_and_depends_on_nothing():
    assert about(plain).name == "plain"
    assert identity(plain, {"model": "folder"}, str.upper)["libraries"] == {}


def test_a_registered_method_that_says_nothing_has_its_registered_name(monkeypatch):
    known = {"other_name": f"{plain.__module__}:plain"}
    monkeypatch.setattr(registry, "known", lambda group: known if group == "selectors" else {})
    assert about(plain).name == "other_name"


# -- what is kept by it ----------------------------------------------------------------------------


def entries(folder):
    return len(list(folder.glob("*/entry.json")))


@pytest.mark.parametrize("library", ["numpy", "pyarrow"])
def test_scores_and_selections_are_made_again_for_another_version(library, tmp_path, installed):
    pool = make_pool([{"text": "a"}, {"text": "b b"}], tmp_path)
    ctx = context(workers=1, cache_dir=tmp_path / "cache")

    def both():
        scores = didact.score(pool, "length", ctx=ctx)
        didact.select(pool, scores, "top_k", budget=didact.Budget(samples=1), ctx=ctx)
        return [entries(ctx.cache_dir / kind) for kind in ("scores", "selections")]

    assert both() == both() == [1, 1]
    installed(**{library: "0.0.1"})
    assert both() == both() == [2, 2]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_that_changes_in_its_folder_is_another(file, tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    who = partial(identified, "scorers", "perplexity", {"model": str(folder)})
    before = who()
    assert who() == before
    shutil.copytree(folder, tmp_path / "elsewhere")
    elsewhere = identified("scorers", "perplexity", {"model": str(tmp_path / "elsewhere")})
    assert elsewhere == before  # where it lies does not matter
    data = bytearray((folder / file).read_bytes())
    data[-2:-2] = b" " if file.endswith("json") else b""
    data[-1] ^= 0 if file.endswith("json") else 1
    (folder / file).write_bytes(data)
    assert who() != before
