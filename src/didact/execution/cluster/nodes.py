"""What must be equal on all machines of a cluster, and what all of them must see."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from didact.core.atomic import writable
from didact.core.errors import ConfigError, ExecutionError
from didact.core.identity import base_libraries
from didact.core.paths import Place, RemotePath
from didact.execution.cluster.connection import heard

Facts = Mapping[str, str]

_SECONDS: Final = 120.0  # for a machine to start a process and answer
# Beside the libraries that every result depends on: what models run by, where it is installed.
_BESIDE: Final = ("numba", "orjson", "ray", "tokenizers", "torch", "transformers")
_MOST_NAMED: Final = 5


def working_nodes() -> dict[str, str]:
    """Nodes that run work, by their id: how messages call them."""
    import ray

    return {
        str(node["NodeID"]): f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()
        if node["Alive"] and any(node["Resources"].get(kind, 0) for kind in ("CPU", "GPU"))
    }


def checked_nodes(nodes: Mapping[str, str], cache_dir: Place) -> dict[str, str]:
    """Refuse machines on which work would give other results, or that do not see the cache.

    Args:
        nodes: Those to ask, as `working_nodes` gives them.
        cache_dir: The cache; a file is written there for as long as this takes.

    Returns:
        Those that answered: Ray learns of a machine that is gone only after a while.

    Raises:
        ConfigError: A machine differs; the message has both values, and the machine.
        ExecutionError: A machine does not answer.
    """
    here = facts_of(_names())()
    with (
        writable(cache_dir, "set another place with --cache-dir or DIDACT_CACHE"),
        _token(cache_dir) as token,
    ):
        found = _asked(nodes, token)
    wrong: list[str] = []
    for node, there in found.items():
        wrong += [f"{nodes[node]}: {what}" for what in differences(here, there)]
    if wrong:
        more = f"; and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise ConfigError(
            f"machines of the cluster differ: {'; '.join(wrong[:_MOST_NAMED])}{more}. Results "
            "would depend on where they are made: install the same everywhere (one image, or one "
            "lock file), and restart 'ray start' there"
        )
    blind = [nodes[node] for node, there in found.items() if there["cache"] != token.name]
    if blind:
        raise ConfigError(
            f"{', '.join(blind[:_MOST_NAMED])}: cannot see the cache {cache_dir}; workers read the "
            "pool and models from it: set --cache-dir or DIDACT_CACHE to a folder of a file system "
            "that all machines have mounted at the same place, or to a bucket that all may read, "
            "with its credentials set where 'ray start' was called"
        )
    return {node: nodes[node] for node in found}


def all_see(nodes: Mapping[str, str], folder: Place) -> bool:
    """Whether every machine sees a folder; a file is written there for as long as this takes."""
    with _token(folder) as token:
        return all(there["cache"] == token.name for there in _asked(nodes, token).values())


@contextmanager
def _token(folder: Place) -> Iterator[Place]:
    """A file in a folder, with its own name in it."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    token = folder / f".seen-{secrets.token_hex(8)}"
    token.write_text(token.name, encoding="utf-8")
    try:
        yield token
    finally:
        with suppress(OSError):
            token.unlink()


def differences(here: Facts, there: Facts) -> list[str]:
    """What differs of two machines, in words; what this one has not does not count."""
    return [
        f"{name} {there.get(name) or 'is missing'}, {value} here"
        for name, value in here.items()
        if value and name != "cache" and there.get(name, "") != value
    ]


def _names() -> tuple[str, ...]:
    return (*(base_libraries().keys() - {"didact", "zlib"}), *_BESIDE)


def facts_of(names: Iterable[str]) -> Callable[..., dict[str, str]]:
    """A function that tells what is installed where it runs.

    It is sent as it stands, and imports nothing of didact before it has looked: there may be none,
    or another.

    Args:
        names: Distributions.
    """
    listed = sorted(names)

    def facts(token: str = "") -> dict[str, str]:
        import hashlib
        import importlib.metadata
        import importlib.util
        import pathlib
        import platform
        import zlib

        out = {"Python": ".".join(platform.python_version_tuple()[:2])}
        out["zlib"] = zlib.ZLIB_RUNTIME_VERSION
        for name in listed:
            try:  # a build for another device has the same version before the plus sign
                out[name] = importlib.metadata.version(name).partition("+")[0]
            except importlib.metadata.PackageNotFoundError:
                out[name] = ""
        out["didact"] = out["didact's source"] = ""
        spec = importlib.util.find_spec("didact")
        if spec is not None and spec.submodule_search_locations:
            from didact._version import __version__

            out["didact"] = __version__
            digest, home = hashlib.blake2b(digest_size=6), None
            for place in spec.submodule_search_locations:
                home = pathlib.Path(place)
                for path in sorted(home.rglob("*.py")):
                    digest.update(str(path.relative_to(home)).encode())
                    digest.update(path.read_bytes())
            out["didact's source"] = digest.hexdigest()
        try:
            if "://" in token:
                from didact.core.paths import place as behind

                out["cache"] = behind(token).read_text()
            else:
                out["cache"] = pathlib.Path(token).read_text(encoding="utf-8") if token else ""
        except Exception:  # noqa: BLE001 - it sees no cache, for whatever reason
            out["cache"] = ""
        return out

    return facts


def _asked(nodes: Mapping[str, str], token: Place) -> dict[str, dict[str, str]]:
    """What every node says."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(facts_of(_names()))
    asked = {
        ask.options(
            num_cpus=0, max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(token.url if isinstance(token, RemotePath) else str(token)): node
        for node in nodes
    }  # fmt: skip
    done, silent = heard(ray.wait, list(asked), num_returns=max(len(asked), 1), timeout=_SECONDS)
    if silent:
        raise ExecutionError(
            f"{', '.join(nodes[asked[ref]] for ref in silent[:_MOST_NAMED])}: no answer for "
            f"{_SECONDS:.0f} s; look at 'ray status', and at the logs there (/tmp/ray)"
        )
    found: dict[str, dict[str, str]] = {}
    for ref in done:
        try:
            found[asked[ref]] = heard(ray.get, ref)
        except ray.exceptions.RayTaskError as error:
            line = str(error).strip().splitlines()[-1]
            raise ExecutionError(f"{nodes[asked[ref]]}: cannot be looked at: {line}") from error
        except ray.exceptions.RayError:
            continue  # it is gone
    return found
