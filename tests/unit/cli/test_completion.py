"""What a shell offers: names that the registry has, and files where didact has nothing to say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from didact.accounting.devices import device
from didact.cli import completion
from didact.core import registry


@pytest.mark.parametrize("group", [*registry.METHOD_GROUPS, "trainers"])
def test_names_are_the_registrys(group):
    assert completion.names_of(group)("") == list(registry.known(group))


def test_names_begin_as_the_word_does():
    assert completion.names_of("scorers")("bm") == ["bm25"]
    assert completion.names_of("trainers", also=("none",))("no") == ["none"]
    assert completion.methods("zi") == ["zip_fit", "zip", "zigzag"]
    assert completion.methods("random") == ["random"]


def test_devices_are_one_word_that_the_table_reads():
    found = completion.devices("")
    assert found[0] == "here"
    assert not [name for name in found if " " in name]
    assert [device(name).name.replace(" ", "-") for name in found[1:]] == found[1:]
    assert completion.devices("rtx") == ["RTX-4090", "RTX-3090"]


def test_bash_is_offered_verbs_options_methods_and_files(tmp_path):
    """The script of `--show-completion` in a real bash, as a tab would call it."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("no bash")
    asked = ["ve", "score --m", "score pool --method bm", "score po"]
    didact = tmp_path / "didact"
    didact.write_text(f'#!/bin/sh\nexec {sys.executable} -m didact.cli "$@"\n')
    didact.chmod(0o755)
    ask = "\n".join(
        f"COMP_WORDS=(didact {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        '_didact_completion didact; echo "${COMPREPLY[@]}"'
        for line in asked
    )
    done = subprocess.run(
        [bash, "--norc", "-c", f'eval "$(_DIDACT_COMPLETE=source_bash didact)"\n{ask}\ncomplete -p didact'],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    # nothing is offered for a file: then `-o default` makes bash offer what lies there
    assert done.stdout.splitlines() == [
        "verify-order", "--method", "bm25", "", "complete -o default -F _didact_completion didact",
    ]  # fmt: skip
