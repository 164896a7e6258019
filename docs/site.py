"""Gathers the pages of the site in build/pages, where its generator finds them: `make docs`.

The pages stand in docs/ as people read them in a checkout, with links to files around it. The site
has these files as pages of its own, the README first, and every link leads to a page or picture.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OUT = ROOT / "build" / "pages"
# pages of the site that stand elsewhere in a checkout
ELSEWHERE = {
    ROOT / "README.md": "index.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "benchmarks" / "README.md": "benchmarks.md",
}
_LINK = re.compile(r"(\]\(\s*)([^)\s#]+)([^)]*\))")


def pages() -> dict[Path, Path]:
    """Each file of the site by where it comes from, relative to the site's root."""
    inside = [p for p in DOCS.rglob("*") if p.suffix in {".md", ".svg", ".png"}]
    return {page: page.relative_to(DOCS) for page in sorted(inside)} | {
        source: Path(name) for source, name in ELSEWHERE.items()
    }


def relinked(text: str, source: Path, places: dict[Path, Path]) -> str:
    """The text of a page with its links as they are on the site.

    Raises:
        SystemExit: A link leads to a file that is no page of the site.
    """
    here = places[source].parent

    def link(found: re.Match[str]) -> str:
        before, path, after = found.groups()
        if re.match(r"\w+:", path):
            return found[0]
        aim = (source.parent / path).resolve()
        if aim not in places:
            raise SystemExit(f"{source}: {path} is no page of the site; ELSEWHERE lists such pages")
        return f"{before}{Path(os.path.relpath(places[aim], here)).as_posix()}{after}"

    return _LINK.sub(link, text)


def main() -> None:
    """Lay out all pages afresh."""
    shutil.rmtree(OUT, ignore_errors=True)
    places = pages()
    for source, name in places.items():
        (OUT / name).parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            (OUT / name).write_text(relinked(source.read_text("utf-8"), source, places), "utf-8")
        else:
            shutil.copyfile(source, OUT / name)


if __name__ == "__main__":
    main()
