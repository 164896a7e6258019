"""`didact` out of a process that has its libraries open: every command is a fork of that process.

To start Python and open the libraries takes longer than most commands do. Each command still has a
process, a folder, an environment and streams of its own. What a start from nothing needs (the
interpreter's own settings, limits of the process, imports) is tested where one is made.

    python warm.py serve SOCKET MODULE …    until stdin ends
    python warm.py call SOCKET WORD …       the command's end and output as its own; Python in
                                            the variable WARM_FIRST is run before the command
"""

from __future__ import annotations

import json
import os
import socket
import sys


def serve(place: str, modules: list[str]) -> None:
    """Fork for every connection, one at a time, until stdin ends."""
    import gc
    import importlib
    import select

    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen()
        os.write(1, b"open\n")  # from here on who calls waits
        for module in modules:
            importlib.import_module(module)
        gc.freeze()
        while door in select.select([door, sys.stdin], [], [])[0]:
            line, _ = door.accept()
            with line:
                head, streams, _, _ = socket.recv_fds(line, 4, 3)
                order = json.loads(line.makefile("rb").read(int.from_bytes(head)))
                child = os.fork()
                if not child:
                    _live(streams, **order)
                for stream in streams:
                    os.close(stream)
                _, status = os.waitpid(child, 0)
                line.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _live(streams: list[int], words: list[str], cwd: str, env: dict[str, str]) -> None:
    code = 3
    try:
        for own, given in enumerate(streams):
            os.dup2(given, own)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        exec(os.environ.pop("WARM_FIRST", ""), {})  # noqa: S102 - what a test does to the process
        sys.argv = ["didact", *words]
        from didact.cli import main

        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def call(place: str, words: list[str]) -> int:
    """Exit code of a command: this process's folder, environment and streams are its own."""
    order = {"words": words, "cwd": os.getcwd(), "env": dict(os.environ)}  # noqa: PTH109
    data = json.dumps(order).encode()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(place)
        socket.send_fds(line, [len(data).to_bytes(4)], [0, 1, 2])
        line.sendall(data)
        return int(line.makefile().read())


if __name__ == "__main__":
    what, place, *more = sys.argv[1:]
    if what == "serve":
        serve(place, more)
    else:
        code = call(place, more)
        if code < 0:
            os.kill(os.getpid(), -code)
        sys.exit(code)
