"""The documentation is true: its examples run, its links resolve, its reference is current."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from didact.core import registry

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *PAGES]
BLOCK = re.compile(r"(?:<!-- (\w+): (\S+) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path):
    """(mark, its value, language, body) of every fenced block, in order."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def built_in(group):
    return [n for n, place in registry.known(group).items() if place.startswith("didact.")]


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "PYTHONWARNINGS": "error",
        "DIDACT_CACHE": str(folder / "cache"),
    }


def install(pyproject: str, folder: Path) -> None:
    """What `pip install` leaves behind for entry points: the project's metadata on the path."""
    project = tomllib.loads(pyproject)["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    points = ""
    for group, entries in project["entry-points"].items():
        points += f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items())
    (info / "entry_points.txt").write_text(points)


TRAINING = {"train-and-evaluate", "monitor"}  # pages whose examples need models
WARM = {*TRAINING, "plan", "recipes"}  # pages of many commands
LIBRARIES = (
    "didact.training.loop", "didact.evaluation.evaluate", "transformers.trainer",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip
RUNNABLE = [
    p for p in PAGES if any(language in {"bash", "python"} for _, _, language, _ in blocks(p))
]


@contextmanager
def opened_once(warm, page: Path, folder: Path) -> Iterator[dict[str, str]]:
    """An environment whose `didact` starts from nothing for the first call of each verb.

    Later calls are forks of a process that has what they import open: with models a start takes
    longer than a small training.
    """
    env = environment(folder)
    if page.stem not in WARM:
        yield env
        return
    own = shutil.which("didact", path=env["PATH"])
    more = LIBRARIES if page.stem in TRAINING else ["didact.plans"]
    with warm(["didact.cli.printing", "didact.pipeline", *more], env) as words:
        tools = folder / "tools"
        tools.mkdir()
        (tools / "didact").write_text(
            f'#!/bin/sh\nmkdir "{tools}/$1" 2>/dev/null && exec {own} "$@"\nexec {shlex.join(words)} "$@"\n'
        )
        (tools / "didact").chmod(0o755)
        yield {**env, "PATH": f"{tools}{os.pathsep}{env['PATH']}"}


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda p: p.stem)
def test_the_examples_of_a_page_run(page, tmp_path, warm):
    if page.stem in TRAINING:
        pytest.importorskip("accelerate")
    script = ["set -e"]
    for i, (mark, name, language, body) in enumerate(blocks(page)):
        if mark == "file":
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(body)
            if name == "pyproject.toml":
                install(body, tmp_path)
            if name.startswith("test_"):
                script.append(f"python -m pytest -q -p no:cacheprovider {name}")
        elif language == "python":
            (tmp_path / f"block{i}.py").write_text(body)
            script.append(f"python block{i}.py")
        elif language == "bash":
            script.append(body)
    with opened_once(warm, page, tmp_path) as env:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=env, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_every_format_of_the_data_page_is_found(tmp_path):
    import didact

    shown = [(name, body) for mark, name, _, body in blocks(DOCS / "data.md") if mark == "format"]
    assert {name for name, _ in shown} == set(built_in("formats"))
    for name, body in shown:
        path = tmp_path / f"{name}.jsonl"
        path.write_text(body)
        assert didact.read(path).meta["formats"] == [name]


def test_the_data_page_names_every_column_and_kind_of_file():
    from didact.data.reading.containers import CONTAINERS
    from didact.data.rows.detection import column_names

    page = (DOCS / "data.md").read_text()
    (mapped,) = re.findall(r"Names that can be mapped: `([^`]+)`", page)
    assert set(mapped.split()) == set(column_names())
    (table,) = re.findall(r"^## Files\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    suffixes = {suffix for container in CONTAINERS.values() for suffix in container.suffixes}
    assert set(re.findall(r"`(\.\w+)`", table)) == suffixes | {".gz", ".zst"}


def test_the_data_page_names_every_setting():
    from didact.data.reading.settings import DataSettings

    page = (DOCS / "data.md").read_text()
    for name in DataSettings.model_fields:
        assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", page), name


def test_the_data_page_names_every_kind_that_rows_show():
    from didact.data.rows.sayings import DROPPABLE, SAYINGS

    page = (DOCS / "data.md").read_text()
    (part,) = re.findall(r"^## Things you should know\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    droppable, others = (
        set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*)\|", table, re.MULTILINE))))
        for table in part.split("These are said")
    )
    assert droppable == set(DROPPABLE)
    assert set(SAYINGS) - droppable <= others


def test_the_trainers_page_and_the_help_name_every_trainer():
    page = (DOCS / "trainers.md").read_text()
    shown = set(re.findall(r"`\{for: ([\w-]+)\}`", page))
    assert sorted(shown) == built_in("trainers")
    names = ", ".join([*built_in("trainers"), "none"])
    help_text = " ".join((DOCS / "cli.md").read_text().split())
    assert f"Whose settings to write: {names}." in help_text


