"""Globs → files, without following links around in circles."""

from __future__ import annotations

import glob
import re
from pathlib import Path


def matches(pattern: str) -> list[Path]:
    """The files that a glob matches, sorted; `**` is any number of folders, none of them a link.

    Hidden files and folders match only where the pattern has a name that begins with a dot.
    A link that leads back to its own folder is passed over: `**` would go around in it.
    """
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    # two stars are any folders only where they stand alone
    below = [p if p == "**" else re.sub(r"\*\*+", "*", p) for p in parts[fixed:]]
    if below[-1] == "**":
        below.append("*")
    hidden = any(part.startswith(".") for part in below)
    root = Path(*parts[:fixed])
    return sorted(
        path
        for path in root.glob("/".join(below))
        if path.is_file()
        and (hidden or not any(n.startswith(".") for n in path.relative_to(root).parts))
    )
