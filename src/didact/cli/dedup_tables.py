"""What `didact dedup` draws: counts, and the largest clusters with what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from didact.cli.printing import facts_table, safe, stdout

_WIDTH: Final = 100  # characters of an excerpt


def clusters_table(result: Mapping[str, Any]) -> None:
    """Counts, where things are, and of each of the largest clusters two samples."""
    facts_table({k: v for k, v in result.items() if k != "largest"})
    console = stdout()
    if result["largest"]:
        console.print("\n[bold]largest clusters[/bold]")
    for cluster in result["largest"]:
        counts = ", ".join(
            f"{cluster[kind]:,} {kind}" for kind in ("exact", "near") if cluster[kind]
        )
        console.print(
            f"[bold]{cluster['rows']:,} rows[/bold] ({counts}; {safe(_sources(cluster))})"
        )
        for one in cluster["samples"]:
            name = "kept" if one["what"] == "kept" else f"{one['similarity']:.2f}"
            console.print(f"  [dim]{name:>4}[/dim] {safe(one['excerpt'][:_WIDTH])}")


def _sources(cluster: Mapping[str, Any]) -> str:
    names = list(cluster["sources"].items())
    told = ", ".join(f"{name} {count:,}" for name, count in names[:2])
    return f"{told}, {len(names) - 2} more sources" if len(names) > 2 else told
