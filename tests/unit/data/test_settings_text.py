"""Text of settings from anybody: an error with a line, at once, and never a traceback."""

from pathlib import Path

import pytest

from didact import config
from didact.config import apply, load_plain
from didact.core.errors import ConfigError
from didact.data.settings_text import check_plain, parse_toml, parse_yaml

NINE = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
BOMB = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *NINE])
CHAIN = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 150))])


@pytest.mark.parametrize("kind", ["int", "float", "bool", "timestamp"])
def test_a_value_that_does_not_fit_its_tag_is_named_with_its_line(kind):
    with pytest.raises(ConfigError, match=rf"'x' is no {kind}\n  in \"a.yaml\", line 2"):
        parse_yaml(f"b: 1\na: !!{kind} x", "a.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: " + "[" * 20_000 + "]" * 20_000, "line 2: values nested more than 100 deep"),
        ("{a: " * 20_000, "nested more than 100 deep"),
        (CHAIN, "line 99: values nested more than 100 deep"),
        (BOMB, r"\*a4 and the aliases before it stand for more than 100,000 values"),
        ("a: &a [1, *a]", r"line 1: \*a stands inside what it names"),
        ("a: &a {b: *a}", r"line 1: \*a stands inside what it names"),
        ("seed: " + "9" * 5000, "line 1: a number of 5,000 digits; expected 1,000 at most"),
        ('path: "a\\0b"', "has a NUL character"),
        ("? [a, b]\n: 1", "the key"),
        ("a:\n\t- b", "the line has a tab; YAML indents by spaces"),
    ],
)
def test_yaml_that_could_be_no_setting(text, told):
    with pytest.raises(ConfigError, match=told):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deep"),
        (".".join(["a"] * 5000) + " = 1", "nested more than 100 deep"),
        ("seed = " + "9" * 5000, "limit"),
        ('path = "a\\u0000b"', "has a NUL character"),
    ],
)
def test_toml_that_could_be_no_setting(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        parse_toml(text)
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"a\.toml: .*{told}"):
        load_plain(tmp_path / "a.toml")


def test_what_people_write_with_anchors_is_read():
    text = "base: &base {k: 1, of: &of [1, 2]}\nmine: {<<: *base, of: *of}"
    assert parse_yaml(text)["mine"] == {"k": 1, "of": [1, 2]}
    deep = "[" * 99 + "1" + "]" * 99
    assert check_plain(parse_yaml(deep)) is None


def test_overrides_are_bounded_too():
    with pytest.raises(ConfigError, match="nested more than 100 deep"):
        apply({}, [".".join(["a"] * 3000) + "=1"])
    with pytest.raises(ConfigError, match="9,000 digits"):
        apply({}, ["seed=" + "9" * 9000])


def test_a_config_is_no_file_of_data(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "LONGEST_CONFIG", 100)
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1 #" + "x" * 100)
    with pytest.raises(
        ConfigError, match=r"c\.yaml: more than .* MiB; expected settings, not data"
    ):
        load_plain(path)
    path.write_text("seed: 1")
    assert load_plain(path) == {"seed": 1}


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no file without an end")
def test_a_file_without_an_end():
    with pytest.raises(ConfigError, match=r"/dev/zero: more than 16 MiB"):
        load_plain(Path("/dev/zero"))
