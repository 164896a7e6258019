"""The command line: one thin command per verb. Parse, call the API, print the result.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done · 1 you can fix it ·
2 usage · 3 our bug.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from didact.core.protocols import Context

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Decides what a language model should read, in what order, for the compute there is.",
    epilog="Start with: didact inspect FILE · didact init FILE -o run.yaml · "
    "didact run run.yaml -o OUT",
)
config_app = typer.Typer(no_args_is_help=True, help="Show a resolved config, or its JSON Schema.")
app.add_typer(config_app, name="config")
proxy_app = typer.Typer(no_args_is_help=True, help="Make a small model to judge samples with.")
app.add_typer(proxy_app, name="proxy")

cache_app = typer.Typer(no_args_is_help=True, help="What is kept, and how to be rid of it.")
app.add_typer(cache_app, name="cache")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Threads; one per core by default. Changes no result."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Root of every random number.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        help="Where pools, scores and whatever is costly are kept "
        "[default: $DIDACT_CACHE or ~/.cache/didact].",
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="K=V",
        help="How files are read: format, columns.text=body, tokenizer, on_bad_row, dedup, "
        "exclude, validation, unit, template. Repeatable.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="A setting of the method, e.g. k1=1.2. Repeatable."),
]
Pool_ = Annotated[
    list[str], typer.Argument(metavar="POOL...", help="Files, folders or globs of samples.")
]


def main() -> None:
    """Run the command line; every error ends in one of four exit codes."""
    from didact.core.errors import DamagedError, DidactError

    try:
        try:
            app(prog_name="didact")
        except DamagedError as error:  # its entry is void now: once more makes it again
            _say(f"{error.path}: is damaged ({error.what}); making it again")
            app(prog_name="didact")
    except DidactError as error:
        _say(f"{type(error).__name__}: {error}")
        sys.exit(1)
    except OSError as error:
        import errno

        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        remedy = "; free some space and run the same command again" if full else ""
        _say(f"{error.filename or 'a file'}: {error.strerror or error}{remedy}")
        sys.exit(1)
    except Exception:  # noqa: BLE001 - the outermost boundary: whatever is left is our bug
        import traceback

        traceback.print_exc()
        _say("this is a bug in didact: please report it with the lines above")
        sys.exit(3)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _print(value: Any) -> None:
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    sys.stdout.write(orjson.dumps(value, option=options).decode() + "\n")


def _version(wanted: bool) -> None:
    if wanted:
        from didact._version import __version__

        sys.stdout.write(f"didact {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    del version


# -- everything ------------------------------------------------------------------------------------


@app.command(
    epilog="Examples: didact run run.yaml -o OUT · "
    "didact run run.yaml -o OUT --set order.layers=5 · didact run run.yaml --dry-run"
)
def run(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML or TOML; 'didact init' writes one.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The run folder; again = go on there.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Override a key of the config. Repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its estimated cost.")
    ] = False,
    workers: Workers = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Run all of it: data → score → select → order → export → report."""
    from didact import config as configs
    from didact import pipeline, verbs
    from didact.cli.printing import dry_run_table, progress_bars, run_table

    checked = configs.load(config, set_ or ())
    with progress_bars() as watch:
        if dry_run:
            ctx = verbs.context(checked.seed, workers, cache_dir, watch, _say)
            pool, costs = pipeline.plan(checked, ctx)
        else:
            if out is None:
                raise typer.BadParameter("give a run folder: -o OUT (or --dry-run)")
            done = pipeline.run(checked, out, workers=workers, cache_dir=cache_dir, progress=watch)
    if dry_run:
        plain = {k: {"cpu_seconds": c.cpu_seconds, "flops": c.flops} for k, c in costs.items()}
        result = {"config": checked.resolved(), "samples": len(pool), "estimated": plain}
        _print(result) if json else dry_run_table(checked, pool, costs)
        return
    for change in done.changes:
        _say(change)
    _print(done.manifest.to_json()) if json else run_table(done)


@app.command(epilog="Example: didact demo -o demo")
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Where data, config and run go.")] = Path(
        "demo"
    ),
    workers: Workers = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Run the main job on the text of this Python's own standard library."""
    from didact import pipeline
    from didact.cli.printing import progress_bars, run_table
    from didact.demo import demo_config, write_demo_data

    pool, target = write_demo_data(out)
    config = demo_config(pool, target, out / "run.yaml")
    with progress_bars() as watch:
        done = pipeline.run(
            config, out / "run", workers=workers, cache_dir=cache_dir, progress=watch
        )
    _print(done.manifest.to_json()) if json else run_table(done)


