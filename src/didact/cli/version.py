"""What `didact --version` prints: what a report of a bug should say about the installation."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata

from didact._version import __version__

_OURS = ("dev", "release", "trainers")  # extras for working on didact itself
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?[^;]*(?:;.*\bextra\s*==\s*['\"]([\w-]+)['\"])?")


def described() -> str:
    """The version alone in the first line; Python and system; versions of libraries by extra."""
    system = f"{platform.system()} {platform.machine()}"
    lines = [
        f"didact {__version__}",
        f"Python {platform.python_version()}, {system}, {sys.executable}",
    ]
    lines += [f"{extra}: {_found(names)}" for extra, names in _libraries().items()]
    return "\n".join(lines)


def _libraries() -> dict[str, list[str]]:
    """Names of libraries by extra, those that are always needed under `libraries`."""
    by_extra: dict[str, list[str]] = {}
    try:
        requirements = metadata.requires("didact") or ()
    except metadata.PackageNotFoundError:  # run from its source, not installed
        requirements = ()
    for requirement in requirements:
        if (found := _REQUIREMENT.match(requirement)) and found[2] not in _OURS:
            by_extra.setdefault(f"[{found[2]}]" if found[2] else "libraries", []).append(found[1])
    return by_extra


def _found(names: list[str]) -> str:
    versions = {name: _version(name) for name in names}
    return ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
