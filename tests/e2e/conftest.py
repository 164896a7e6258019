"""A real browser for pages that didact writes."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Chromium's own window is never narrower than 500 pixels; a frame may be.
FRAME = """<!doctype html><body style="margin:0"><pre id="found"></pre>
<iframe src="{name}" style="border:0;width:{width}px;height:900px"></iframe>
<script>
addEventListener('message', e => {{ document.getElementById('found').textContent = e.data; }});
</script>"""


@dataclass(frozen=True)
class Browser:
    """Headless Chromium."""

    command: str

    def browse(self, page: Path, folder: Path, *arguments: str) -> str:
        """The page's DOM after its scripts ran."""
        profile = folder / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        command = [
            self.command, "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--virtual-time-budget=4000", *arguments, "--dump-dom",
            page.as_uri(),
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        return done.stdout.decode()

    def probe(
        self, page: str, probe: str, folder: Path, width: int, *, dark: bool = False
    ) -> dict[str, Any]:
        """What a script in front of a page's style posts to the window above, as JSON."""
        policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", page)
        # Without the policy: what is tested is that there is nothing for it to stop.
        bare = page.replace(policy.group(), "").replace("<style>", f"{probe}<style>", 1)
        (folder / "probed.html").write_text(bare, "utf-8")
        frame = folder / "frame.html"
        frame.write_text(FRAME.format(name="probed.html", width=width))
        size = f"--window-size={max(width, 500)},1000"
        scheme = f"--blink-settings=preferredColorScheme={int(not dark)}"
        dom = self.browse(frame, folder, size, scheme)
        found = re.search(r"<pre id=\"found\">(.*?)</pre>", dom, re.DOTALL).group(1)
        return json.loads(html.unescape(found))


@pytest.fixture(scope="session")
def browser() -> Browser:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return Browser(found)