@app.command(
    epilog="Examples: didact inspect pool.jsonl · "
    "didact inspect rows.parquet --data columns.messages=dialogue"
)
def inspect(
    pool: Pool_,
    data: Data = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Say what files hold: format, mapping, counts, lengths, duplicates, three samples."""
    from didact.cli.printing import inspection_table
    from didact.inspection import inspect_pool

    with _pool(pool, data, cache_dir) as (found, *_):
        result = inspect_pool(found)
    _print(result) if json else inspection_table(result)


@app.command(
    epilog="Examples: didact init pool.jsonl -o run.yaml · "
    "didact init pool.jsonl --target target.jsonl -o run.yaml"
)
def init(
    pool: Pool_,
    out: Annotated[Path, typer.Option("-o", "--out", help="The config to write.")] = Path(
        "run.yaml"
    ),
    target: Annotated[
        list[str] | None, typer.Option("--target", help="Samples to select for. Repeatable.")
    ] = None,
    data: Data = None,
    cache_dir: Cache = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a commented config for some files."""
    from didact.core.atomic import write_text
    from didact.core.errors import ConfigError
    from didact.inspection import commented_config

    if out.exists() and not force:
        raise ConfigError(f"{out} exists; choose another name with -o, or pass --force")
    with _pool(pool, data, cache_dir) as (found, settings, _):
        write_text(out, commented_config(pool, found, target or [], settings))
    _say(f"wrote {out}; next: didact run {out} -o OUT")


# -- single verbs ----------------------------------------------------------------------------------


@app.command(
    epilog="Examples: didact score pool.jsonl --method compression -o scores.parquet · "
    "didact score pool.jsonl --method bm25 --target target.jsonl --set k1=1.2 -o scores.parquet"
)
def score(
    pool: Pool_,
    method: Annotated[str, typer.Option("--method", help="A scorer; see 'didact methods'.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The table: row, id, score, task:….")],
    target: Annotated[
        list[str] | None, typer.Option("--target", help="Samples to select for. Repeatable.")
    ] = None,
    set_: Set = None,
    data: Data = None,
    seed: Seed = 0,
    workers: Workers = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Give every sample one number (or one per target task)."""
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.data import tables

    tables.check_replaceable(out)
    with _pool(pool, data, cache_dir, seed, workers) as (found, how, ctx):
        settings = _settings(set_, verbs.score)
        aim = verbs.read_target(target, how, ctx).pool if target else None
        scores = verbs.score(found, method, target=aim, ctx=ctx, **settings)
        tables.write_scores(scores, found, out)
    result = {
        "scores": str(out), "method": method, "higher_is_better": scores.higher_is_better,
        "rows": len(scores), "missing": len(scores.missing), "tasks": list(scores.tasks),
        **scores.summary(),
    }  # fmt: skip
    bill = ctx.meter.bill
    if bill.value.flops:
        result["flops"] = f"{bill.value.flops:.3g}, {bill.charged.flops:.3g} of them now"
    reasons = Counter(scores.missing.values()).most_common(3)
    for note in (scores.facts.get("note"), *(f"{n:,} rows: {why}" for why, n in reasons)):
        if note:
            typer.echo(f"note: {note}", err=True)
    _print(result) if json else facts_table(result)


@app.command(
    epilog="Examples: didact select pool.jsonl --scores scores.parquet --method top_k "
    "--budget ratio=0.2 -o OUT · ... --set quotas.at_most.web=0.3"
)
def select(
    pool: Pool_,
    method: Annotated[str, typer.Option("--method", help="A selector; see 'didact methods'.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for selection.parquet.")],
    scores: Annotated[
        list[Path] | None,
        typer.Option("--scores", help="What to choose by. Repeatable with --combine."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="samples=N, tokens=N or ratio=R.")
    ] = None,
    combine: Annotated[
        Literal["rank_mean", "product"],
        typer.Option("--combine", help="How several scores become one: rank_mean, product."),
    ] = "rank_mean",
    set_: Set = None,
    data: Data = None,
    seed: Seed = 0,
    workers: Workers = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Choose a set of samples under a budget."""
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.core.scores import Budget
    from didact.data import tables

    with _pool(pool, data, cache_dir, seed, workers) as (found, _, ctx):
        given = [tables.read_scores(path) for path in scores or ()]
        by = verbs.combine(given, combine) if len(given) > 1 else next(iter(given), None)
        chosen = verbs.select(
            found, by, method, budget=Budget.parse(budget) if budget else None,
            ctx=ctx, **_settings(set_, verbs.select, "quotas", "near_duplicates"),
        )  # fmt: skip
        path = out / "selection.parquet"
        tables.write_selection(chosen, by, found, path)
        result = {"selection": str(path), "method": method, **chosen.describe(found, by)}
    for note in chosen.notes:
        _say(note)
    _print(result) if json else facts_table(result)


@app.command(
    epilog="Examples: didact order OUT --scores scores.parquet --method fold --set layers=3 "
    "-o order.parquet · ... --set epochs=3 --set jitter=64"
)
def order(
    selection: Annotated[
        Path, typer.Argument(help="selection.parquet, or the folder that holds it.")
    ],
    method: Annotated[str, typer.Option("--method", help="An orderer; see 'didact methods'.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The table: position, row, id.")],
    scores: Annotated[Path | None, typer.Option("--scores", help="What to order by.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="A setting of the method, or epochs, batch_size, jitter, interleave. Repeatable.",
        ),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            "--pool", help="The pool's files, where its cache is gone and sources are read."
        ),
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Put a selection in training order: ascending in utility, the best last."""
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.data import tables
    from didact.data.reading.ingest import open_cached

    tables.check_replaceable(out)
    chosen, ids = tables.read_selection(selection)
    if pool:
        with _pool(pool, data, cache_dir, seed) as (found, *_):
            chosen.check(found)
    ctx = verbs.context(seed, 1, cache_dir)
    by = tables.read_scores(scores) if scores is not None else None
    ordered = verbs.order(
        open_cached(chosen.pool_fingerprint, ctx.cache_dir), chosen, by, method, ctx=ctx,
        **_settings(set_, verbs.order, "epochs", "batch_size", "jitter", "interleave"),
    )  # fmt: skip
    tables.write_order(ordered, tables.ids_of(ordered, chosen, ids), out)
    result = {
        "order": str(out), "method": method, "rows": len(ordered), "epochs": ordered.epochs,
        "steps": ordered.steps,
    }  # fmt: skip
    _print(result) if json else facts_table(result)


@app.command(
    epilog="Example: didact export pool.jsonl --order order.parquet --for trl -o DIR --set shards=8"
)
def export(
    pool: Pool_,
    order_: Annotated[Path, typer.Option("--order", help="order.parquet, or its folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the files go.")],
    for_: Annotated[
        str, typer.Option("--for", help="Whose settings to write: hf, trl, none.")
    ] = "none",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="K=V", help="format, shards, order_index, name. Repeatable."),
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Write the samples in training order, every row as it came, and the trainer's settings."""
    from didact import config as configs
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.data import tables
    from didact.data.export import ExportSettings, export_notes

    ordered = tables.read_order(order_)
    with _pool(pool, data, cache_dir, seed) as (found, *_):
        settings = configs.apply({"for": for_}, set_ or ())
        files = verbs.export(found, ordered, out, **settings)
        notes = export_notes(found, configs.validated(ExportSettings, settings, "export"))
    for note in notes:
        _say(note)
    result = {"rows": len(ordered), "files": [str(f) for f in files]}
    _print(result) if json else facts_table(result)


@app.command(
    epilog="Examples: didact train pool.jsonl --model proxy-3m -o trained "
    "--set learning_rate=2e-3 · ... --order order.parquet --set max_steps=100"
)
def train(
    pool: Pool_,
    model: Annotated[
        str, typer.Option("--model", help="A folder with a causal language model, or a hub name.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The trained model's folder; again = go on.")
    ],
    order_: Annotated[
        Path | None,
        typer.Option("--order", help="order.parquet, or its folder [default: the pool's order]."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="learning_rate, schedule, batch_size, max_length, max_steps, loss, … Repeatable.",
        ),
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Train a model on the samples, in exactly the order given."""
    from didact import verbs
    from didact.cli.printing import facts_table
    from didact.data import tables

    ordered = tables.read_order(order_) if order_ is not None else None
    with _pool(pool, data, cache_dir, seed) as (found, _, ctx):
        settings = _settings(set_, verbs.train)
        done = verbs.train(found, ordered, model=model, out=out, ctx=ctx, **settings)
    _print(done) if json else facts_table(done)


@app.command(epilog="Example: didact report OUT --no-samples -o share.html")
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The file [default: RUN/report.html].")
    ] = None,
    samples: Annotated[
        bool | None,
        typer.Option("--samples/--no-samples", help="Show samples to read [default: as the run]."),
    ] = None,
    cache_dir: Cache = None,
) -> None:
    """Write the report of a finished run again."""
    from didact import pipeline

    path = out or folder / "report.html"
    pipeline.report(folder, path, samples=samples, cache_dir=cache_dir)
    sys.stdout.write(f"{path}\n")


@app.command(epilog="Example: didact diff OUT_A OUT_B")
def diff(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A finished run folder.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another.")],
    json: Json = False,
) -> None:
    """Compare two runs: settings, inputs, scores, selections, order, cost."""
    from didact import pipeline
    from didact.cli.printing import diff_table

    result = pipeline.diff(run_a, run_b)
    _print(result) if json else diff_table(result)


@app.command(epilog="Examples: didact methods · didact methods bm25")
def methods(
    name: Annotated[str | None, typer.Argument(help="One method, with its settings.")] = None,
    json: Json = False,
) -> None:
    """List scorers, selectors and orderers, or describe one."""
    from didact.cli.printing import methods_table
    from didact.inspection import describe_methods

    result = describe_methods(name)
    _print(result) if json else methods_table(result, detailed=name is not None)


@cache_app.command("ls", epilog="Examples: didact cache ls · didact cache ls --json")
def cache_ls(cache_dir: Cache = None, json: Json = False) -> None:
    """Say what the cache holds: kinds, entries, sizes, and what making them cost."""
    from didact.cli.printing import cache_table
    from didact.core import cache

    result = cache.listed(_cache(cache_dir))
    _print(result) if json else cache_table(result)


@cache_app.command(
    "prune",
    epilog="Examples: didact cache prune --older 30d · didact cache prune --older 12h --dry-run",
)
def cache_prune(
    older: Annotated[str, typer.Option("--older", help="Not used for so long: 30d, 12h, 90m.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Remove what was not used for some time; it is made again when it is needed."""
    from didact.cli.printing import facts_table
    from didact.core import cache

    result = cache.prune(_cache(cache_dir), cache.seconds(older), dry_run=dry_run)
    _print(result) if json else facts_table(result)


@cache_app.command("clear", epilog="Examples: didact cache clear --dry-run · didact cache clear")
def cache_clear(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Remove everything in the cache; it is made again when it is needed."""
    from didact.cli.printing import facts_table
    from didact.core import cache

    result = cache.clear(_cache(cache_dir), dry_run=dry_run)
    _print(result) if json else facts_table(result)


def _cache(given: Path | None) -> Path:
    from didact.data.reading.ingest import default_cache_dir

    return given if given is not None else default_cache_dir()


@proxy_app.command(
    "new",
    epilog="Examples: didact proxy new proxy-3m --params 3M --pool pool.jsonl · "
    "didact proxy new DIR --params 500k --pool 'data/*.jsonl.zst' --vocab 2048 --context 512",
)
def proxy_new(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the model goes.")],
    params: Annotated[
        str, typer.Option("--params", help="Parameters in all: 3M, 500k, 1.5M or 3e6.")
    ],
    pool: Annotated[
        list[str],
        typer.Option("--pool", help="Samples whose text trains the tokenizer. Repeatable."),
    ],
    vocab: Annotated[
        int | None, typer.Option("--vocab", help="Tokens [default: what suits the size].")
    ] = None,
    context: Annotated[int, typer.Option("--context", help="Most tokens it reads at once.")] = 1024,
    data: Data = None,
    seed: Seed = 0,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Make an untrained Llama of a given size, with a tokenizer of the pool's text."""
    from didact import verbs
    from didact.cli.printing import facts_table

    with _pool(pool, data, cache_dir, seed) as (found, *_):
        made = verbs.new_proxy(
            directory, found, params=params, vocab=vocab, context=context, seed=seed
        )
    _print(made) if json else facts_table(made)


@config_app.command("show", epilog="Example: didact config show run.yaml")
def config_show(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML or TOML file.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Override a key of the config. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Print a config with every default filled in."""
    import yaml

    from didact import config as configs

    resolved = configs.load(config, set_ or ()).resolved()
    _print(resolved) if json else sys.stdout.write(yaml.safe_dump(resolved, sort_keys=False))


@config_app.command("schema", epilog="Example: didact config schema > didact.schema.json")
def config_schema() -> None:
    """Print the config's JSON Schema, for editors."""
    from didact import config as configs

    _print(configs.json_schema())


def _settings(set_: list[str] | None, verb: Any, *also: str) -> dict[str, Any]:
    """What --set gives; the verb's own parameters are flags, not settings of the method."""
    import inspect as python

    from didact import config as configs
    from didact.core.errors import ConfigError

    settings = configs.apply({}, set_ or ())
    for name in settings:
        if name in python.signature(verb).parameters and name not in also:
            raise ConfigError(f"--set {name}: not a setting of the method; see --help for its flag")
    return settings


# -- shared ----------------------------------------------------------------------------------------


def _pool(
    paths: list[str],
    data: list[str] | None,
    cache_dir: Path | None,
    seed: int = 0,
    workers: int | None = None,
) -> AbstractContextManager[tuple[Any, Any, Context]]:
    """The pool behind the POOL argument, its settings and a context, with progress drawn."""
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Iterator[tuple[Any, Any, Context]]:
        from didact import config as configs
        from didact import verbs
        from didact.cli.printing import progress_bars
        from didact.data.reading.settings import DataSettings

        settings = configs.validated(DataSettings, configs.apply({}, data or ()), "--data")
        with progress_bars() as watch:
            ctx = verbs.context(seed, workers, cache_dir, watch, _say)
            yield verbs.read_with_inputs(paths, settings, ctx).pool, settings, ctx

    return opened()
