"""The main job on clusters of any size, by what was measured here, and how far that held.

    python benchmarks/scale_model.py [--cores 16] [--price 0.05] [--scorer 0.01]

A run has work that is spread (reading, scoring), what its driver does meanwhile, what its driver
does alone (choice, order, report), and the export, which is spread where it writes many files:

    seconds = start + rows · (max(spread ÷ workers, driver) + alone + export ÷ workers)

Spread, driver and alone are seconds a row of the run on two nodes (`results/ray_overhead.json`);
the runs on one and on three, and on threads, test it, and scoring by 2 and 4 workers is foretold
from that by one. Here all of them share the cores of one machine, and one file is written. Memory
and disk a row, and the export of many files, are of `results/scale.json`. A second table is of a
scorer that takes `--scorer` seconds more of a worker for each row, which is given, not measured.
Writes benchmarks/results/scale_model.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "results"
ALONE = ("select", "order", "report")
ROWS, NODES = (10**7, 10**8, 10**9, 10**10), (1, 10, 100, 1000)


@dataclass(frozen=True)
class Model:
    """Seconds of a run: `start`, and a row's others; bytes of a row.

    Attributes:
        start: What starting the workers takes.
        spread: Work of the workers, reading and scoring.
        driver: Work of the driver meanwhile.
        alone: Work of the driver while nobody else works.
        export: Work of whoever writes the files.
        memory: Bytes in the driver.
        disk: Bytes of the pool and its store.
    """

    start: float
    spread: float
    driver: float
    alone: float
    export: float
    memory: float
    disk: float

    def seconds(self, rows: float, workers: float) -> float:
        """Of a clock, from nothing."""
        together = max(self.spread / workers, self.driver) + self.export / workers
        return self.start + rows * (together + self.alone)

    def driver_gib(self, rows: float) -> float:
        """Memory of the driver."""
        return (300 * 2**20 + rows * self.memory) / 2**30


def fitted(ray: dict[str, Any], scale: dict[str, Any]) -> Model:
    """The model of what was measured on two nodes, and of a large pool's export."""
    rows, job = ray["rows"], ray["nodes"][1]["main_job"]
    alone = sum(job["stages"][name]["cpu_seconds"] for name in ALONE)
    written = job["stages"]["export"]["cpu_seconds"]  # one file, by the driver
    whole = max(scale["runs"].values(), key=lambda run: run["rows"])
    peak = max(whole["fold"]["peak_memory_mib"], whole["shuffle"]["peak_memory_mib"])
    return Model(
        start=ray["nodes"][1]["start_up"]["wall_seconds"],
        spread=(job["cpu_seconds"] - job["driver_cpu_seconds"]) / rows,
        driver=(job["driver_cpu_seconds"] - alone - written) / rows,
        alone=alone / rows,
        export=whole["fold"]["stages"]["export"]["cpu_seconds"] / whole["rows"],
        memory=(peak - 300) * 2**20 / whole["rows"],
        disk=whole["pool_bytes_a_row"] + whole["store_bytes_a_row"],
    )


def checked(model: Model, ray: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs on this machine beside what is foretold of them, with all on its cores."""
    rows, cores = ray["rows"], ray["machine"]["cores"]
    written = ray["nodes"][1]["main_job"]["stages"]["export"]["cpu_seconds"]  # one file, as fitted
    out = []

    def check(name: str, wall: float, foretold: float) -> None:
        out.append(
            {"run": name, "wall_seconds": wall, "foretold": round(foretold, 1),
             "ratio": round(wall / foretold, 2)}
        )  # fmt: skip

    runs = [(f"{line['nodes']} nodes", line["nodes"], line["main_job"]) for line in ray["nodes"]]
    for name, workers, job in [*runs, ("2 threads", 2, ray["threads"])]:
        shared = (model.spread + model.driver) / cores
        together = rows * (max(model.spread / workers, model.driver, shared) + model.alone)
        check(name, job["wall_seconds"], together + written)
    first = ray["workers"][0]["ray"]
    for line in ray["workers"]:
        foretold = first["cpu_seconds"] / min(line["workers"], cores)
        check(f"scoring by {line['workers']} workers", line["ray"]["wall_seconds"], foretold)
    return out


def table(model: Model, cores: int, price: float) -> list[dict[str, Any]]:
    """Hours and cost by rows and nodes."""
    out = []
    for rows in ROWS:
        for nodes in NODES:
            hours = model.seconds(rows, nodes * cores) / 3600
            cost = hours * (nodes * cores + cores) * price  # the driver's node, too
            out.append({"rows": rows, "nodes": nodes, "hours": hours, "cost": cost})
    return out


def shown(lines: list[dict[str, Any]], model: Model) -> None:
    """A table in Markdown."""
    print("\n| rows | driver GiB | disk TB |" + "".join(f" {n:,} nodes: h, cost |" for n in NODES))
    print("|---" * (3 + len(NODES)) + "|")
    for rows in ROWS:
        of_rows = [line for line in lines if line["rows"] == rows]
        cells = [f"{model.driver_gib(rows):,.3g}", f"{rows * model.disk / 1e12:.2g}"]
        cells += [f"{line['hours']:,.2g}, {line['cost']:,.2g}" for line in of_rows]
        print(f"| {rows:.0e} | " + " | ".join(cells) + " |")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--cores", type=int, default=16, help="of a node")
    ask.add_argument("--price", type=float, default=0.05, help="of a core for an hour")
    ask.add_argument("--scorer", type=float, default=0.01, help="seconds a row of a costly scorer")
    given = ask.parse_args()
    ray, scale = (
        json.loads((FOLDER / name).read_text()) for name in ("ray_overhead.json", "scale.json")
    )
    model = fitted(ray, scale)
    costly = replace(model, spread=model.spread + given.scorer)
    out: dict[str, Any] = {**vars(given), "checked": checked(model, ray)}
    for line in out["checked"]:
        print(line)
    for name, of in (("compression", model), ("costly", costly)):
        lines = table(of, given.cores, given.price)
        shown(lines, of)
        out[name] = {
            "model": {key: float(f"{value:.4g}") for key, value in vars(of).items()},
            "workers_of_one_driver": round(of.spread / of.driver, 1),
            "table": lines,
        }
        print(out[name]["model"], "workers of one driver:", out[name]["workers_of_one_driver"])
    (FOLDER / "scale_model.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
