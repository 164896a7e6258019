"""Headless Chromium, for tests that look at pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)

# Chromium's own window is never narrower than 500 pixels; a frame may be.
FRAME = """<!doctype html><body style="margin:0"><pre id="found"></pre>
<iframe src="{name}" style="border:0;width:{width}px;height:900px"></iframe>
<script>
addEventListener('message', e => {{ document.getElementById('found').textContent = e.data; }});
</script>"""


def browse(page: Path, folder: Path, *arguments: str) -> str:
    """The page's DOM after its scripts ran."""
    profile = folder / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    command = [
        str(CHROMIUM), "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--virtual-time-budget=4000", *arguments, "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    if os.geteuid() == 0:
        command.insert(1, "--no-sandbox")
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode()


def without_policy(text: str) -> str:
    """A page that a probe may be added to."""
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", text)
    return text.replace(policy.group(), "")
