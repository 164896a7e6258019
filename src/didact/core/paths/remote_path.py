"""What lies behind a URL, with the part of pathlib's interface that is used here."""

from __future__ import annotations

import io
import shutil
import stat as modes
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, Literal

from didact.core.errors import DataError
from didact.core.paths.drivers import store_of
from didact.core.paths.faults import RemoteMissingError, persistently
from didact.core.paths.masks import masked
from didact.core.paths.ranges import Anywhere, Ranges
from didact.core.paths.stores import Seen, Source, Store

WEB: Final = {"http", "https"}
_BUFFER: Final = 2**16
_PART: Final = 2**22  # bytes read at a time of what is sent
_MOST_COPIED: Final = 5 * 2**30  # bytes: S3 copies no more in one request, and pyarrow makes one


@dataclass(frozen=True, slots=True)
class RemoteStat:
    """What a store says of an object, by the names that `os.stat_result` has for it.

    Attributes:
        st_size: Bytes; 0 where it is not said.
        st_mtime_ns: When it was last written; 0 where it is not said.
        st_mode: That of a plain file, or of a folder.
        tag: ETag, generation or hash: another for other bytes; "" where there is none.
    """

    st_size: int
    st_mtime_ns: int
    st_mode: int
    tag: str

    @property
    def st_mtime(self) -> float:
        """`st_mtime_ns` in seconds."""
        return self.st_mtime_ns / 10**9


