"""Ground: what all runs of a comparison share, opened once: pool, base models, held-out files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from didact import config as configs
from didact import pipeline, verbs
from didact._version import __version__
from didact.accounting.catalog import described
from didact.accounting.spec import ModelSpec
from didact.comparing.grid import Grid
from didact.comparing.settings import Setting, leaves
from didact.core.atomic import write_text
from didact.core.errors import ConfigError, DataError, need
from didact.core.identity import base_libraries, versions
from didact.core.locks import passing_lock
from didact.core.manifest import fingerprint
from didact.core.nesting import parse_json
from didact.core.paths import Given, Place, is_url, shown
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.data.reading.settings import DataSettings
from didact.evaluation.evaluate import HeldOut
from didact.models.architecture import read_spec
from didact.models.folder import digest, find

FORMAT: Final = 1
ABOUT: Final = "compare.json"
_LIBRARIES: Final = ("torch", "transformers", "accelerate", "peft", "tokenizers")
_CONFIGS: Final = (".yaml", ".yml", ".toml")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model.

    Attributes:
        model: Its folder, or its name where it is known by its numbers alone.
        digest: Identity of what is in it.
        n_params: Number of its parameters.
        weight_bytes: Bytes of its weights; 0 where they are not here.
        spec: Its numbers, where they are all that is known.
    """

    model: str
    digest: str
    n_params: int
    weight_bytes: int
    spec: ModelSpec | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What all runs have in common.

    Attributes:
        grid: The grid.
        where: What messages call it.
        home: The folder of the comparison.
        pool: The pool.
        choosing: The held-out files that settings are chosen by.
        telling: Those that tell what they are worth.
        bases: Key of the base as the grid gives it → the model; see `base_of`.
        ctx: Cache, progress, workers.
    """

    grid: Grid
    where: str
    home: Place
    pool: Pool
    choosing: tuple[HeldOut, ...]
    telling: tuple[HeldOut, ...]
    bases: Mapping[str, Base]
    ctx: Context

    @property
    def held_out(self) -> tuple[HeldOut, ...]:
        """All held-out files."""
        return (*self.choosing, *self.telling)

    def base_of(self, setting: Setting) -> Base:
        """The model that a setting starts from."""
        return self.bases[fingerprint(setting.base)]

    @property
    def identity(self) -> dict[str, Any]:
        """What every run depends on beside its config, JSON values."""
        held_out = [[Path(f.path).name, f.blake2b] for f in self.held_out]
        libraries = {**base_libraries(), **versions(_LIBRARIES)}
        return {
            "pool": self.pool.fingerprint, "held_out": held_out, "didact": __version__,
            "libraries": libraries,
        }  # fmt: skip


def open_ground(
    grid: Grid,
    settings: Sequence[Setting],
    home: Place,
    ctx: Context,
    where: str,
    *,
    by_numbers: bool = False,
    making: bool = True,
) -> Ground:
    """Read the pool and the held-out files, and find or make the base models.

    Args:
        grid: The grid.
        settings: Its settings.
        home: The folder of the comparison.
        ctx: Cache, progress.
        where: What messages call the grid.
        by_numbers: Take a base that is a known name or a size ("7B") for its numbers alone: it is
            trained elsewhere.
        making: Whether base models may be made; else one that is not there is refused.

    Raises:
        ConfigError: The folder holds something else, or a comparison of another version.
        DataError: A file is bad; samples of a held-out file are among those that it must not share.
    """
    if not by_numbers:
        need("a comparison", "models")
    claim(home)
    config = configs.validated(configs.DataConfig, grid.data_section, f"{where}: data")
    pool = verbs.read_with_inputs(config.path, config, ctx).pool
    choosing = verbs.held_out(grid.choose_on, config, ctx) if grid.choose_on else []
    telling = verbs.held_out(grid.tell_on, config, ctx)
    _check_names([*choosing, *telling], where)
    for file in choosing:
        _check_apart(file.pool, f"choose_on, {file.path}", telling, where)
    for target in _targets(grid, settings):
        read = read_target(target, config, ctx)
        _check_apart(read, f"target, {_target_name(target)}", telling, where)
    _check_pool(pool, [*choosing, *telling], where)
    bases = {}
    for setting in settings:
        key = fingerprint(setting.base)
        if key not in bases:
            known = _known_by_numbers(setting.base) if by_numbers else None
            bases[key] = known or _opened(_base_path(setting.base, home, ctx, where, making=making))
    return Ground(grid, where, home, pool, tuple(choosing), tuple(telling), bases, ctx)


def _opened(model: Given) -> Base:
    path = find(model)
    weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return Base(str(path), digest(path), read_spec(path).n_total, weights)


def _known_by_numbers(base: Any) -> Base | None:
    """A base that the table knows by its name or size; None for what is to be opened."""
    if not isinstance(base, str) or is_url(base) or Path(base).expanduser().exists():
        return None
    try:
        spec = described(base).spec
    except ConfigError:
        return None
    return Base(base, fingerprint(asdict(spec)), spec.n_total, 0, spec)


def claim(home: Place) -> None:
    """Make the folder of a comparison, or see that it is one, and of this version.

    Raises:
        ConfigError: It is not.
    """
    about = home / ABOUT
    mine = {"comparison": FORMAT, "didact": __version__}
    if not about.exists():
        if home.exists() and (not home.is_dir() or any(home.iterdir())):
            raise ConfigError(
                f"{home}: is there and no comparison; choose another folder with -o, or empty it"
            )
        write_text(about, json.dumps(mine) + "\n")
        return
    try:
        told = parse_json(about.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{about}: not readable ({error}); choose another folder with -o"
        ) from error
    if told != mine:
        version = told.get("didact") if isinstance(told, dict) else None
        raise ConfigError(
            f"{home}: holds a comparison of didact {version}, this is {__version__}; runs of two "
            "versions cannot be compared: choose another folder with -o, or install that version"
        )


def _check_names(files: Sequence[HeldOut], where: str) -> None:
    names = [file.name.partition(".")[0] for file in files]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"{where}: two held-out files are called {name!r} (without their endings), by "
                "which results are told apart; rename one"
            )


def _targets(grid: Grid, settings: Sequence[Setting]) -> list[Any]:
    """The grid's target set, and those that scores of arms have of their own, once each."""
    found = [grid.target] if grid.target else []
    for setting in settings:
        for score in (setting.sections["score"], setting.sections["order"].get("score")):
            found += [leaf["target"] for leaf in leaves(score) if leaf.get("target") is not None]
    return list({fingerprint(target): target for target in found}.values())


