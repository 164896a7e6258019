"""`didact evaluate`: what a model is worth on held-out samples."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, Literal

import typer

from didact.cli.inputs import method_settings, read_settings
from didact.cli.options import Cache, Data, Executor, Json, RayAddress, Workers
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact evaluate trained held_out.jsonl -o E.parquet · "
    "... csqa.jsonl --choices letters · didact evaluate trained gsm8k.jsonl --lm-eval --limit 100 "
    "· didact evaluate --runs bm25=A bm25=B random=C random=D --wanted 0.01"
)


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A model's folder, an adapter's or a run's, or a hub name."
        ),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES...", help="Held-out files, folders or globs."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="The table: one row for each sample.")
    ] = None,
    choices: Annotated[
        Literal["column", "labels", "letters"] | None,
        typer.Option(
            "--choices",
            help="Multiple choice: the rows' column 'choices', the file's distinct answers "
            "(labels), or letters in the prompt [default: rows that have 'choices'].",
        ),
    ] = None,
    on_overlap: Annotated[
        Literal["drop", "error", "keep"],
        typer.Option("--on-overlap", help="Held-out rows that the model was trained on."),
    ] = "drop",
    runs: Annotated[
        bool,
        typer.Option("--runs", help="Can runs be told apart? [SET=]PATH instead of MODEL."),
    ] = False,
    wanted: Annotated[
        float | None,
        typer.Option("--wanted", min=0, help="With --runs: a difference that you want to see."),
    ] = None,
    lm_eval: Annotated[
        bool, typer.Option("--lm-eval", help="Accuracy on the files through lm-eval, offline.")
    ] = False,
    tasks: Annotated[
        str | None, typer.Option("--tasks", help="lm-eval's own tasks, e.g. gsm8k,arc_easy.")
    ] = None,
    write_tasks: Annotated[
        Path | None,
        typer.Option("--write-tasks", help="Folder for the files as tasks of lm-eval."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Most samples of a task of lm-eval.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="loss, template, max_length, window, tokens_per_batch, device, dtype. Repeatable.",
        ),
    ] = None,
    data: Data = None,
    workers: Workers = None,
    executor: Executor = None,
    ray_address: RayAddress = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Evaluate a model on held-out samples, or say whether runs can be told apart.

    Bits per byte of answers and of everything; likelihoods and accuracy of multiple choice.
    """
    from didact import verbs
    from didact.cli import printing
    from didact.core.errors import ConfigError

    named = [*([] if model is None else [model]), *(files or [])]
    if runs:
        _refuse_idle(
            {"-o": out, "--choices": choices, "--tasks": tasks, "--lm-eval": lm_eval,
             "--write-tasks": write_tasks, "--limit": limit, "--set": set_, "--data": data},
            "--runs, which reads evaluations",
        )  # fmt: skip
        result = verbs.tell_apart(named, wanted=wanted)
        print_json(result) if json else printing.apart_table(result)
        return
    if not named[:1] or not (named[1:] or tasks):
        raise ConfigError(
            "expected MODEL and held-out FILES, MODEL with --tasks, or --runs with evaluations"
        )
    _refuse_idle({"--wanted": wanted}, "MODEL; it goes with --runs")
    settings = method_settings(set_, verbs.evaluate)
    read_as = read_settings(data)
    if tasks or lm_eval or write_tasks:
        others = {f"--set {name}": True for name in settings if name not in {"device", "dtype"}}
        _refuse_idle({"-o": out, **others}, "lm-eval")
        if not (tasks or lm_eval):
            _refuse_idle({"--limit": limit}, "--write-tasks alone")
        if tasks:
            own_files = {"FILES": files, "--choices": choices, "--write-tasks": write_tasks}
            _refuse_idle(own_files, "--tasks, which are lm-eval's own")
        records = _through_lm_eval(
            named, settings, limit=limit,
            names=tasks.split(",") if tasks else None,
            folder=write_tasks, runs_them=lm_eval,
            read_as=read_as, ctx=verbs.context(cache_dir=cache_dir, tell=say), choices=choices,
            on_overlap=on_overlap,
        )  # fmt: skip
        print_json(records) if json else printing.records_table(records)
        return
    from didact.core.paths import place
    from didact.data import tables
    from didact.evaluation.results import write_evaluation

    _refuse_idle({"--limit": limit}, "an evaluation of every sample; it goes with --lm-eval")
    path = None if out is None else place(out)
    if path is not None:
        tables.check_replaceable(path)
    with printing.progress_bars() as progress:
        ctx = verbs.context(
            0, workers, cache_dir, progress, say, executor=executor, address=ray_address
        )
        found = verbs.evaluate(
            named[0], named[1:], read_as=read_as, ctx=ctx, choices=choices, on_overlap=on_overlap,
            **settings,
        )  # fmt: skip
        if path is not None:
            write_evaluation(found, path)
    for note in found.notes:
        say(f"note: {note}")
    bill = ctx.meter.bill
    say(f"{bill.value.flops:.3g} FLOPs, {bill.charged.flops:.3g} of them now")
    print_json(found.summary()) if json else printing.evaluation_table(found.summary())


def _through_lm_eval(
    named: list[str],
    settings: Mapping[str, Any],
    *,
    limit: int | None,
    names: list[str] | None,
    folder: Path | None,
    runs_them: bool,
    **how: Any,
) -> list[dict[str, Any]]:
    """Records of lm-eval's own tasks, or of files written as tasks; none where they only are."""
    from didact import verbs

    model, *files = named
    if names is not None:
        return verbs.run_tasks(model, names, limit=limit, **settings)
    with nullcontext(folder) if folder else TemporaryDirectory() as place:
        written = verbs.write_tasks(model, files, place, **how)
        if runs_them:
            return verbs.run_tasks(model, written, folder=place, limit=limit, **settings)
        say(f"wrote {', '.join(written)} to {place}")
    return []


def _refuse_idle(flags: Mapping[str, object], beside: str) -> None:
    """Refuse a flag that was given and would do nothing."""
    from didact.core.errors import ConfigError

    for flag, given in flags.items():
        if given:
            raise ConfigError(f"{flag} does nothing beside {beside}; leave it out")