@dataclass(frozen=True, slots=True, repr=False)
class RemotePath:
    """What lies behind a URL, with the part of pathlib's interface that is used here.

    It pickles as its URL: whoever gets it opens it anew, with the credentials of the place where
    that happens. As text it has none. It is no `os.PathLike`: nothing opens it by mistake.

    Attributes:
        scheme: `s3`, `gs`, `hf`, `https`, …
        root: Bucket or host, with credentials if the URL had some.
        key: Names inside, with `/` between them.
        query: Of a web address what stands from `?` on.
    """

    scheme: str
    root: str
    key: str = ""
    query: str = ""
    _seen: Seen | None = field(default=None, compare=False)  # by the listing that it is from

    def __str__(self) -> str:
        return masked(self.url)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __lt__(self, other: RemotePath) -> bool:
        """As paths are sorted: name by name."""
        return (self.scheme, *self.parts) < (other.scheme, *other.parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemotePath, (self.scheme, self.root, self.key, self.query)

    @property
    def url(self) -> str:
        """The whole URL, credentials and all: to open it, never to be written down."""
        slash = "/" if self.key else ""
        return f"{self.scheme}://{self.root}{slash}{self.key}{self.query}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Scheme and root, and each name inside."""
        return (f"{self.scheme}://{self.root}", *filter(None, self.key.split("/")))

    @property
    def name(self) -> str:
        """The last name."""
        return self.key.rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last name without its last suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last suffix."""
        return PurePosixPath(self.name).suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes."""
        return PurePosixPath(self.name).suffixes

    @property
    def parent(self) -> RemotePath:
        """The folder that it lies in; the root lies in itself."""
        return RemotePath(self.scheme, self.root, self.key.rstrip("/").rpartition("/")[0])

    @property
    def parents(self) -> tuple[RemotePath, ...]:
        """All folders that it lies in, the nearest first."""
        found, at = [], self
        while at.key:
            at = at.parent
            found.append(at)
        return tuple(found)

    def __truediv__(self, name: str | PurePosixPath) -> RemotePath:
        """What is called so inside."""
        inside = str(name).strip("/")
        key = "/".join(filter(None, (self.key.rstrip("/"), inside if inside != "." else "")))
        return RemotePath(self.scheme, self.root, key)

    def with_name(self, name: str) -> RemotePath:
        """What is called so beside it."""
        return self.parent / name

    def relative_to(self, folder: RemotePath) -> PurePosixPath:
        """What it is called from a folder.

        Raises:
            ValueError: It does not lie in it.
        """
        if not self.is_relative_to(folder):
            raise ValueError(f"{self} does not lie in {folder}")
        return PurePosixPath(*self.parts[len(folder.parts) :])

    def is_relative_to(self, folder: object) -> bool:
        """Whether it is a folder or lies in it."""
        if not isinstance(folder, RemotePath):
            return False
        return self.parts[: len(folder.parts)] == folder.parts and self.scheme == folder.scheme

    def expanduser(self) -> RemotePath:
        """It is whole."""
        return self

    def absolute(self) -> RemotePath:
        """It is."""
        return self

    def resolve(self) -> RemotePath:
        """It is no link."""
        return self

    def is_absolute(self) -> bool:
        """It is."""
        return True

    def as_posix(self) -> str:
        """The URL without credentials."""
        return str(self)

    @property
    def _store(self) -> Store:
        return store_of(self.scheme, self.root)

    @property
    def _whole_key(self) -> str:
        return f"{self.key}{self.query}"

    def _kind(self) -> str:
        if self._seen is None:
            store = self._store
            found = persistently(str(self), lambda: store.look(self._whole_key))
        else:
            found = self._seen
        return "" if found is None else found.kind

    def exists(self) -> bool:
        """Whether there is something. **Cost:** one request or two; none of what was listed."""
        return self._kind() != ""

    def is_file(self) -> bool:
        """Whether it is an object."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether it is a folder, which is there as long as something lies in it."""
        return (not self.key and self.scheme not in WEB) or self._kind() == "folder"

    def is_symlink(self) -> bool:
        """Stores have no links."""
        return False

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies right in the folder, sorted."""
        return iter(self._listed(deep=False))

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """What lies in the folder and below and has a name like `pattern`, sorted."""
        return self.glob(f"**/{pattern}")

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What a pattern matches, sorted; `**` is any number of folders."""
        names = pattern.split("/")
        for found in self._listed(deep=len(names) > 1):
            if _fits(found.parts[len(self.parts) :], names):
                yield found

    def _listed(self, *, deep: bool) -> list[RemotePath]:
        if self.scheme in WEB:
            raise DataError(
                f"{self}: web servers list no folders; expected the address of a file, each one "
                "of several"
            )
        store = self._store
        found = persistently(str(self), lambda: dict(store.inside(self.key, deep=deep)))
        # folders that no object stands for
        for name in list(found) if deep else ():
            for folder in PurePosixPath(name).parents:
                if folder.parts:
                    found.setdefault(str(folder), Seen("folder"))
        return sorted(replace(self / name, _seen=seen) for name, seen in found.items())

    def stat(self) -> RemoteStat:
        """What the store says of it, asked now.

        Raises:
            RemoteMissingError: There is nothing.
        """
        store = self._store
        folder = RemoteStat(0, 0, modes.S_IFDIR, "")
        if not self.key and self.scheme not in WEB:
            return folder
        try:
            found = persistently(str(self), lambda: store.describe(self._whole_key))
        except RemoteMissingError:
            if self.is_dir():
                return folder
            raise
        return RemoteStat(found.size or 0, found.mtime_ns or 0, modes.S_IFREG, found.tag)

    def listed_stat(self) -> RemoteStat:
        """`stat`, of what the listing said where it is from one."""
        if self._seen is None:
            return self.stat()
        mode = modes.S_IFREG if self._seen.kind == "file" else modes.S_IFDIR
        return RemoteStat(self._seen.size or 0, self._seen.mtime_ns or 0, mode, self._seen.tag)

    def open(self, mode: Literal["rb", "wb"] = "rb") -> BinaryIO:
        """The object as a file, read in ranges; or, with "wb", a new one, there once it is closed.

        Raises:
            DataError: It cannot be opened, or while it is read: reading failed too often, or the
                object was changed.
        """
        store = self._store
        if mode == "wb":
            return persistently(str(self), self._sink, writing=True)

        def opened() -> Source:
            return store.source(self._whole_key)

        return io.BufferedReader(Ranges(str(self), opened), _BUFFER)

    def anywhere(self) -> Anywhere:
        """The object, to be read at any place of it; for one thread."""
        store = self._store
        return Anywhere(str(self), lambda: store.source(self._whole_key))

    def _sink(self) -> BinaryIO:
        store = self._store
        # or it would compress what is called .gz
        out: BinaryIO = store.filesystem.open_output_stream(
            store.path(self._whole_key), compression=None
        )
        return out

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of it as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> int:
        """Put an object there, whole."""

        def put() -> int:
            with self._sink() as out:
                out.write(data)
            return len(data)

        return persistently(str(self), put, writing=True)

    def send(self, file: Path) -> None:
        """Put the bytes of a file of this machine there: whole, or none of them.

        Raises:
            DataError: They could not be put there.
        """
        self._put(lambda: file.open("rb"))

    def _put(self, opened: Callable[[], BinaryIO]) -> None:
        """`send`, of what is opened anew for every try."""

        def put() -> None:
            with opened() as source:
                out = self._sink()
                try:
                    shutil.copyfileobj(source, out, _PART)
                except BaseException:  # closing puts what was written so far: pyarrow cannot abort
                    with suppress(Exception):
                        out.close()
                        self.unlink(missing_ok=True)
                    raise
                out.close()

        persistently(str(self), put, writing=True)

    def copy_to(self, other: RemotePath) -> None:
        """Put the same object at another place of the same store, which copies it by itself.

        S3 does so up to 5 GiB; what is larger goes through this machine.
        """
        if self.scheme == "s3" and self.stat().st_size > _MOST_COPIED:
            other._put(self.open)
            return
        store = self._store
        persistently(
            str(other), lambda: store.filesystem.copy_file(
                store.path(self._whole_key), store.path(other._whole_key)
            ), writing=True,
        )  # fmt: skip

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        """Put a text there, whole."""
        return self.write_bytes(text.encode(encoding))

    def write_new(self, data: bytes) -> bool | None:
        """Put an object there unless there is one: whether it was put.

        None where the store has no such thing; nothing was written then.
        """
        store = self._store
        return persistently(str(self), lambda: store.create(self._whole_key, data), writing=True)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the object.

        Raises:
            RemoteMissingError: There is none, and that is not `missing_ok`.
        """
        store = self._store
        try:
            persistently(
                str(self), lambda: store.filesystem.delete_file(store.path(self._whole_key)),
                writing=True,
            )  # fmt: skip
        except RemoteMissingError:
            if not missing_ok:
                raise

    def fetch(self, file: Path) -> None:
        """Copy the object into a file of this machine; its folder is made if need be."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with self.open("rb") as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, _PART)

    def remove(self) -> None:
        """Remove it, with all that lies in it if it is a folder; nothing is fine, too."""
        kind = self._kind()
        if kind == "file":
            self.unlink(missing_ok=True)
        elif kind == "folder":
            store = self._store
            with suppress(RemoteMissingError):
                persistently(
                    str(self), lambda: store.filesystem.delete_dir(store.path(self.key)),
                    writing=True,
                )  # fmt: skip


def _fits(names: tuple[str, ...], pattern: list[str]) -> bool:
    """Whether the names of a path are those of a pattern, one by one."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(names)
        return any(_fits(names[i:], pattern[1:]) for i in range(len(names)))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])
