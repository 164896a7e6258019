"""Draws the pictures of docs/methods/redundancy.md: `python docs/pictures.py`.

One is drawn from the recorded table in benchmarks/results/redundancy.json; the others are computed
here, from the documentation of this Python's standard library and from noise.
"""

from __future__ import annotations

import base64
import json
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import didact
from didact.core.atomic import write_text
from didact.demo import write_demo_data
from didact.reporting import svg
from didact.text.compression import set_redundancy
from didact.text.deflate.sizes import DeflateSizes, Texts

HERE = Path(__file__).parent
FOLDER = HERE / "pictures"
RECORDED = HERE.parent / "benchmarks" / "results" / "redundancy.json"

WIDTH, HEIGHT = 720, 300
LEFT, TOP, RIGHT, BOTTOM = 64, 34, 24, 56
INK, FAINT, PAPER = "#2b2b33", "#d9d9e0", "#ffffff"
COLORS = {"blue": "#2f6fb2", "orange": "#d9822b", "green": "#3b8f5a", "red": "#b23a48"}

Scale = Callable[[float], float]


def scale(low: float, high: float, start: float, stop: float, *, log: bool = False) -> Scale:
    """From a value to a pixel."""
    a, b = (math.log(low), math.log(high)) if log else (low, high)

    def place(value: float) -> float:
        share = ((math.log(value) if log else value) - a) / (b - a)
        return start + (stop - start) * share

    return place


def text(words: str, x: float, y: float, anchor: str = "middle", **more: str | float) -> str:
    """Words at a pixel."""
    return svg.label(words, x=x, y=y, text_anchor=anchor, fill=more.pop("fill", INK), **more)


def picture(name: str, title: str, *marks: str, height: float = HEIGHT) -> None:
    """Write one picture."""
    body = svg.tag(
        "svg", svg.title(title), svg.tag("rect", width=WIDTH, height=height, fill=PAPER),
        text(title, LEFT, 18, "start", font_weight="bold"), *marks,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {svg.trim(height)}",
        font_family="system-ui, sans-serif", font_size=12, role="img",
    )  # fmt: skip
    write_text(FOLDER / f"{name}.svg", body + "\n")


