"""What the architecture promises, checked by a machine."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import didact
from didact.core import binding, registry

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "src" / "didact").rglob("*.py"))
HEAVY = {"torch", "transformers", "ray", "datasets", "numba", "peft", "tokenizers", "accelerate"}


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_layers_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import didact",
        "import didact.cli",
        "import didact.pipeline, didact.cli.printing",
        "import didact.core.cache, didact.stages.score",
        "import didact.models.architecture",  # what estimates read
    ],
)
def test_nothing_heavy_is_imported(statement):
    assert not modules_after(statement) & HEAVY


def test_help_imports_no_arrays():
    # numpy, pyarrow and pydantic alone would take the time that help may take
    assert not modules_after("import didact.cli") & {"numpy", "pyarrow", "pydantic", "yaml"}


def test_public_names_are_sorted_and_there():
    assert didact.__all__ == sorted(didact.__all__)
    for name in didact.__all__:
        assert getattr(didact, name) is not None
    assert set(didact.__all__) - {"__version__"} == set(didact._HOME)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = didact.nope


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_the_library_never_prints(path):
    tree = ast.parse(path.read_text())
    names = [
        n.func.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    ]
    assert "print" not in names


@pytest.mark.parametrize("group", registry.METHOD_GROUPS)
def test_every_method_documents_source_and_cost(group):
    for name in registry.known(group):
        doc = registry.find(group, name).__doc__ or ""
        assert "**Source:**" in doc, f"{group}.{name} names no source"
        assert "**Cost:**" in doc, f"{group}.{name} states no cost"
        binding.schema(registry.find(group, name))


def test_no_pattern_repeats_a_group_possessively():
    # Python before 3.11.5 takes (?:…)*+ for matched where it broke off; (?>(?:…)*) is right
    for path in SOURCES:
        patterns = [
            node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        ]
        assert not [p for p in patterns if re.search(r"(?<!\\)\)[*+?]\+", p)], path


def test_extras_are_one_list():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    hints = re.findall(r"didact\[(\w+)\]", "\n".join(p.read_text() for p in SOURCES))
    assert set(hints) <= set(project["optional-dependencies"])


# Growth of the command line is deliberate: change this list in the same commit as the flag.
FLAGS = {
    "cache clear": {"--cache-dir", "--dry-run", "--json"},
    "cache ls": {"--cache-dir", "--json"},
    "cache prune": {"--cache-dir", "--dry-run", "--json", "--older"},
    "calibrate": {"--cache-dir", "--device", "--json", "--seconds"},
    "compare": {
        "--cache-dir", "--dry-run", "--export-only", "--jobs", "--json", "--max-hours", "--out",
        "--results", "--so-far",
    },
    "config schema": set(),
    "config show": {"--json", "--set"},
    "dedup": {
        "--cache-dir", "--data", "--executor", "--for", "--json", "--keep", "--out",
        "--ray-address", "--set", "--similarity", "--workers",
    },
    "demo": {"--cache-dir", "--executor", "--json", "--out", "--ray-address", "--workers"},
    "diff": {"--json"},
    "evaluate": {
        "--cache-dir", "--choices", "--data", "--executor", "--json", "--limit", "--lm-eval",
        "--on-overlap", "--out", "--ray-address", "--runs", "--set", "--tasks", "--wanted", "--workers", "--write-tasks",
    },
    "export": {"--cache-dir", "--data", "--for", "--json", "--order", "--out", "--seed", "--set"},
    "init": {"--cache-dir", "--data", "--force", "--out", "--target"},
    "inspect": {"--cache-dir", "--data", "--json"},
    "law": {"--cache-dir", "--file", "--json", "--metric", "--out"},
    "methods": {"--json"},
    "monitor": {
        "--cache-dir", "--data", "--executor", "--held-out", "--json", "--out", "--ray-address",
        "--seen", "--series", "--workers",
    },
    "order": {
        "--cache-dir", "--data", "--json", "--method", "--out", "--pool", "--scores", "--seed",
        "--set",
    },
    "plan": {
        "--batch-size", "--budget", "--cache-dir", "--data", "--device", "--encoder", "--from",
        "--json", "--kind", "--lora-rank", "--max-length", "--mean-tokens", "--method", "--mfu",
        "--model", "--out", "--pool", "--price", "--samples", "--selector", "--target", "--tasks",
    },
    "proxy new": {
        "--cache-dir", "--context", "--data", "--json", "--params", "--pool", "--seed", "--vocab",
    },
    "report": {"--cache-dir", "--no-samples", "--out", "--samples"},
    "run": {
        "--cache-dir", "--device", "--dry-run", "--executor", "--json", "--mfu", "--out", "--plan",
        "--ray-address", "--set", "--workers",
    },
    "score": {
        "--cache-dir", "--data", "--executor", "--json", "--method", "--out", "--ray-address",
        "--seed", "--set", "--target", "--workers",
    },
    "select": {
        "--budget", "--cache-dir", "--combine", "--data", "--executor", "--json", "--method",
        "--out", "--ray-address", "--scores", "--seed", "--set", "--workers",
    },
    "train": {
        "--cache-dir", "--data", "--epochs", "--json", "--model", "--order", "--out", "--seed",
        "--set",
    },
    "verify-order": {"--json"},
}  # fmt: skip


def command_flags():
    import typer

    from didact.cli import app

    def walk(command, path):
        if hasattr(command, "commands"):
            for name, child in command.commands.items():
                yield from walk(child, [*path, name])
        else:
            flags = {
                o
                for p in command.params
                for o in (*p.opts, *p.secondary_opts)
                if o.startswith("--") and o != "--help"
            }
            yield " ".join(path), flags

    return dict(walk(typer.main.get_command(app), []))


def test_commands_and_flags_are_these():
    assert command_flags() == FLAGS


def test_every_command_has_an_example():
    import typer

    from didact.cli import app

    root = typer.main.get_command(app)
    for name, command in root.commands.items():
        children = getattr(command, "commands", {"": command})
        for child, leaf in children.items():
            assert "didact" in (leaf.epilog or ""), f"{name} {child} has no example"


def test_the_project_speaks_of_itself_alone():
    forbidden = re.compile(
        r"/work/|/root/|\bissue\b|\bhelper[s]?\b|sub-?agent|this workplace", re.IGNORECASE
    )
    files = [*SOURCES, *REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
    for path in files:
        found = forbidden.search(path.read_text())
        assert not found, f"{path}: {found.group(0)!r}"


def test_schema_is_json_and_names_every_method():
    from didact.config import json_schema

    text = json.dumps(json_schema())
    for group in registry.METHOD_GROUPS:
        for name in registry.known(group):
            assert f'"{name}"' in text


def circles(imported: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, at whatever remove."""
    reachable: dict[str, set[str]] = {}
    for module, direct in imported.items():
        seen, todo = set(), [*direct]
        while todo:
            found = todo.pop()
            if found not in seen:
                seen.add(found)
                todo += imported[found]
        reachable[module] = seen
    mutual = {
        frozenset({other for other in others if module in reachable[other]})
        for module, others in reachable.items()
        if module in others
    }
    return sorted(sorted(group) for group in mutual)


def shortest(start: str, imported: dict[str, set[str]]) -> list[str]:
    """The modules from one back to itself along its shortest circle."""
    paths = [[start]]
    for path in paths:
        for module in sorted(imported[path[-1]]):
            if module == start:
                return [*path, start]
            if all(module not in p for p in paths):
                paths.append([*path, module])
    raise AssertionError(f"{start} is in no circle")


def test_circles_are_found():
    names = {"a": "b", "b": "cd", "c": "a", "d": "e", "e": "", "f": "g", "g": "f"}
    graph = {name: set(others) for name, others in names.items()}
    assert circles(graph) == [["a", "b", "c"], ["f", "g"]]
    assert shortest("b", graph) == ["b", "c", "a", "b"]


def test_no_files_import_each_other_in_a_circle():
    """Imports inside of functions and for type checkers count too."""
    import grimp

    graph = grimp.build_graph("didact", include_external_packages=False, cache_dir=None)
    imported = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    found = [" → ".join(shortest(group[0], imported)) for group in circles(imported)]
    assert not found, "files that import each other:\n" + "\n".join(found)