def read_target(target: Any, config: DataSettings, ctx: Context) -> Pool:
    """A target set: files that are read like the pool, or a data section of their own."""
    if isinstance(target, dict):
        own = configs.validated(configs.DataConfig, target, "score.target")
        return verbs.read_with_inputs(own.path, own, ctx, role="target").pool
    return verbs.read_target(target, config, ctx).pool


def _target_name(target: Any) -> str:
    paths = target.get("path", "") if isinstance(target, dict) else target
    return shown(paths) if isinstance(paths, str) else ", ".join(map(shown, paths))


def _check_apart(pool: Pool, what: str, telling: Sequence[HeldOut], where: str) -> None:
    for file in telling:
        shared = np.flatnonzero(np.isin(pool.content_hash, file.pool.content_hash))
        if len(shared):
            raise DataError(
                f"{where}: {what}: {len(shared):,} of its {len(pool):,} samples are in "
                f"{file.path}, the first is row {int(shared[0]) + 1}; what tells what a "
                "choice is worth must not be chosen by: remove them from one of the two"
            )


def _check_pool(pool: Pool, files: Sequence[HeldOut], where: str) -> None:
    """Refuse a pool that has held-out samples: what was trained on them cannot be told by them."""
    rows = verbs.everything(pool, None).rows
    for file in files:
        shared = rows[np.isin(pool.content_hash[rows], file.pool.content_hash)]
        if len(shared):
            raise DataError(
                f"{where}: data: {len(shared):,} samples of the pool are in {file.path}, the first "
                f"is row {int(shared[0]) + 1}; leave them out with data: {{exclude: [{file.path}]}}"
            )


@contextmanager
def one_at_a_time(home: Place, what: str, ctx: Context) -> Iterator[None]:
    """Hold what all runs of a comparison stand on; another process that works on it waits.

    Args:
        home: The folder of the comparison.
        what: What is done, for who waits.
        ctx: Who is told.
    """

    def waiting() -> None:
        ctx.tell(f"waiting to {what}: another process works on what all runs stand on")

    with passing_lock(home / "bases" / ".lock", waiting):
        yield


def _base_path(
    base: str | dict[str, Any], home: Place, ctx: Context, where: str, *, making: bool
) -> Given:
    """A model's folder or name; a run config is run, and its model it is."""
    if isinstance(base, dict):
        config = configs.parse(base, f"{where}: base")
    elif base.lower().endswith(_CONFIGS):
        config = configs.load(base)
    else:
        return base
    if config.train is None:
        raise ConfigError(f"{where}: base: the run config has no train section; add one")
    out = home / "bases" / fingerprint(config.resolved())[:12]
    done = (out / "manifest.json").exists()
    if not making and not done:
        raise DataError(f"{where}: base: is not trained yet; run it without --so-far first")
    if making:
        with one_at_a_time(home, "train the base", ctx):
            if not done:
                ctx.tell("base: its config is trained first; the bill is of what comes after")
            pipeline.run(config, out, cache_dir=ctx.cache_dir, progress=ctx.progress)
    return out / "model"
