"""Small pools to test on: real ones, written to a folder and read as users' files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from didact import verbs
from didact.core.pool import Pool

Rows = Sequence[Mapping[str, Any]]


def make_pool(rows: Rows, directory: Path, *, name: str = "pool", **data: Any) -> Pool:
    """A real pool from JSON-like rows, written to `directory` and read as users' files are.

    Args:
        rows: Samples, e.g. `{"id": "a", "text": "…", "source": "web"}` or with `messages`.
        directory: A folder for the file and the cache.
        name: Stem of the file.
        data: Data settings, e.g. `dedup="none"`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.jsonl"
    path.write_bytes(b"".join(orjson.dumps(dict(row)) + b"\n" for row in rows))
    return verbs.read(path, cache_dir=directory / "cache", **data)


def chat(id_: str, prompt: str, answer: str, **more: Any) -> dict[str, Any]:
    """A row with one question and one answer."""
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"id": id_, "messages": turns, **more}


def sample_rows() -> list[dict[str, Any]]:
    """Some forty chats of many kinds: scripts, lengths, repeats, an empty answer, a graded few."""
    texts = [
        ("How many legs has a cat?", "A cat has four legs."),
        ("Name three colors.", "red, green, blue"),
        ("猫の足は何本ですか。", "四本です。"),
        ("แมวมีกี่ขา", "สี่ขา"),
        ("كم ساقًا للقط؟", "أربع سيقان."),
        ("Сколько ног у кошки?", "У кошки четыре ноги."),  # noqa: RUF001
        ("Say something with pictures", "😀😀👍🏽 é́ \u200d \ufeff"),
        ("A line break\r\nand a tab\t.", "\n\n  spaces  \n"),
        ("Nothing follows.", ""),
        ("!?.,;:", "--"),
        ("Repeat yourself.", "again and again and " * 40),
        ("one", "word"),
    ]
    rows = [chat(f"t{i}", *pair, source=f"s{i % 3}") for i, pair in enumerate(texts)]
    for i in range(24):
        prompt = f"What is {i} plus {i * i}?"
        answer = f"{i} plus {i * i} is {i + i * i}. " + "So it is. " * (i % 5)
        rows.append(chat(f"sum{i}", prompt, answer, source="sums"))
    rows.append({**rows[0], "id": "copy of t0"})
    for i, row in enumerate(rows):
        if i % 5:  # every fifth row carries no grade
            row["meta"] = {"score": (i * 37 % 101) / 7, "grade": i}
    return rows


def target_rows() -> list[dict[str, Any]]:
    """A target set of two tasks, in two scripts."""
    return [
        chat("q0", "How many legs have two cats?", "Two cats have eight legs.", task="counting"),
        chat("q1", "What is 3 plus 4?", "3 plus 4 is 7.", task="counting"),
        chat("q2", "猫は何色ですか。", "猫は黒いです。", task="日本語"),
    ]
