"""What commands are given: the pool behind the POOL argument, settings of a method."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from didact.cli.streams import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.data.reading.settings import DataSettings
    from didact.execution.choice import Kind


@contextmanager
def opened_pool(
    paths: list[str],
    data: list[str] | None,
    cache_dir: str | None,
    seed: int = 0,
    workers: int | None = None,
    executor: Kind | None = None,
    address: str | None = None,
) -> Iterator[tuple[Pool, DataSettings, Context]]:
    """The pool, how it was read, and a context; progress is drawn until the block ends."""
    from didact import verbs
    from didact.cli.printing import progress_bars

    settings = read_settings(data)
    with progress_bars() as progress:
        ctx = verbs.context(
            seed, workers, cache_dir, progress, say, executor=executor, address=address
        )
        yield verbs.read_with_inputs(paths, settings, ctx).pool, settings, ctx


def read_settings(data: list[str] | None) -> DataSettings:
    """How files are read, from --data."""
    from didact import config as configs
    from didact.data.reading.settings import DataSettings

    checked: DataSettings = configs.validated(DataSettings, configs.apply({}, data or ()), "--data")
    return checked


def method_settings(
    given: list[str] | None, verb: Callable[..., Any], *also: str
) -> dict[str, Any]:
    """What --set gives, as plain values.

    Args:
        given: Texts of the form name=value.
        verb: Its own parameters are flags, not settings of the method.
        also: Parameters of the verb that --set may give nevertheless.

    Raises:
        ConfigError: A name is a flag's.
    """
    import inspect

    from didact import config as configs
    from didact.core.errors import ConfigError

    settings = configs.apply({}, given or ())
    for name in settings:
        if name in inspect.signature(verb).parameters and name not in also:
            raise ConfigError(f"--set {name}: not a setting of the method; see --help for its flag")
    return settings
