"""Globs → files, without following links around in circles."""

from __future__ import annotations

import glob
import re

from didact.core.paths import Given, Place, RemotePath, inside, listed, place


def is_pattern(path: Place) -> bool:
    """Whether a path has what stands for other names: stars, question marks, brackets."""
    return glob.has_magic(path.key if isinstance(path, RemotePath) else str(path))


def matches(pattern: Given) -> list[Place]:
    """The files that a glob matches, sorted; `**` is any number of folders, none of them a link.

    Hidden files and folders match only where the pattern has a name that begins with a dot.
    A link that leads back to its own folder is passed over: `**` would go around in it.
    """
    whole = place(pattern)
    names = whole.parts[1:] if isinstance(whole, RemotePath) else whole.parts
    fixed = next(i for i, name in enumerate(names) if glob.has_magic(name))
    # two stars are any folders only where they stand alone
    below = [p if p == "**" else re.sub(r"\*\*+", "*", p) for p in names[fixed:]]
    root = whole
    for _ in below:
        root = root.parent
    if below[-1] == "**":
        below.append("*")
    hidden = any(name.startswith(".") for name in below)
    return [
        path
        for path in listed(root, "/".join(below))
        if path.is_file()
        and (hidden or not any(n.startswith(".") for n in inside(path, root).parts))
    ]
