"""Takes the pictures of pages that the docs show: `make pictures`. Needs Chromium.

The pages are those of the demo, made anew, so that the pictures show what a first run shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import didact
from didact import plans
from didact.demo import demo_config, write_demo_data

FOLDER = Path(__file__).parent / "pictures"
MOST_BYTES = 150_000  # of a picture
POLICY = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>")
# A window is never narrower than 500 pixels; a frame in it may be.
FRAME = """<!doctype html><body style="margin:0;overflow:hidden;background:{paper}">
<iframe src="{page}" style="display:block;margin:0 auto;border:0;width:{width}px;
height:{height}px"></iframe>"""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture of a page.

    Attributes:
        name: Of its file.
        page: The page.
        width: Pixels.
        height: Pixels.
        only: A section without what stands before it; "" for the head of the page.
        script: What happens on the page before.
        dark: The reader's color scheme.
    """

    name: str
    page: Path
    width: int
    height: int
    only: str = ""
    script: str = ""
    dark: bool = False


SEARCH = """
const fill = (name, value) => {
  const field = document.getElementById('browse-' + name);
  field.value = value;
  field.dispatchEvent(new Event('input', { bubbles: true }));
};
fill('search', 'distribution');
fill('sort', 'cut');
document.querySelector('#browse tbody tr:not([hidden]) details').open = true;
"""


def chromium() -> str:
    """The browser's command."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        sys.exit(f"no browser was found; install Chromium (looked for {', '.join(names)})")
    return found


def take(shot: Shot, browser: str, folder: Path) -> None:
    """Write one picture."""
    html = POLICY.sub("", shot.page.read_text("utf-8"))
    if shot.only:
        hidden = f"body > header, section:not(#{shot.only}) {{ display: none !important; }}"
        bare = "section { border: 0 !important; margin: 0 !important; padding: 0 !important; }"
        style = f"{hidden} {bare} body {{ padding-top: 1.25rem; }}</style>"
        html = html.replace("</style>", style, 1)
    html = html.replace("</body>", f"<script>{shot.script}</script></body>")
    page, frame = folder / "page.html", folder / "frame.html"
    page.write_text(html, "utf-8")
    paper = "#14171a" if shot.dark else "#fcfcfb"
    size = {"width": shot.width, "height": shot.height}
    frame.write_text(FRAME.format(paper=paper, page=page.name, **size))
    picture = folder / "picture.png"
    command = [
        browser, "--headless=new", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000",
        f"--window-size={max(shot.width, 500)},{shot.height}",
        f"--blink-settings=preferredColorScheme={int(not shot.dark)}",
        f"--screenshot={picture}", frame.as_uri(),
    ]  # fmt: skip
    if os.geteuid() == 0:
        command.insert(1, "--no-sandbox")
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    if (taken := picture.stat().st_size) > MOST_BYTES:
        sys.exit(f"{shot.name}.png has {taken:,} bytes, over {MOST_BYTES:,}; take less of the page")
    shutil.move(picture, FOLDER / f"{shot.name}.png")


def main() -> None:
    """All pictures."""
    browser = chromium()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)  # pages show paths as they are given
        config = demo_config(*write_demo_data(Path("demo")), Path("run.yaml"))
        didact.run(config, folder / "run", cache_dir=folder / "cache")
        report = folder / "run" / "report.html"
        planned = didact.plan(model="70B", budget="4e19", samples="300k", mean_tokens=350)
        plans.write_plan(planned, folder / "plan")
        for shot in (
            Shot("report", report, 1080, 640),
            Shot("report-browse", report, 1080, 760, only="browse", script=SEARCH),
            Shot("report-phone", report, 390, 760, only="browse", script=SEARCH, dark=True),
            Shot("plan", folder / "plan" / plans.PAGE, 1080, 620),
        ):
            take(shot, browser, folder)


if __name__ == "__main__":
    main()
