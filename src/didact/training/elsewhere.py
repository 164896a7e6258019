"""Trainings whose model belongs behind a URL: done in the scratch, and put there once finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from didact.core.atomic import remove, send
from didact.core.manifest import fingerprint
from didact.core.paths import RemotePath, listed
from didact.core.scratch import scratch
from didact.models.folder import RECORD
from didact.training.trained import Trained


def train_elsewhere(out: RemotePath, train: Callable[[Path], Trained]) -> Trained:
    """Train in a folder of this machine, and put the model at `out`, its record last.

    A training that was killed goes on from its checkpoints when it is started again on this
    machine. A model that is there already is fetched, so that `train` can tell whose it is.

    Args:
        out: Where the model belongs.
        train: Trains into a folder.
    """
    here = scratch("training") / fingerprint(str(out)) / (out.name or "model")
    there = [file for file in listed(out, "**/*") if file.is_file()] if out.is_dir() else []
    if any(file.name == RECORD for file in there) and not here.exists():
        for file in there:
            if isinstance(file, RemotePath):
                file.fetch(here / file.relative_to(out))
    done = train(here)
    if not done.reused:
        (out / RECORD).unlink(missing_ok=True)
        files = sorted(path for path in here.rglob("*") if path.is_file())
        names = {path.relative_to(here).as_posix(): path for path in files}
        for old in there:
            if isinstance(old, RemotePath) and old.relative_to(out).as_posix() not in names:
                old.unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: name == RECORD):
            send(names[name], out / name)
    remove(here.parent)
    return replace(done, path=out)
