from __future__ import annotations

import pytest

from didact.config import apply, load, parse, parse_yaml
from didact.core.errors import BudgetError, ConfigError, did_you_mean

MINIMAL = {"data": {"path": "pool.jsonl"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e18", 1e18),
        ("1.0e18", 1e18),
        ("1E6", 1e6),
        ("2_000_000", 2_000_000),
        ("-3", -3),
        ("0.25", 0.25),
        (".5", 0.5),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("3:25", "3:25"),
        ("2024-01-02", "2024-01-02"),
        ("0x10", "0x10"),
        ("012", 12),
        ("true", True),
        ("null", None),
        ("~", None),
        ("1.2.3", "1.2.3"),
        ("'1e18'", "1e18"),
    ],
)
def test_yaml_scalars_mean_what_people_read(text, value):
    found = parse_yaml(f"x: {text}")["x"]
    assert found == value
    assert type(found) is type(value)


def test_a_key_given_twice_is_an_error():
    with pytest.raises(ConfigError, match=r"line 2: the key 'seed' is given twice"):
        parse_yaml("seed: 1\nseed: 2")


def test_1e18_tokens_is_a_number():
    config = parse({**MINIMAL, "select": {"method": "top_k", "budget": parse_yaml("tokens: 1e18")}})
    assert config.select.budget.tokens == 10**18


@pytest.mark.parametrize("text", ["1e18", "1.0e18", "1E18", "'1e18'"])
def test_a_budget_of_1e18_flops_is_a_number(text):
    select = {"method": "top_k", "budget": parse_yaml(f"flops: {text}")}
    config = parse({**MINIMAL, "select": select})
    assert config.select.budget.flops == 1e18


def test_the_training_that_a_budget_is_for_is_checked_and_resolved():
    select = {"method": "top_k", "budget": {"flops": 1e18}, "train": {"model": "m", "epochs": 2}}
    resolved = parse({**MINIMAL, "select": select}).resolved()["select"]
    assert (resolved["train"]["model"], resolved["train"]["epochs"]) == ("m", 2)
    assert resolved["train"]["lora_rank"] is None
    assert resolved["budget"] == {"flops": 1e18}
    select["train"]["lora_rnk"] = 8
    with pytest.raises(ConfigError, match=r"select.train: unknown setting .* did you mean 'lora_r"):
        parse({**MINIMAL, "select": select})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {}}, r"unknown setting 'scores'; did you mean 'score'"),
        ({"data": {"path": "p", "tokeniser": "t"}}, r"unknown setting 'data.tokeniser'; did you mean 'tokenizer'"),
        ({"score": {"method": "bm52"}}, r"unknown scorer 'bm52'; did you mean 'bm25'"),
        ({"score": {"method": "bm25", "k_1": 1}}, r"score.bm25: unknown setting 'k_1'; did you mean 'k1'"),
        ({"score": {"method": "bm25", "k1": "x"}}, r"score.bm25.k1: .*number.* got 'x'"),
        ({"score": {"method": "column", "name": "a"}}, r"score.column.prefer: this setting is required"),
        ({"score": {}}, r"expected either method or combine"),
        ({"score": {"combine": "rank_mean", "of": [{"method": "random"}]}}, r"two or more"),
        ({"select": {"method": "top_k", "budget": {"samples": 1, "ratio": 0.5}}}, r"exactly one of"),
        ({"select": {"method": "top_k", "budget": {"ratio": 1.5}}}, r"ratio=1.5; expected between 0 and 1"),
        ({"select": {"method": "top_k", "budget": {"rows": 5}}}, r"unknown setting 'select.budget.rows' \(known: flops, ratio, samples, tokens\)"),
        ({"select": {"method": "top_k", "quotas": {"at_mots": 1}}},
         r"unknown setting 'select.quotas.at_mots'; did you mean 'at_most'"),
        ({"order": {"method": "fold", "layers": 0}}, r"order.fold.layers: .*got 0"),
        ({"order": {"method": "fold", "epochs": 0}}, r"order.epochs"),
        ({"export": {"for": "trll"}}, r"export.for"),
        ({"export": {"name": "../x"}}, r"export.name"),
        ({"seed": -1}, r"seed"),
        ({"data": {}}, r"config: data.path: this setting is required"),
    ],
)  # fmt: skip
def test_wrong_configs_say_what_is_wrong(change, message):
    with pytest.raises((ConfigError, BudgetError), match=message):
        parse({**MINIMAL, **change})


def test_overrides_reach_into_the_tree():
    out = apply(MINIMAL, ["select.method=top_k", "select.budget.ratio=0.2", "seed=3"])
    assert out == {**MINIMAL, "select": {"method": "top_k", "budget": {"ratio": 0.2}}, "seed": 3}
    assert MINIMAL == {"data": {"path": "pool.jsonl"}}
    with pytest.raises(ConfigError, match="expected name=value"):
        apply(MINIMAL, ["seed"])


def test_resolved_is_complete_and_a_fixed_point():
    config = parse(
        {
            **MINIMAL,
            "score": {
                "combine": "product",
                "of": [{"method": "compression"}, {"method": "length"}],
            },
            "select": {"method": "gumbel_top_k", "budget": {"tokens": 5}},
            "order": {"method": "fold", "score": {"method": "random"}},
        }
    )
    resolved = config.resolved()
    assert resolved["order"]["layers"] == 3
    assert resolved["score"]["of"][0]["codec"] == "zlib"
    assert parse(resolved).resolved() == resolved


def test_yaml_and_toml_say_the_same(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "data: {path: p.jsonl}\nselect: {method: top_k, budget: {ratio: 0.2}}\n"
    )
    (tmp_path / "a.toml").write_text(
        '[data]\npath = "p.jsonl"\n[select]\nmethod = "top_k"\nbudget = {ratio = 0.2}\n'
    )
    assert load(tmp_path / "a.yaml").resolved() == load(tmp_path / "a.toml").resolved()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "data: [", r"a.yaml: not YAML"),
        ("a.yaml", "- 1", r"a.yaml: holds list; expected a mapping"),
        ("a.toml", "data = ", r"a.toml: "),
        (
            "a.yaml",
            "data: {path: p}\nselekt: 1",
            r"a.yaml: unknown setting 'selekt'; did you mean 'select'",
        ),
    ],
)
def test_wrong_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / name)


def test_a_word_in_the_place_of_settings_is_told_what_may_stand_there():
    def told(**values):
        with pytest.raises(ConfigError) as raised:
            parse({**MINIMAL, **values})
        return str(raised.value)

    one = told(select={"method": "top_k", "budget": 5})
    assert "select.budget: expected settings by name (samples, tokens, ratio, flops); got 5" in one
    two = told(select={"method": "top_k", "near_duplicates": True})
    assert "near_duplicates={} for the defaults; got True" in two
    three = told(order="fold")
    assert "order: expected settings by name (method, score," in three
    assert "={}" not in three
    assert "report={} for the defaults; got 'no'" in told(report="no")


def test_a_name_is_never_suggested_for_itself():
    assert "did you mean" not in did_you_mean("score", ["score", "text"])
    assert "did you mean 'scores'?" in did_you_mean("score", ["score", "scores"])
    assert "100000" in did_you_mean("x", [str(i) for i in range(200_000)])
