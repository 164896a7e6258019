"""Arms with one value of every axis, and the run configs that they are."""

from __future__ import annotations

import pytest

from didact.comparing.grid import parse_grid
from didact.comparing.settings import plain_config, settings_of
from didact.core.errors import ConfigError


def labels(values):
    return [s.label for s in settings_of(parse_grid(values), "x")]


def test_the_ends_and_random_are_always_there(grid):
    assert labels(grid(arms=[])) == ["base", "all", "random"]


def test_axes_go_to_the_arms_that_have_them(grid):
    arms = [
        {"name": "words", "score": {"method": "bm25"}},
        {"name": "judged", "score": {"method": "perplexity", "model": "m"}},
    ]
    axes = {"score.model": ["m/64k", "m/1M"], "train.learning_rate": [1e-3, 2.5e-4]}
    found = labels(grid(arms=arms, axes=axes, choose_on=["val.jsonl"]))
    rates = ["learning_rate=0.001", "learning_rate=0.00025"]
    assert found == [
        "base",
        *(f"{arm} [{rate}]" for arm in ("all", "random", "words") for rate in rates),
        *(f"judged [model={m}, {rate}]" for m in ("64k", "1M") for rate in rates),
    ]


def test_bases_and_targets_are_told_apart(grid):
    axes = {"base": ["m/1M", "m/15M"], "target": ["gsm.jsonl", "mmlu.jsonl"]}
    found = settings_of(parse_grid(grid(axes=axes)), "x")
    assert [s.place for s in found if s.arm == "words"] == [
        (base, target) for base in ("1M", "15M") for target in ("gsm.jsonl", "mmlu.jsonl")
    ]
    targets = [s.sections["score"]["target"] for s in found if s.arm == "words"]
    assert targets == ["gsm.jsonl", "mmlu.jsonl"] * 2
    assert sum(s.arm == "random" for s in found) == 2


def test_scores_are_drawn_anew_only_where_the_choice_is_a_draw(grid):
    checked = parse_grid(grid(arms=[
        {"name": "words", "score": {"method": "bm25"}},
        {"name": "gumbel", "score": {"method": "bm25"}, "select": {"method": "gumbel_top_k"}},
    ]))  # fmt: skip
    drawn = {}
    for setting in settings_of(checked, "x")[2:]:
        plain = plain_config(checked, setting, seed=5, flops=1e9, model="M", files=["f"])
        drawn[setting.arm] = plain["seeds"]["draw"]
        assert plain["seeds"]["order"] == plain["seeds"]["init"] == 5
        assert plain["select"]["budget"] == {"flops": 1e9}
    assert drawn == {"random": 5, "words": 3, "gumbel": 5}


def test_what_takes_everything_at_a_full_pass(grid):
    arms = [
        {"name": "plain", "score": {"method": "bm25"}},
        {"name": "sorted", "score": {"method": "bm25"}, "order": {"method": "sort"}},
        {"name": "quotas", "score": {"method": "bm25"},
         "select": {"method": "top_k", "quotas": {"at_most": 0.5}}},
        {"name": "zip", "select": {"method": "zip"}},
    ]  # fmt: skip
    found = {s.arm: s.takes_everything for s in settings_of(parse_grid(grid(arms=arms)), "x")}
    assert found == {
        "base": False, "all": False, "random": True, "plain": True, "sorted": False,
        "quotas": False, "zip": False,
    }  # fmt: skip


def test_folders_have_names_that_are_unique(grid):
    arms = [{"name": name, "score": {"method": "bm25"}} for name in ("a/b", "a b", "ok-1.5")]
    slugs = [s.slug() for s in settings_of(parse_grid(grid(arms=arms)), "x")]
    assert len(set(slugs)) == len(slugs)
    assert slugs[-1] == "ok-1.5"
    assert not any("/" in slug or " " in slug for slug in slugs)


def test_folders_of_axes_can_be_read(grid):
    axes = {"train.learning_rate": [1e-3, 1e-4]}
    found = settings_of(parse_grid(grid(axes=axes, choose_on=["val.jsonl"])), "x")
    assert found[-1].slug() == "words+learning_rate=0.0001"


def test_arms_that_differ_in_case_alone_are_refused(grid):
    arms = [{"name": name, "score": {"method": "bm25"}} for name in ("words", "Words")]
    with pytest.raises(ConfigError, match="on a disk that knows no case; rename one"):
        settings_of(parse_grid(grid(arms=arms)), "x")


def test_a_scorer_whose_settings_say_that_it_needs_a_target_gets_the_grids(grid):
    arms = [
        {"name": "of target", "score": {"method": "ngram_perplexity"}},
        {"name": "of text", "score": {"method": "ngram_perplexity", "text": "clean.txt"}},
    ]
    found = settings_of(parse_grid(grid(arms=arms, axes={"target": ["a.jsonl", "b.jsonl"]})), "x")
    targets = [(s.arm, s.sections["score"].get("target")) for s in found[3:]]
    assert targets == [("of target", "a.jsonl"), ("of target", "b.jsonl"), ("of text", None)]
