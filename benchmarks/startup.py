"""How long `didact --help` and `import didact` take: whole processes, medians of nine.

    python benchmarks/startup.py

Beside them, in turn, a bare interpreter: what no program in Python can go below. Results go to
benchmarks/results/startup.json.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from main_job import machine

RESULTS = Path(__file__).resolve().parent / "results" / "startup.json"
COMMANDS = {
    "a bare interpreter": ["-c", "pass"],
    "import didact": ["-c", "import didact"],
    "didact --help": ["-m", "didact.cli", "--help"],
}


def seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(9):
        for name, words in COMMANDS.items():
            times[name].append(seconds(words))
    medians = {name: round(statistics.median(t), 3) for name, t in times.items()}
    RESULTS.write_text(json.dumps({"machine": machine(), "seconds": medians}, indent=1) + "\n")
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
