"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

PoolFiles = Annotated[
    list[str],
    typer.Argument(
        metavar="POOL...",
        help="Files, folders or globs of samples, here or as URLs (s3://…); - is piped in.",
    ),
]
Target = Annotated[
    list[str] | None, typer.Option("--target", help="Samples to select for. Repeatable.")
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="K=V",
        help="How files are read: format, columns.text=body, reasoning=drop, tokenizer, "
        "on_bad_row, dedup, exclude, validation, unit, template. Repeatable.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="A setting of the method, e.g. k1=1.2. Repeatable."),
]
Override = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a key of the config. Repeatable."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Root of every random number.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="How many work; one per core by default. Changes no result."
    ),
]
Executor = Annotated[
    Literal["threads", "processes", "serial", "ray"] | None,
    typer.Option(
        "--executor",
        metavar="KIND",
        help="Who works: threads, processes, serial, or ray, a cluster. Changes no result. "
        "[default: threads]",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="With --executor ray: the cluster's head [default: auto, the one that runs here, "
        "else one is started].",
    ),
]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache-dir",
        help="Where pools, scores and whatever is costly are kept, a folder or a URL "
        "[default: $DIDACT_CACHE or ~/.cache/didact].",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
