"""`didact plan`: what to do with the compute there is, before any of it is spent."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import typer

from didact.cli import completion
from didact.cli.options import Cache, Data, Json
from didact.cli.streams import print_json, say

EXAMPLES: Final = (
    "Examples: didact plan --samples 300k --mean-tokens 350 --model 7B --budget 50h@H100 · "
    "didact plan --pool pool.jsonl --model llama-3.1-8b --budget 2e18 -o PLAN · "
    "... --selector 1B --tasks 20 · ... --budget 300usd@H100 --price 2.5 · ... --from COMPARISON"
)


def plan(
    model: Annotated[
        str,
        typer.Option(
            "--model", help="The model to train: a name (llama-2-7b), a size (7B) or a folder."
        ),
    ],
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            help="For choosing and training: FLOPs (2e19), 50h@H100, 300usd@H100, 8h@here.",
        ),
    ],
    pool: Annotated[
        list[str] | None, typer.Option("--pool", help="Files of the pool. Repeatable.")
    ] = None,
    samples: Annotated[
        str | None, typer.Option("--samples", help="Without files: how many, e.g. 300k.")
    ] = None,
    mean_tokens: Annotated[
        float | None, typer.Option("--mean-tokens", help="Without files: tokens a sample.")
    ] = None,
    kind: Annotated[
        Literal["chat", "text", "pair", "labelled"] | None,
        typer.Option("--kind", help="Without files: what the samples are [default: chat]."),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", help="Samples to select for. Repeatable.")
    ] = None,
    selector: Annotated[
        list[str] | None,
        typer.Option(
            "--selector",
            help="A model that may score, as --model. Repeatable [default: that model, and 7B, 1B, "
            "150M if smaller].",
        ),
    ] = None,
    encoder: Annotated[
        str, typer.Option("--encoder", help="The sentence encoder of 'embedding'.")
    ] = "gtr-t5-base",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="Look at this method alone. Repeatable [default: all].",
            autocompletion=completion.names_of("scorers"),
        ),
    ] = None,
    tasks: Annotated[
        int,
        typer.Option("--tasks", min=1, help="Tasks that share the scoring; the budget is of each."),
    ] = 1,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="comparison.json, or its folder: your own runs as the prior."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="What hours are of [default: the budget's, else H100].",
            autocompletion=completion.devices,
        ),
    ] = None,
    mfu: Annotated[
        str | None,
        typer.Option("--mfu", help="Model FLOPs utilization: 0.4, 0.3-0.5 [default: 0.3-0.5]."),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", help="USD an hour of the device.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Samples per optimizer step.")
    ] = 32,
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", min=2, help="Cut samples [default: the model's context]."),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option("--lora-rank", min=1, help="Train adapters [default: all weights]."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Folder for plan.json and plan.html.")
    ] = None,
    data: Data = None,
    cache_dir: Cache = None,
    json: Json = False,
) -> None:
    """Say what to do with the compute there is: select, take random samples, or all of it.

    Opens no model; without --pool no file at all.
    """
    from didact import plans, verbs
    from didact.cli.inputs import read_settings
    from didact.cli.plan_tables import plan_tables
    from didact.cli.printing import progress_bars

    with progress_bars() as progress:
        ctx = verbs.context(0, None, cache_dir, progress, say)
        found = plans.plan(
            pool, samples=samples, mean_tokens=mean_tokens, kind=kind, model=model,
            budget=budget, target=target, selectors=selector, encoder=encoder, methods=method,
            tasks=tasks, comparison=from_, device=device, mfu=mfu, price=price,
            read_as=read_settings(data), batch_size=batch_size,
            max_length=max_length, lora_rank=lora_rank, ctx=ctx,
        )  # fmt: skip
    if out is not None:
        for path in plans.write_plan(found, out):
            say(f"wrote {path}")
    print_json(found.to_json()) if json else plan_tables(found)
