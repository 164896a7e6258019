"""Text of settings, YAML or TOML → plain values; what could never be a setting is refused.

A config may come from anybody: values that would take the memory, the interpreter's stack or the
patience of whoever opens it are errors with a line, before anything is built of them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.constructor import ConstructorError

from didact.core.errors import ConfigError

_DEEPEST: Final = 100  # levels of values inside values
_MOST_REPEATED: Final = 100_000  # values that aliases may stand for, all together
_MOST_DIGITS: Final = 1000
_SHOWN: Final = 60


class _Loader(yaml.SafeLoader):
    """YAML whose scalars mean what people read: 1e18 is a number, no is a word, 3:25 is text."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        """A value; one that does not fit its tag is an error with a line."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            given = f"{node.value!r:.{_SHOWN}}" if isinstance(node, yaml.ScalarNode) else "this"
            raise ConstructorError(None, None, f"{given} is no {kind}", node.start_mark) from error


_Loader.yaml_implicit_resolvers = {
    key: [(tag, rule) for tag, rule in rules if tag not in {
        "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float",
        "tag:yaml.org,2002:timestamp",
    }]
    for key, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}  # fmt: skip
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def _unique_keys(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":  # <<: may stand beside keys it has, too
            continue
        key = loader.construct_object(key_node, deep=deep)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str | int | float):
            raise ConfigError(
                f"line {line}: the key {key!r:.{_SHOWN}} is a {type(key).__name__}; expected text"
            )
        if key in seen:
            raise ConfigError(f"line {line}: the key {key!r:.{_SHOWN}} is given twice")
        seen.add(key)
    return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=deep))


def _plain_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node).replace("_", "")
    if len(digits) > _MOST_DIGITS:
        raise ConfigError(
            f"line {node.start_mark.line + 1}: a number of {len(digits):,} digits; expected "
            f"{_MOST_DIGITS:,} at most"
        )
    return int(digits)


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_keys)
_Loader.add_constructor("tag:yaml.org,2002:int", _plain_int)


def parse_yaml(text: str, name: str = "") -> Any:
    """YAML with the scalars of YAML 1.2 and underscores in integers.

    Args:
        text: The text.
        name: The file's name, for messages that have a place in it.

    Raises:
        ConfigError: It is not YAML, a key is given twice, a value does not fit its tag, is nested
            more than 100 deep, repeats more than 100,000 values by aliases, or has NUL in it.
    """
    _check_text(text)
    try:
        with _reading(text, name) as loader:
            _check_size(loader)
        with _reading(text, name) as loader:
            found = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}{_about_tabs(text, error)}") from error
    check_plain(found)
    return found


@contextmanager
def _reading(text: str, name: str) -> Iterator[_Loader]:
    loader = _Loader(text)
    loader.name = name or "the text"
    try:
        yield loader
    finally:
        loader.dispose()


def _about_tabs(text: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    lines = text.splitlines()
    if mark is None or mark.line >= len(lines) or "\t" not in lines[mark.line]:
        return ""
    return "\nthe line has a tab; YAML indents by spaces alone: put spaces in the tab's place"


def _check_size(loader: _Loader) -> None:
    """Raise ConfigError when values are nested too deep, or aliases stand for too many of them."""
    extent = _Extent()
    while loader.check_event():
        event: yaml.Event = loader.get_event()  # type: ignore[no-untyped-call]
        extent.line += 0 if event.start_mark is None else event.start_mark.line + 1 - extent.line
        if isinstance(event, yaml.AliasEvent):
            extent.alias(str(event.anchor))
        elif isinstance(event, yaml.CollectionStartEvent):
            extent.open(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            extent.close()
        elif isinstance(event, yaml.ScalarEvent):
            extent.add(1, 1, event.anchor)


@dataclass
class _Extent:
    """How many values a text stands for, and how deep they are, while its events come in."""

    line: int = 0
    _count: int = 0
    _repeated: int = 0
    _named: dict[str, tuple[int, int]] = field(default_factory=dict)  # anchor → values, levels
    _open: list[tuple[str | None, int]] = field(default_factory=list)  # anchor, values before it
    _levels: list[int] = field(default_factory=lambda: [0])  # below each that is open; of the whole

    def open(self, anchor: str | None) -> None:
        """A list or mapping begins."""
        self._open.append((anchor, self._count))
        self._levels.append(0)
        self._check_depth()

    def close(self) -> None:
        """The last one that began ends."""
        anchor, before = self._open.pop()
        size, levels = 1 + self._count - before, 1 + self._levels.pop()
        self._count = before
        self.add(size, levels, anchor)

    def alias(self, anchor: str) -> None:
        """What an earlier anchor names stands here again."""
        if anchor in (name for name, _ in self._open):
            raise ConfigError(f"line {self.line}: *{anchor} stands inside what it names")
        size, levels = self._named.get(anchor, (1, 1))
        self._repeated += size
        if self._repeated > _MOST_REPEATED:
            raise ConfigError(
                f"line {self.line}: *{anchor} and the aliases before it stand for more than "
                f"{_MOST_REPEATED:,} values; expected fewer: write the values out"
            )
        self.add(size, levels, None)

    def add(self, size: int, levels: int, anchor: str | None) -> None:
        """A finished value of `size` values in all, `levels` deep."""
        self._count += size
        self._levels[-1] = max(self._levels[-1], levels)
        if anchor is not None:
            self._named[anchor] = (size, levels)
        self._check_depth()

    def _check_depth(self) -> None:
        if len(self._levels) - 1 + self._levels[-1] > _DEEPEST:
            raise ConfigError(
                f"line {self.line}: values nested more than {_DEEPEST} deep; expected settings"
            )


def parse_toml(text: str) -> dict[str, Any]:
    """TOML as plain values.

    Raises:
        ConfigError: It is not TOML, a number or nesting is beyond all sense, or text has NUL in it.
    """
    try:
        found = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError("values nested too deep; expected settings") from error
    except ValueError as error:  # TOMLDecodeError, and numbers of more than 4,300 digits
        raise ConfigError(f"not TOML: {error}") from error
    check_plain(found)
    return found


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ConfigError(
            f"{text!r:.{_SHOWN}} has a NUL character (\\0); expected text without: in YAML a "
            "backslash in double quotes begins an escape, use single quotes or none"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{text!r:.{_SHOWN}} is not Unicode; expected UTF-8: where it is a file's name, rename "
            "the file, or give its folder or a glob"
        ) from error


def check_plain(values: Any) -> None:
    """Raise ConfigError for text that no path and no name can be, and for too much depth.

    Args:
        values: Plain values without cycles: dicts, lists and scalars.
    """
    level, seen = [values], {id(values)}
    for _ in range(_DEEPEST + 1):
        inside: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            if isinstance(value, dict):
                inside += [*value, *value.values()]
            elif isinstance(value, list | tuple | set):
                inside += value
        level = [v for v in inside if id(v) not in seen]
        seen.update(map(id, level))
        if not level:
            return
    raise ConfigError(f"values nested more than {_DEEPEST} deep; expected settings")
