"""The wheel as people get it: `make test-wheel` builds it and runs this in a fresh environment.

The environment holds the wheel, what it requires, and pytest; the tests of the README run there too.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "didact"
WHEEL = os.environ.get("DIDACT_WHEEL")

pytestmark = pytest.mark.skipif(WHEEL is None, reason="needs a fresh environment: make test-wheel")


def test_it_is_the_wheel_that_is_tested():
    import didact

    assert Path(didact.__file__).is_relative_to(sys.prefix)
    heavy = ("torch", "transformers", "numba", "pandas", "scipy", "datasets")
    assert not [name for name in heavy if importlib.util.find_spec(name)]


def test_it_holds_the_package_and_its_licences_and_no_more():
    import didact

    own = {
        f"didact/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    about = f"didact-{didact.__version__}.dist-info"
    facts = (
        "METADATA",
        "WHEEL",
        "RECORD",
        "entry_points.txt",
        "licenses/LICENSE",
        "licenses/NOTICE",
    )
    assert "didact/py.typed" in own
    assert set(zipfile.ZipFile(WHEEL).namelist()) == own | {f"{about}/{name}" for name in facts}


def test_its_metadata_is_whole():
    import didact

    archive = zipfile.ZipFile(WHEEL)
    about = f"didact-{didact.__version__}.dist-info"
    facts = BytesParser().parsebytes(archive.read(f"{about}/METADATA"))
    assert facts["Version"] == didact.__version__
    assert facts["License-Expression"] == "Apache-2.0"
    assert facts["Requires-Python"] == ">=3.11"
    assert facts["Description-Content-Type"] == "text/markdown"
    assert facts.get_payload().startswith("# didact")
    assert f"version: {didact.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()


def test_what_is_missing_is_named_with_how_to_get_it(tmp_path):
    (tmp_path / "pool.txt").write_text("one line\nanother line\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("didact"), "score", "pool.txt", "--method", "perplexity",
         "--set", "model=nobody/nothing", "-o", "scores.parquet"],
        cwd=tmp_path, env={**os.environ, "DIDACT_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "didact[models]" in done.stderr


def test_every_public_name_is_there():
    import didact

    assert metadata.version("didact") == didact.__version__
    for name in didact.__all__:
        assert getattr(didact, name) is not None
