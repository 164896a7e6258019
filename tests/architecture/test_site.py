"""The site of the docs has every page, its links lead to pages, and it loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def site():
    spec = importlib.util.spec_from_file_location("site_of_docs", REPOSITORY / "docs" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [
        page for part in (nav.values() if isinstance(nav, dict) else nav) for page in named(part)
    ]


def test_links_lead_to_pages_and_the_menu_names_pages(site, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "OUT", tmp_path)
    site.main()
    for page in tmp_path.rglob("*.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(\s*([^)\s#]+)", text):
            assert link.startswith("http") or (page.parent / link).is_file(), f"{page.name}: {link}"
    menu = named(tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]["nav"])
    assert len(menu) == len(set(menu))
    assert [page for page in menu if not (tmp_path / page).is_file()] == []


def test_a_link_out_of_the_site_is_an_error(site):
    page = REPOSITORY / "README.md"
    with pytest.raises(SystemExit, match=r"Makefile is no page"):
        site.relinked("see [it](Makefile)", page, site.pages())


def test_it_is_built_and_loads_nothing_from_elsewhere(site, tmp_path, monkeypatch):
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("needs the extra 'release'")
    monkeypatch.setattr(site, "OUT", tmp_path / "build" / "pages")
    site.main()
    shutil.copy(REPOSITORY / "zensical.toml", tmp_path)
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "build" / "site").rglob("*.html"))
    assert len(pages) > len(list((tmp_path / "build" / "pages").rglob("*.md")))  # and a 404
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*", page.read_text("utf-8"))
        assert not [tag for tag in loaded if re.search(r"(?:src|href)=\"?(?:https?:)?//", tag)], (
            page
        )
