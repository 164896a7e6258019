"""The identity of a method: its name, and what its results depend on beside its settings."""

from __future__ import annotations

import importlib.metadata
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from didact._version import __version__
from didact.core import atomic, registry
from didact.core.errors import ConfigError, Libraries
from didact.core.paths import Place, RemoteStat, place, shown

M = TypeVar("M", bound=Callable[..., Any])
Distributions = Callable[[Mapping[str, Any]], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class About:
    """A method's description of itself.

    Attributes:
        name: Its registered name.
        libraries: Distributions whose versions its results depend on, by its checked settings.
        models: Settings that name model folders; what is in the folders counts.
        files: Settings that name files; their content counts.
        needs: Optional libraries without which it does not run.
    """

    name: str
    libraries: Distributions
    models: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    needs: tuple[Libraries, ...] = ()


def method(
    name: str,
    *,
    libraries: tuple[str, ...] | Distributions = (),
    models: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    needs: tuple[Libraries, ...] = (),
) -> Callable[[M], M]:
    """Decorate a scorer class, a selector or an orderer with a description of itself.

    A run is done again, and says why, when the version of one of these libraries or the content of
    one of these models has changed. Distributions of didact and of `base_libraries` count anyway.

    Args:
        name: The name it is registered under.
        libraries: Names of distributions ("torch"), or a function of the checked settings.
        models: Names of settings that name model folders.
        files: Names of settings that name files.
        needs: Optional libraries without which it does not run; see `didact.core.errors.need`.
    """
    given = libraries if callable(libraries) else _always(libraries)

    def attach(found: M) -> M:
        found.about = About(name, given, models, files, needs)  # type: ignore[attr-defined]
        return found

    return attach


def _always(libraries: tuple[str, ...]) -> Distributions:
    return lambda _: libraries


def about(found: Callable[..., Any]) -> About:
    """A method's description; one that has none is known by its own name and depends on nothing.

    A class that inherits from a method is not that method.
    """
    said = vars(found).get("about")
    if isinstance(said, About):
        return said
    return About(registry.name_of(found) or found.__name__, _always(()))


def identity(
    found: Callable[..., Any],
    settings: Mapping[str, Any],
    digest: Callable[[str], str],
) -> dict[str, Any]:
    """Everything that results depend on beside the settings, as JSON values.

    Args:
        found: The method.
        settings: Its checked settings.
        digest: The digest of a model's content, by its folder or hub name.
    """
    said = about(found)
    files = {key: _file(said.name, key, settings[key]) for key in said.files if settings.get(key)}
    return {
        "name": said.name,
        "source": registry.source_of(found),
        "libraries": versions(said.libraries(settings)),
        "models": {key: digest(settings[key]) for key in said.models if settings.get(key)},
        **({"files": files} if files else {}),
    }


def _file(name: str, setting: str, value: str) -> str:
    """The digest of a file that a setting names."""
    path = place(value)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise ConfigError(
            f"{name}.{setting}={shown(value)}: {what}; expected a file here, check the path"
        )
    return identity_of_file(path)


def identity_of_file(path: Place) -> str:
    """The digest of a file's content, 32 hex digits.

    **Cost:** reads the file once, and again only when it was changed.
    """
    found = path.stat()
    if isinstance(found, RemoteStat):
        said = (found.st_size, found.st_mtime_ns, found.tag)
        return _digest(path, said) if any(said[1:]) else atomic.digest(path)
    return _digest(path, (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))


@lru_cache(maxsize=16)
def _digest(path: Place, _: tuple[int | str, ...]) -> str:
    return atomic.digest(path)


def base_libraries() -> dict[str, str]:
    """Distributions that every result depends on, whatever the method: name → version."""
    base = versions(("isal", "numpy", "pyarrow", "zstandard"))
    return {"didact": __version__, "zlib": zlib.ZLIB_RUNTIME_VERSION, **base}


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of distributions by name, sorted; "" for one that is not installed."""
    return {name: _version(name) for name in sorted(distributions)}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
