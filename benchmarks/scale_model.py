"""The main job on clusters of any size, by what was measured here, and how far that held.

    python benchmarks/scale_model.py [--cores 16] [--price 0.05]

A run has work that is spread (reading, scoring), what its driver does meanwhile, what its driver
does alone (choice, order, report), and the export, which is spread where it writes many files:

    seconds = start + rows · (max(spread ÷ workers, driver) + alone + export ÷ workers)

Spread, driver and alone are seconds a row of the run on two nodes (`results/ray_overhead.json`);
the runs on one and on three, and on threads, test it. Here all of them share the cores of one
machine, and one file is written. Memory and disk a row, and the export of many files, are of
`results/scale.json`. Writes benchmarks/results/scale_model.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
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
    runs = [(f"{line['nodes']} nodes", line["nodes"], line["main_job"]) for line in ray["nodes"]]
    out = []
    for name, workers, job in [*runs, ("2 threads", 2, ray["threads"])]:
        shared = (model.spread + model.driver) / cores
        together = rows * (max(model.spread / workers, model.driver, shared) + model.alone)
        foretold = together + job["stages"]["export"]["cpu_seconds"]
        wall = job["wall_seconds"]
        out.append(
            {"run": name, "wall_seconds": wall, "foretold": round(foretold, 1),
             "ratio": round(wall / foretold, 2)}
        )  # fmt: skip
    return out


def table(model: Model, cores: int, price: float) -> list[dict[str, Any]]:
    """Hours, cost and memory by rows and nodes."""
    out = []
    for rows in ROWS:
        for nodes in NODES:
            seconds = model.seconds(rows, nodes * cores)
            out.append(
                {"rows": rows, "nodes": nodes, "hours": seconds / 3600,
                 "cost": seconds / 3600 * (nodes * cores + cores) * price,
                 "driver_gib": model.driver_gib(rows), "disk_tb": rows * model.disk / 1e12,
                 "waits_for_the_driver": model.spread / (nodes * cores) < model.driver}
            )  # fmt: skip
    return out


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--cores", type=int, default=16, help="of a node")
    ask.add_argument("--price", type=float, default=0.05, help="of a core for an hour")
    given = ask.parse_args()
    ray, scale = (
        json.loads((FOLDER / name).read_text()) for name in ("ray_overhead.json", "scale.json")
    )
    model = fitted(ray, scale)
    held, lines = checked(model, ray), table(model, given.cores, given.price)
    for line in held:
        print(line)
    print("\n| rows | nodes | hours | cost | driver GiB | disk TB | waits for the driver |")
    print("|---|---|---|---|---|---|---|")
    for line in lines:
        print(
            f"| {line['rows']:.0e} | {line['nodes']:,} | {line['hours']:.2g} | {line['cost']:.2g} "
            f"| {line['driver_gib']:,.1f} | {line['disk_tb']:,.2g} "
            f"| {'yes' if line['waits_for_the_driver'] else 'no'} |"
        )
    constants = {name: float(f"{value:.4g}") for name, value in vars(model).items()}
    values = {"model": constants, "workers_of_one_driver": round(model.spread / model.driver, 1)}
    print(json.dumps(values))
    out = {**values, "cores": given.cores, "price": given.price, "checked": held, "table": lines}
    (FOLDER / "scale_model.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
