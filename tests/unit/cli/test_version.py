"""`didact --version` says what a report of a bug needs, whatever is installed."""

from __future__ import annotations

import platform
from importlib import metadata

from didact._version import __version__
from didact.cli import version


def test_every_library_and_extra_of_a_user_is_named():
    first, second, *rest = version.described().splitlines()
    assert first == f"didact {__version__}"
    assert f"Python {platform.python_version()}, " in second
    extras = set(metadata.metadata("didact").get_all("Provides-Extra")) - set(version._OURS)
    assert {line.partition(":")[0] for line in rest} == {
        "libraries",
        *(f"[{extra}]" for extra in extras),
    }
    assert f"numpy {metadata.version('numpy')}, " in rest[0]


def test_what_is_missing_is_said(monkeypatch):
    wanted = ["numpy>=2", "no-such-library[fast]>=1; extra == 'odd'", "ruff>=1; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)
    assert version.described().splitlines()[2:] == [
        f"libraries: numpy {metadata.version('numpy')}",
        "[odd]: no-such-library missing",
    ]


def test_it_need_not_be_installed(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert len(version.described().splitlines()) == 2
