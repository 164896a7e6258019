"""How well grades are foretold from 50 to 2,000 of them, beside length and TF-IDF with ridge.

python benchmarks/learned_grade.py POOL.jsonl --work DIR

Three graded sets are made of the pool's own rows:

- `steps`: questions of GSM8K, graded by the steps of their solution, 0 to 8, as its authors mark
  them in the answer. Only the question is seen.
- `damage`: 6,000 answers of 15 words or more, of which a share of the words, 0 to 5 fifths, is
  kept, and that is the grade. What is not kept is shuffled, cut off, or replaced by words of
  another answer, a third of the rows each.
- `stars`: 400 reviews with their stars, 1 to 5, of Yelp and of apps; the review alone is seen.

Of each, some rows drawn at random carry their grade, and all others are foretold. What is not
interrupted is not done again: every draw is a file in DIR.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

import didact
from didact.core.statistics import spearman

RESULTS = Path(__file__).parent / "results" / "learned_grade.json"
GRADES = (50, 200, 500, 2000)
DRAWS = 10
Row = tuple[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=DRAWS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    with Path(options.pool).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found: dict[str, Any] = {}
    for name, made in {"steps": steps, "damage": damage, "stars": stars}.items():
        graded = made(rows)
        table: dict[str, Any] = {}
        for n in GRADES:
            if 1.5 * n > len(graded):
                continue
            draws = []
            for draw in range(options.draws):
                kept = options.work / f"{name}-{n}-{draw}.json"
                if not kept.exists():
                    kept.write_text(json.dumps(one_draw(graded, n, draw, options.work)))
                draws.append(json.loads(kept.read_text()))
            table[str(n)] = summary(draws)
            print(name, n, table[str(n)], flush=True)
        found[name] = {"rows": len(graded), "by number of grades": table}
    result = {"machine": f"{platform.machine()}, Python {platform.python_version()}", **found}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def steps(rows: list[dict[str, Any]]) -> list[Row]:
    """Questions and the number of calculations that their solution marks."""
    return [
        (row["messages"][0]["content"], float(min(row["messages"][1]["content"].count("<<"), 8)))
        for row in rows
        if row["source"] == "gsm8k"
    ]


def damage(rows: list[dict[str, Any]], n: int = 6000) -> list[Row]:
    """Questions with damaged answers, and the fifths of the answer that are left."""
    rng = np.random.default_rng(0)
    fit = [r["messages"] for r in rows if len(r["messages"]) == 2]
    fit = [turns for turns in fit if len(turns[1]["content"].split()) >= 15]
    out = []
    for i, at in enumerate(rng.permutation(len(fit))[:n]):
        words = fit[at][1]["content"].split()
        grade = int(rng.integers(0, 6))
        kept = len(words) * grade // 5
        rest: list[str] = []
        if i % 3 == 0:
            rest = [str(word) for word in rng.permutation(words[kept:])]
        elif i % 3 == 1:
            kept = max(kept, 1)
        else:
            other = fit[int(rng.integers(len(fit)))][1]["content"].split()
            rest = other[: len(words) - kept]
        text = " ".join([*words[:kept], *rest])
        out.append((fit[at][0]["content"] + "\n" + text, float(grade)))
    return out


def stars(rows: list[dict[str, Any]]) -> list[Row]:
    """Reviews and their stars: one wording of the question, so that each review stands once."""
    wordings = {"yelp_review_full_on_a_scale", "app_reviews_convert_to_rating"}
    return [
        (row["messages"][0]["content"], float(row["messages"][1]["content"][0]))
        for row in rows
        if (row.get("meta") or {}).get("template") in wordings
    ]


def one_draw(graded: list[Row], n: int, draw: int, work: Path) -> dict[str, Any]:
    """Grades of n rows, and how well those of all others are foretold."""
    order = np.random.default_rng([draw, n]).permutation(len(graded))
    with_grade = set(order[:n].tolist())
    file = work / "pool.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for i, (text, grade) in enumerate(graded):
            row = {"id": str(i), "text": text} | ({"grade": grade} if i in with_grade else {})
            out.write(json.dumps(row) + "\n")
    others = order[n:]
    truth = np.array([graded[i][1] for i in others])
    pool = didact.read(file, cache_dir=work / "cache", dedup="none")
    out: dict[str, Any] = {}
    for name, settings in {"learned_grade": {}, "words alone": {"shape": False}}.items():
        ctx = didact.context(cache_dir=work / "cache")
        began = time.process_time()
        scores = didact.score(pool, "learned_grade", ctx=ctx, grade="grade", **settings)
        out[name] = {
            "cpu": time.process_time() - began,
            "spearman": spearman(scores.values[others], truth),
            "told": [scores.facts[k] for k in ("spearman", "spearman_low", "spearman_high")],
        }
    length = np.array([len(graded[i][0]) for i in others])
    out["length"] = {"spearman": spearman(length, truth)}
    began = time.process_time()
    out["tf-idf and ridge"] = {"spearman": spearman(rival(graded, order, n), truth)}
    out["tf-idf and ridge"]["cpu"] = time.process_time() - began
    return out


def rival(graded: list[Row], order: np.ndarray, n: int) -> np.ndarray:
    """What is written first for the job: TF-IDF of words and pairs, and ridge, of scikit-learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform([graded[i][0] for i in order[:n]])
    model = Ridge(alpha=1.0).fit(known, [graded[i][1] for i in order[:n]])
    return np.asarray(model.predict(vectorizer.transform([graded[i][0] for i in order[n:]])))


def summary(draws: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over draws, and how often the interval that was told held the truth."""
    out: dict[str, Any] = {"draws": len(draws)}
    for name in draws[0]:
        values = np.array([draw[name]["spearman"] for draw in draws])
        out[name] = {
            "spearman": round(float(values.mean()), 3),
            "sd": round(float(values.std()), 3),
        }
        if "cpu" in draws[0][name]:
            out[name]["cpu seconds"] = round(float(np.median([d[name]["cpu"] for d in draws])), 2)
        if "told" in draws[0][name]:
            told = np.array([draw[name]["told"] for draw in draws], np.float64)
            inside = (told[:, 1] <= values) & (values <= told[:, 2])
            out[name]["told"] = round(float(told[:, 0].mean()), 3)
            out[name]["held by its interval"] = f"{int(inside.sum())} of {len(draws)}"
    return out


if __name__ == "__main__":
    main()