def axes(
    x: Scale, y: Scale, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]],
    x_name: str, y_name: str,
) -> list[str]:  # fmt: skip
    """Grid, ticks and names of a plot that fills the picture."""
    out = []
    for value, shown in y_ticks:
        at = y(value)
        out.append(svg.tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, stroke=FAINT))
        out.append(text(shown, LEFT - 8, at + 4, "end"))
    for value, shown in x_ticks:
        at = x(value)
        out.append(svg.tag("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, stroke=FAINT))
        out.append(text(shown, at, HEIGHT - BOTTOM + 18))
    out.append(text(x_name, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(text(y_name, 16, middle, transform=f"rotate(-90 16 {svg.trim(middle)})"))
    return out


def line(points: Sequence[tuple[float, float]], color: str) -> str:
    """A line through pixels."""
    path = "M" + "L".join(f"{svg.trim(a)} {svg.trim(b)}" for a, b in points)
    return svg.tag("path", d=path, fill="none", stroke=COLORS[color], stroke_width=2)


def library_texts() -> list[bytes]:
    """Documentation of the standard library, in random order."""
    with tempfile.TemporaryDirectory() as folder:
        pool, _ = write_demo_data(Path(folder))
        rows = [json.loads(row)["text"].encode() for row in pool.read_bytes().splitlines()]
    random.Random(0).shuffle(rows)
    return rows


def as_texts(rows: Sequence[bytes]) -> Texts:
    """Rows one after another."""
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    return Texts(np.frombuffer(b"".join(rows), np.uint8), offsets)


def what_compresses(rows: Sequence[bytes]) -> None:
    """Ratio of single samples against their length, real ones and noise."""
    rng = random.Random(1)
    words = b" ".join(rows).split()
    lengths = [int(40 * 100 ** (i / 79)) for i in range(80)]
    noise = [base64.b64encode(rng.randbytes(3 * n // 4)) for n in lengths]
    salad = [b" ".join(rng.choices(words, k=n))[:n] for n in lengths]
    real = [r for r in rows if 40 <= len(r) <= 4000][:900]
    kinds = (("blue", "real samples", real), ("red", "random base64", noise),
             ("orange", "word salad", salad))  # fmt: skip
    x = scale(40, 4000, LEFT, WIDTH - RIGHT, log=True)
    y = scale(0.5, 4.5, HEIGHT - BOTTOM, TOP)
    ticks = ([(v, f"{v:,}") for v in (50, 100, 200, 500, 1000, 2000, 4000)],
             [(v, str(v)) for v in (1, 2, 3, 4)])  # fmt: skip
    out = axes(x, y, *ticks, "bytes of the sample, log scale", "raw ÷ compressed bytes")
    for i, (color, name, made) in enumerate(kinds):
        texts = as_texts([r + b"\n" for r in made])
        with DeflateSizes(texts) as counter:
            sizes = counter.sizes(np.arange(len(texts)))
        for raw, size in zip(texts.lengths.tolist(), sizes.tolist(), strict=True):
            spot = {"cx": x(max(raw - 1, 40)), "cy": y(min(raw / size, 4.5)), "r": 2.2}
            out.append(svg.tag("circle", **spot, fill=COLORS[color], fill_opacity=0.55))
        out.append(text(name, LEFT + 12, TOP + 16 + 16 * i, "start", fill=COLORS[color]))
    picture("what-compresses", "What compresses alone: the long and the repetitive", *out)


def what_the_window_sees(rows: Sequence[bytes]) -> None:
    """What an exact copy of an earlier sample costs, by how much was read in between."""
    stream = b"\n".join(rows)
    sample = next(r for r in rows if 900 <= len(r) <= 1100)
    alone = _added(sample, b"")
    gaps = [int(500 * 2 ** (k / 2)) for k in range(22)]
    between = [stream[5000 : 5000 + gap] for gap in gaps]
    deflate = [(g, _added(sample, sample + b) / alone) for g, b in zip(gaps, between, strict=True)]
    everything = []
    for gap, middle in zip(gaps, between, strict=True):
        without, with_copy = (
            len(c) / set_redundancy([c], level=19, window_log=27)
            for c in (sample + middle, sample + middle + sample)
        )
        everything.append((gap, max(with_copy - without, 0) / alone))
    x = scale(gaps[0], gaps[-1], LEFT, WIDTH - RIGHT, log=True)
    y = scale(0, 1.1, HEIGHT - BOTTOM, TOP)
    shown = ([(v, f"{v // 1000} kB") for v in (1_000, 10_000, 100_000)],
             [(v, f"{v:.0%}") for v in (0, 0.25, 0.5, 0.75, 1)])  # fmt: skip
    out = axes(
        x, y, *shown, "text read between a sample and its exact copy", "cost of the copy ÷ alone"
    )
    edge = x(32_768)
    out.append(
        svg.tag(
            "line", x1=edge, x2=edge, y1=TOP, y2=HEIGHT - BOTTOM, stroke=INK, stroke_dasharray="4 4"
        )  # fmt: skip
    )
    out.append(text("32 KB", edge + 6, TOP + 12, "start"))
    for color, points in (("orange", deflate), ("blue", everything)):
        out.append(line([(x(a), y(b)) for a, b in points], color))
    out.append(text("DEFLATE, all that zip sees", x(gaps[-1]) - 6, y(0.86), "end",
                    fill=COLORS["orange"]))  # fmt: skip
    out.append(text("a compressor that sees everything", x(gaps[-1]) - 6, y(0.14), "end",
                    fill=COLORS["blue"]))  # fmt: skip
    picture("what-the-window-sees", "What the window sees: a copy farther back is news", *out)


def what_the_modes_pick(picks: int = 2000, k3: int = 50) -> None:
    """How long the samples are that zip picks, round by round, in both modes."""
    out, lines, chosen = [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path, _ = write_demo_data(Path(folder))
        pool = didact.read(path, cache_dir=Path(folder) / "cache", dedup="none")
        modes = ("exact", "released")
        for mode in modes:
            selection = didact.select(
                pool, None, "zip", budget=didact.Budget(samples=picks), mode=mode,
                k1=1000, k2=100, k3=k3,
            )  # fmt: skip
            chosen[mode] = selection.best_first()
            lines[mode] = pool.n_bytes[chosen[mode]].reshape(-1, k3).mean(axis=1)
    first = int(np.flatnonzero(chosen["exact"] != chosen["released"])[0]) + 1
    common = len(np.intersect1d(chosen["exact"], chosen["released"])) / picks
    top = max(values.max() for values in lines.values())
    x = scale(0, picks, LEFT, WIDTH - RIGHT)
    y = scale(0, top * 1.05, HEIGHT - BOTTOM, TOP)
    ticks = [(v, f"{v:,}") for v in range(0, picks + 1, 500)]
    heights = [(v, f"{v:,.0f}") for v in svg.ticks(0, top)]
    out = axes(x, y, ticks, heights, "samples picked", "bytes a sample, mean of a round")
    for i, (mode, color) in enumerate(zip(modes, ("blue", "orange"), strict=True)):
        middles = (np.arange(picks // k3) + 0.5) * k3
        out.append(line([(x(a), y(b)) for a, b in zip(middles, lines[mode], strict=True)], color))
        out.append(text(mode, LEFT + 12, TOP + 16 + 16 * i, "start", fill=COLORS[color]))
    title = (
        f"What zip's modes pick: the first difference is pick {first}, {common:.0%} of "
        f"{picks:,} are the same"
    )
    picture("what-the-modes-pick", title, *out)


def _added(sample: bytes, prefix: bytes) -> int:
    """Bytes that a sample adds to a prefix."""
    texts = as_texts([b"", sample])
    with DeflateSizes(texts) as counter:
        counter.feed(np.frombuffer(prefix, np.uint8))
        before, after = counter.sizes(np.arange(2)).tolist()
    return int(after - before)


METHODS = ("zip", "feature_based", "shingle_novelty")
PANELS = (  # name, what a set of random rows has, and what is aimed at
    ("xz ratio ÷ random\nof the same lengths", 1.0, 0.8),
    ("near-duplicates\n÷ random", 1.0, 0.25),
    ("planted noise\n÷ random", 1.0, 1.0),
    ("entropy of sources,\nbits over random", 0.0, -0.2),
)


def what_each_picks(share: float = 0.2) -> None:
    """Four instruments that no method optimises, at equal bytes."""
    arms = json.loads(RECORDED.read_text())["arms"]

    def middle(prefix: str, key: str) -> float:
        found = [arm for name, arm in arms.items() if name.startswith(f"{prefix} {share} ")]
        return float(np.median([arm[key] for arm in found]))

    rows = []
    for method in METHODS:
        arm = arms[f"{method} {share}"]
        rows.append(
            (
                arm["xz_ratio"] / middle(f"long {method}", "xz_ratio"),
                arm["near_duplicate_rows"] / middle("random", "near_duplicate_rows"),
                arm["noise_rows"] / middle("random", "noise_rows"),
                arm["source_entropy_bits"] - middle("random", "source_entropy_bits"),
            )
        )
    width, gap, left, top, step = 108, 38, 120, 74, 34
    out = []
    for at, (name, chance, aim) in enumerate(PANELS):
        start = left + at * (width + gap)
        values = [row[at] for row in rows]
        low, high = min(0, *values, aim, chance) * 1.1, max(*values, chance) * 1.1 or 0.1
        x = scale(low, high, start, start + width)
        for i, words in enumerate(name.split("\n")):
            out.append(text(words, start, top - 30 + 15 * i, "start", font_size=11))
        end = top + step * len(rows)
        for value, dash in ((chance, "none"), (aim, "3 3")):
            out.append(svg.tag("line", x1=x(value), x2=x(value), y1=top - 6, y2=end, stroke=INK,
                               stroke_dasharray=dash, stroke_opacity=0.5))  # fmt: skip
        for i, value in enumerate(values):
            y = top + step * i + 6
            a, b = sorted((x(0), x(value)))
            met = value >= aim if at == 3 else value <= aim
            color = COLORS["green" if met else "red"]
            out.append(svg.tag("rect", x=a, y=y, width=max(b - a, 1.5), height=14, fill=color))
            out.append(text(f"{value:.2f}", max(b, x(0)) + 4, y + 11, "start", font_size=11))
    for i, name in enumerate(METHODS):
        out.append(text(name, left - 10, top + step * i + 17, "end"))
    note = "solid: what random rows have · dashed: the aim · green: met"
    out.append(text(note, left, top + step * len(rows) + 18, "start", font_size=11))
    title = f"What each method picks, {share:.0%} of the bytes"
    picture("what-each-picks", title, *out, height=top + step * len(rows) + 30)


def main() -> None:
    """All pictures."""
    if RECORDED.exists():
        what_each_picks()
    rows = library_texts()
    what_compresses(rows)
    what_the_window_sees(rows)
    what_the_modes_pick()


if __name__ == "__main__":
    main()
