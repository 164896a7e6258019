"""Stores on this machine for tests: S3, a web server, and a proxy before them that makes faults."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

_ONE_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class Fault:
    """What a proxy does to some of the requests that come.

    Attributes:
        method: Of which kind they are.
        inside: What their path contains.
        status: The answer instead of the store's.
        cut: Bytes of the body after which the connection is closed.
        seconds: How long they wait.
        times: For how many it holds.
        after: How many that fit are let through before.
        then: What is called before the request is sent on.
    """

    method: str = "GET"
    inside: str = ""
    status: int = 0
    cut: int | None = None
    seconds: float = 0
    times: int = 1
    after: int = 0
    then: Any = None


@dataclass
class Wire:
    """Faults to come, and the requests that came: method, path, range."""

    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    lock: Any = field(default_factory=Lock)

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.inside in path and fault.times > 0:
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def ranges(self, inside: str) -> list[str]:
        return [r for method, path, r in self.seen if method == "GET" and inside in path]


def kill_while_it_puts(process: subprocess.Popen[bytes], inside: str, wire: Wire) -> None:
    """Kill a process once it has begun to put an object that a fault holds up.

    Args:
        process: The process.
        inside: What the object's path contains.
        wire: Where the fault is; it is gone then, as all of its faults are.
    """
    end = time.monotonic() + 60
    while not any(inside in path for method, path, _ in wire.seen if method == "PUT"):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wire.faults.clear()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port; gives its address."""
    handler.disable_nagle_algorithm = True  # else a body waits 40 ms for the answer to its head

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients go away; that is no fault of a test."""

    with Server(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def proxied(upstream: str) -> Iterator[tuple[str, Wire]]:  # noqa: C901 - a class, its methods short
    """A proxy before a server; gives its address and what is done to what goes through it."""
    wire = Wire()
    host = urlsplit(upstream).netloc

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            wire.seen.append((self.command, self.path, self.headers.get("Range", "")))
            body = self._body()
            fault = wire.fault(self.command, self.path) or Fault()
            if fault.seconds:
                time.sleep(fault.seconds)
            if fault.then is not None:
                fault.then()
            if fault.status:
                self._answer(fault.status, {}, b"", None)
                return
            line = http.client.HTTPConnection(host, timeout=30)
            sent = {k: v for k, v in self.headers.items() if k.lower() not in _ONE_HOP}
            line.request(self.command, self.path, body, sent)
            answer = line.getresponse()
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in _ONE_HOP}
            self._answer(answer.status, headers, answer.read(), fault.cut)
            line.close()

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailers
                pass
            return b"".join(parts)

        def _answer(
            self, status: int, headers: dict[str, str], body: bytes, cut: int | None
        ) -> None:
            self.send_response_only(status)
            lengths = [name for name in headers if name.lower() == "content-length"]
            if not lengths:
                headers["Content-Length"] = str(len(body))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])
            if cut is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815 - as the library calls them

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with serving(Proxy) as address:
        yield address, wire


@contextmanager
def web_folder(
    folder: Path, *, etag: bool = True, times: bool = True, ranges: bool = True, sized: bool = True
) -> Iterator[str]:
    """A web server that gives the files of a folder, and says of them no more than is asked for."""

    class Web(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if sized else "HTTP/1.0"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            file = folder / unquote(urlsplit(self.path).path).lstrip("/")
            if not file.is_file():
                self.send_response_only(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = file.read_bytes()
            part, asked = data, self.headers.get("Range", "")
            if ranges and asked.startswith("bytes="):
                first, _, last = asked.removeprefix("bytes=").partition("-")
                part = data[int(first) : int(last) + 1 if last else len(data)]
                self.send_response_only(206)
                end = int(first) + len(part) - 1
                self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
            else:
                self.send_response_only(200)
            if sized:
                self.send_header("Content-Length", str(len(part)))
            if etag:
                self.send_header("ETag", f'"{md5(data, usedforsecurity=False).hexdigest()}"')
            if times:
                self.send_header("Last-Modified", self.date_time_string(file.stat().st_mtime))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with serving(Web) as address:
        yield address


@contextmanager
def hub(files: dict[str, bytes], token: str) -> Iterator[str]:  # noqa: C901 - a class, its methods short
    """What the client of the Hugging Face hub asks of it for the data set org/name."""

    def described(name: str) -> dict[str, Any]:
        oid = md5(files[name], usedforsecurity=False).hexdigest()
        return {"type": "file", "path": name, "size": len(files[name]), "oid": oid}

    def tree(folder: str, *, deep: bool) -> list[dict[str, Any]]:
        start = f"{folder}/" if folder else ""
        every = {str(p) for name in files for p in PurePosixPath(name).parents if p.parts}
        found = [
            name
            for name in [*files, *every]
            if name.startswith(start) and (deep or "/" not in name[len(start) :])
        ]
        return [
            described(name) if name in files else {"type": "directory", "path": name, "oid": "0"}
            for name in found
        ]

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            if self.headers.get("Authorization") != f"Bearer {token}" and "org/name" in path:
                return self._answer(401, {"error": "Unauthorized"})
            if path.startswith("/api/datasets/org/name/tree/"):
                folder = path.removeprefix("/api/datasets/org/name/tree/").partition("/")[2]
                return self._answer(200, tree(folder, deep="recursive=true" in parts.query.lower()))
            if path.startswith("/api/datasets/org/name"):
                revision = path.rpartition("/revision/")[2]
                return self._answer(404 if revision == "none" else 200, {"id": "org/name"})
            name = path.removeprefix("/datasets/org/name/resolve/").partition("/")[2]
            if name not in files:
                return self._answer(404, {"error": "Entry not found"})
            first, _, last = (
                self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            )
            part = files[name][int(first) : int(last) + 1 if last else None]
            return self._answer(
                206, part, f"bytes {first}-{int(first) + len(part) - 1}/{len(files[name])}"
            )

        def _answer(self, status: int, body: Any, part: str = "") -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            if part:
                self.send_header("Content-Range", part)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with serving(Hub) as address:
        yield address


@dataclass
class Bucket:
    """A bucket on a real S3 server, behind a proxy.

    Attributes:
        url: The bucket's.
        wire: What the proxy does and saw.
        filesystem: The server, by another client than the one that is tested, past the proxy.
    """

    url: str
    wire: Wire
    filesystem: Any

    def put(self, name: str, data: bytes) -> str:
        """Put an object; gives its URL."""
        with self.filesystem.open_output_stream(f"{self.url[5:]}/{name}", compression=None) as out:
            out.write(data)
        return f"{self.url}/{name}"

    def put_tree(self, folder: Path) -> None:
        """Put all files of a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(path.relative_to(folder).as_posix(), path.read_bytes())