def test_whole_configs_in_the_docs_are_valid():
    from didact.config import parse, parse_yaml

    found = [body for page in PAGES for *_, language, body in blocks(page) if language == "yaml"]
    assert found
    for body in found:
        parse(parse_yaml(body))


def commands():
    """Every `didact …` line in a shell block or in the running text, with where it stands."""
    for page in TEXTS:
        text = page.read_text(encoding="utf-8")
        shell = [body for *_, language, body in blocks(page) if language in {"bash", "sh"}]
        lines = [line for body in shell for line in body.replace("\\\n", " ").splitlines()]
        prose = BLOCK.sub("", text)
        lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
        for line in lines:
            if line.startswith("didact "):
                yield page.name, line.split("||")[0]


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_every_command_line_parses(page, line):
    import typer

    from didact.cli import app

    command = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    while words and hasattr(command, "commands"):
        if words[0].isupper():
            return  # `didact COMMAND --help` speaks of any
        if words[0].startswith("-"):
            assert words[0] in {o for p in command.params for o in p.opts}, line
            return
        command = command.commands[words.pop(0)]
    # in running text a command may stand without what it needs
    assert problem(command, words) in {"", "MissingParameter", "NoArgsIsHelpError"}, line


def problem(command, words: list[str]) -> str:
    """What the command line says to these words: the name of its error, or nothing."""
    try:
        command.make_context("didact", words)
    except Exception as error:  # noqa: BLE001 - the class differs between versions of typer
        return type(error).__name__
    return ""


def test_an_unknown_flag_would_be_noticed():
    import typer

    from didact.cli import app

    command = typer.main.get_command(app).commands["run"]
    assert problem(command, ["run.yaml", "--no-such-flag"]) == "NoSuchOption"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {slug(h) for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.stem)
def test_every_link_leads_somewhere(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(\s*([^)\s]+)\s*\)", text):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {link}"


def test_every_picture_is_small_and_shown():
    shown = " ".join(text.read_text(encoding="utf-8") for text in TEXTS)
    pictures = sorted((DOCS / "pictures").iterdir())
    assert pictures
    for picture in pictures:
        assert f"pictures/{picture.name}" in shown
        assert picture.stat().st_size <= 150_000, picture.name


def test_lines_fit_the_width():
    for page in PAGES:
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for line in text.splitlines():
            assert len(line) <= 100 or line.startswith("|"), f"{page.name}: {line}"


def test_every_method_has_a_row():
    page = (DOCS / "choose-a-method.md").read_text(encoding="utf-8")
    for group in registry.METHOD_GROUPS:
        for name in built_in(group):
            assert re.search(rf"^\| `{name}` \|", page, re.MULTILINE), f"no row for {name}"


def generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date():
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == generator().page(), "run: make docs"


def test_the_reference_does_not_depend_on_the_terminal(monkeypatch):
    page = generator().page()
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert generator().page() == page


def example(name: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / name)], cwd=folder,
        env=environment(folder), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_example_is_tested():
    names = {path.name for path in (REPOSITORY / "examples").glob("*.py")}
    assert names == {"compare_orders.py", "select_for_a_target.py", "your_own_score.py"}


@pytest.mark.slow
def test_selecting_for_a_target_beats_random(tmp_path):
    lines = example("select_for_a_target.py", tmp_path)
    bits = {line[:24].strip(): float(line[32:43]) for line in lines[2:]}
    # what docs/choose-a-method.md says of this table
    assert bits["bm25, round_robin"] < bits["random, top_k"]
    assert bits["bm25, top_k"] < bits["length, top_k"]


def test_orders_look_as_they_are_described(tmp_path):
    _, *lines = example("compare_orders.py", tmp_path)
    drawn = {line[:26].strip(): line[26:86] for line in lines}
    cliffs = {line[:26].strip(): float(line[86:].split()[1]) for line in lines}
    assert drawn["sort"] == "".join(sorted(drawn["sort"]))
    assert drawn["fold layers=3"][0] == drawn["fold layers=3"][20] == "▁"
    assert drawn["fold layers=3"][19] == drawn["fold layers=3"][-1] == "█"
    assert cliffs["zigzag layers=3"] < 0.1 < cliffs["fold layers=3"]


def test_a_score_of_ones_own(tmp_path):
    lines = example("your_own_score.py", tmp_path)
    assert lines[0].startswith("row 3 has no score")
    # by hand: 9 of 9 words distinct; 4 of 7; 1 of 3
    assert [line.split()[1] for line in lines[1:]] == ["1.000", "0.571", "0.333"]
