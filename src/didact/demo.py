"""The demo's data: real text that every machine with Python has, its standard library's own words.

A sample is a docstring or a block of comments; its source is the top-level module. The target set
is the documentation of two modules; they are no part of the pool, and what repeats their text is
left out of it.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import orjson

from didact.core.atomic import replacing
from didact.core.errors import DataError

TARGET_MODULES = ("statistics", "random")
_LEAST_CHARACTERS = 24
_SKIPPED = {
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "turtledemo",
    "lib2to3",
    "__pycache__",
}


def write_demo_data(folder: Path) -> tuple[Path, Path]:
    """`pool.jsonl` and `target.jsonl` in `folder`; the same bytes for one Python version.

    Raises:
        DataError: This Python keeps no sources of its standard library.
    """
    pool, target = folder / "pool.jsonl", folder / "target.jsonl"
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(
        p for p in library.rglob("*.py") if not _SKIPPED & set(p.relative_to(library).parts)
    )
    with (
        replacing(pool) as a,
        replacing(target) as b,
        a.open("wb") as pool_file,
        b.open("wb") as target_file,
    ):
        count, wanted = 0, set[str]()
        for path in files:
            relative = path.relative_to(library)
            module = relative.parts[0].removesuffix(".py")
            for line, text in passages(path.read_bytes()):
                row = {"id": f"{relative.as_posix()}:{line}", "text": text, "source": module}
                out = target_file if module in TARGET_MODULES else pool_file
                if out is target_file:
                    if text in wanted:  # a row that stands twice is wanted twice as much
                        continue
                    wanted.add(text)
                out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
        if count == 0:
            raise DataError(
                f"{library}: no Python sources of the standard library here; run "
                "'didact init YOUR_FILE' and 'didact run' on your own data instead"
            )
    return pool, target


def passages(source: bytes) -> Iterator[tuple[int, str]]:
    """Docstrings and comment blocks of a module: (first line, text), in line order."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # test files of the library are wrong on purpose
            tree = ast.parse(source)
        text = source.decode()
    except (SyntaxError, ValueError):
        return
    found = [*_docstrings(tree), *_comments(tree, text.splitlines())]
    yield from sorted((line, body) for line, body in found if len(body) >= _LEAST_CHARACTERS)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and (isinstance(first.value.value, str))
            ):
                yield first.lineno, inspect.cleandoc(first.value.value)


def _comments(tree: ast.Module, lines: list[str]) -> Iterator[tuple[int, str]]:
    """Runs of whole-line comments, those inside multi-line strings left out."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno != node.lineno:
            inside.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    block: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        stripped = line.strip()
        if stripped.startswith("#") and number not in inside:
            block.append(stripped.lstrip("#").strip())
        elif block:
            yield number - len(block), "\n".join(block).strip()
            block = []


def demo_config(pool: Path, target: Path, path: Path) -> Path:
    """The demo's config, written to `path`: what reads most like `target`, in random order."""
    with replacing(path) as temporary:
        temporary.write_text(_CONFIG.format(pool=pool.as_posix(), target=target.as_posix()))
    return path


_CONFIG = """\
# The demo: from the standard library's docs, choose what helps to learn two modules' docs.
seed: 17
data: {{path: "{pool}", validation: 0.01, exclude: ["{target}"]}}
score: {{method: bm25, target: "{target}"}}
select: {{method: round_robin, budget: {{ratio: 0.2}}, quotas: {{at_most: 0.15}}}}
order: {{method: shuffle, batch_size: 32}}
export: {{for: trl}}
"""
