"""Writes docs/cli.md from the command line itself and the registry: `make docs`.

Rendered here from the parameters' own names, helps and defaults, so that the page is the same for
every version of the help's library and every width of a terminal. With `--check`, writes nothing
and fails if the page is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

WIDTH = 100
COLUMN = 22  # where the help of a parameter begins
PAGE = Path(__file__).with_name("cli.md")
_HEAD = """\
# Every command

Written by `make docs`; do not edit. `didact COMMAND --help` says the same in your terminal.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 you can fix it and the
message says how, 2 usage, 3 our bug, 4 a verdict of no, 5 it cannot tell. `--json` prints a result
for machines. `didact --install-completion` makes your shell complete verbs, options and methods;
`didact --version` says what is installed.

"""


def page() -> str:
    """The whole page."""
    import typer

    from didact.cli import app

    root = typer.main.get_command(app)
    parts = [_HEAD]
    for name, command in _leaves(root, "didact"):
        parts.append(f"## {name}\n\n```text\n{help_text(name, command)}\n```\n\n")
    parts.append("# Every method\n\n")
    parts.append(
        "`didact methods NAME` explains one, with its settings, its source and its cost.\n"
    )
    parts.append("[Choose a method](choose-a-method.md) says when to use which.\n\n")
    parts.append(methods_table())
    parts.append(around())
    for section, kind in sections().items():
        parts.append(f"\n# Settings of {section}\n\n{settings_table(kind)}")
    return "".join(parts)


def sections() -> dict[str, type]:
    """Commands with settings of their own, which are also sections of a config."""
    from didact.evaluation.settings import EvaluateSettings
    from didact.training.settings import TrainSettings

    return {"`train`": TrainSettings, "`evaluate`": EvaluateSettings}


def settings_table(kind: type) -> str:
    """Settings, their defaults, and what their class says of each."""
    from dataclasses import fields

    doc = inspect.getdoc(kind) or ""
    said = re.split(r"^    (\w+): ", doc.partition("Args:\n")[2], flags=re.MULTILINE)[1:]
    texts = {name: " ".join(t.split()) for name, t in zip(said[::2], said[1::2], strict=True)}
    rows = ["| setting | default | |", "|---|---|---|"]
    rows += [f"| `{f.name}` | `{f.default!r}` | {texts[f.name]} |" for f in fields(kind)]
    return "\n".join(rows) + "\n"


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for child in command.commands.values():
        yield from _leaves(child, f"{name} {child.name}")


def help_text(name: str, command: Any) -> str:
    """Usage, what it does, its parameters, its examples."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    hints = get_type_hints(command.callback)
    names = [_metavar(p, hints) for p in arguments]
    shown = [n if p.required else f"[{n}]" for n, p in zip(names, arguments, strict=True)]
    lines = [" ".join([name, *shown, "[OPTIONS]"]), ""]
    lines += _filled(command.help, 2)
    if arguments or options:
        lines.append("")
    for parameter in (*arguments, *options):
        lines += _parameter(parameter, hints)
    if command.epilog:
        lines.append("")
        for example in command.epilog.split(": ", 1)[1].split(" · "):
            again = f"{name} …" if example.startswith("...") else "…"
            lines += _filled(example.replace("...", again), 2, hanging=4)
    return "\n".join(lines)


def _parameter(parameter: Any, hints: Mapping[str, Any]) -> list[str]:
    if parameter.param_type_name == "argument":
        left = _metavar(parameter, hints)
    else:
        names = sorted(parameter.opts, key=len)
        left = ", ".join(names)
        if parameter.secondary_opts:
            left += "/" + "/".join(parameter.secondary_opts)
        if not parameter.is_flag:
            left += f" {_metavar(parameter, hints)}"
    note = ""
    if parameter.required:
        note = " (required)"
    elif isinstance(parameter.default, int | float | str | Path) and not parameter.is_flag:
        note = f" (default: {parameter.default})"
    text = (parameter.help or "") + note
    if len(left) + 4 > COLUMN:
        return [f"  {left}", *_filled(text, COLUMN)]
    first, *rest = _filled(text, COLUMN) or [""]
    return [f"  {left:<{COLUMN - 2}}{first.strip()}".rstrip(), *rest]


def _metavar(parameter: Any, hints: Mapping[str, Any]) -> str:
    """What stands for a value, from the annotation: typer's own names differ between versions."""
    if parameter.metavar:
        return str(parameter.metavar)
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    hint = hints[parameter.name]
    kinds = {hint, *get_args(hint), *(a for h in get_args(hint) for a in get_args(h))}
    for kind, shown in ((int, "N"), (float, "X"), (Path, "PATH"), (str, "TEXT")):
        if kind in kinds:
            return shown
    return "|".join(str(choice) for choice in get_args(hint))


def _filled(text: str, indent: int, *, hanging: int | None = None) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def methods_table() -> str:
    """Built-in methods by stage: what each does, its settings with their defaults."""
    from didact.core import registry
    from didact.inspection import describe_methods

    built_in = {
        name
        for group in registry.METHOD_GROUPS
        for name, place in registry.known(group).items()
        if place.startswith("didact.")
    }
    rows = ["| stage | method | does | settings |", "|---|---|---|---|"]
    for method in describe_methods():
        if method["name"] in built_in:
            settings = ", ".join(f"`{k}={s['default']}`" for k, s in method["settings"].items())
            rows.append(
                f"| {method['stage']} | `{method['name']}` | {method['does']} | {settings} |"
            )
    return "\n".join(rows) + "\n"


def around() -> str:
    """What goes with every method of a stage, beside its own settings."""
    from didact import config
    from didact.core import registry

    lines = ["\nBeside its own settings,\n\n"]
    for group in registry.METHOD_GROUPS:
        names = ", ".join(f"`{name}`" for name in config.around(group))
        lines.append(f"- every {group.removesuffix('s')} takes {names}\n")
    return "".join(lines)


def main() -> None:
    """Write the page, or with `--check` say whether it is up to date."""
    text = page()
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{PAGE} is out of date; run: make docs")
        return
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
