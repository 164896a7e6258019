"""A run where Python lacks what only POSIX systems have; the library of locks brings its own."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import os, sys
import filelock, subprocess, tempfile  # portable, each in its own way, which is settled on import

for name in ("fcntl", "grp", "posix", "pwd", "pty", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for name in ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "chown", "fchmod", "fork", "geteuid",
             "getgid", "getuid", "kill", "killpg", "mkfifo", "pread", "pwrite", "register_at_fork",
             "sched_getaffinity", "setsid", "statvfs", "sysconf"):
    vars(os).pop(name, None)
"""
RUN = "import sys; from didact.cli import main; sys.exit(main())"
CONFIG = """
data:   {path: pool.jsonl, validation: 0.1}
score:  {method: bm25, target: target.jsonl}
select: {method: top_k, budget: {samples: 30}}
order:  {method: fold, layers: 3}
export: {for: trl}
"""


def test_a_run_needs_nothing_that_only_posix_has(tmp_path, chats, target):
    (tmp_path / "run.yaml").write_text(CONFIG)
    assert (chats.name, target.name) == ("pool.jsonl", "target.jsonl")
    files = []
    for name, before in (("here", ""), ("elsewhere", WITHOUT)):
        for out in (name, f"{name}-again"):  # the second finds what the first kept
            done = subprocess.run(
                [sys.executable, "-c", before + RUN, "run", "run.yaml", "-o", out,
                 "--cache-dir", f"cache-{name}", "--workers", "2"],
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            files.append((tmp_path / out / "train.jsonl").read_bytes())
    assert len(files[0].splitlines()) == 30
    assert len(set(files)) == 1
