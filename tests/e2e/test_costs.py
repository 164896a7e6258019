"""What runs are charged with and what their results are worth, for every scorer; also when killed.

Charged is what a run spent; value is what its result takes from nothing, whoever made it. Flops and
tokens are counts, and so both are exact. Run as a program this file serves `Killable`.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

import didact
from didact.core import registry
from didact.core.protocols import Progress
from didact.scoring.adjoint import annotation
from didact.scoring.around import score_pool as driver
from didact.testing import sample_rows, target_rows

LIBRARIES = ("torch", "transformers", "peft", "sentence_transformers", "model2vec")
JUDGE = {"model": "{tiny_model}", "device": "cpu", "tokens_per_batch": 1024}
LESS = {
    **JUDGE, "method": "less", "share": 0.4, "epochs": 3, "rank": 2, "batch_size": 4,
    "learning_rate": 1e-2,
}  # fmt: skip
INNER = {**JUDGE, "steps": 6, "every": 2, "inner_batch": 4, "learning_rate": 0.02}
BY_OTHERS = {"proxy": 20, "scorer_epochs": 2}
CASES: Mapping[str, Mapping[str, Any]] = {
    "random": {"method": "random"},
    "length": {"method": "length"},
    "compression": {"method": "compression"},
    "bm25": {"method": "bm25"},
    "dsir": {"method": "dsir"},
    "ngram_perplexity": {"method": "ngram_perplexity", "order": 2},
    "classifier": {"method": "classifier"},
    "learned_grade": {"method": "learned_grade", "grade": "meta.score"},
    "column": {"method": "column", "name": "meta.score", "prefer": "higher"},
    "perplexity": {**JUDGE, "method": "perplexity"},
    "bits_per_byte": {**JUDGE, "method": "bits_per_byte"},
    "ifd": {**JUDGE, "method": "ifd", "above_one": "keep"},
    "embedding": {"method": "embedding", "model": "{tiny_encoder}", "device": "cpu"},
    "static_embedding": {"method": "static_embedding", "model": "{tiny_static}"},
    "rds": {**JUDGE, "method": "rds"},
    "less": LESS,
    "less projected": {**LESS, "space": "projected", "dimension": 64},
    "pds": {**INNER, "method": "pds"},
    "lqs": {**INNER, "method": "lqs"},
    "pds by a data scorer": {**INNER, **BY_OTHERS, "method": "pds"},
    "lqs by a data scorer": {**INNER, **BY_OTHERS, "method": "lqs"},
    "zip_fit": {"method": "zip_fit", "codec": "lz4"},
}
WITH_TARGET = {
    "bm25", "classifier", "dsir", "embedding", "static_embedding", "rds", "less", "pds", "lqs",
    "ngram_perplexity", "zip_fit",
}  # fmt: skip
# Processor seconds between an entry's cost being noted in it and its maker being told: checksums
# and the disk. Folders of tiny models; measured below 0.02.
SEALING = 0.1

Run = Callable[..., "Told"]


def small() -> None:
    """Parts of a few rows, so that a small pool has many."""
    driver.BATCHES_PER_SHARD = 1
    annotation.SHARD_ROWS = 8


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "BATCHES_PER_SHARD", driver.BATCHES_PER_SHARD)
        patch.setattr(annotation, "SHARD_ROWS", annotation.SHARD_ROWS)
        small()
        yield


@dataclass(frozen=True)
class Told:
    """What a finished run told; later runs in its folder change none of it."""

    cache: Path
    progress: list[Progress]
    changes: tuple[str, ...]
    manifest: dict[str, Any]
    scores: bytes

    def measured(self, stage: str = "score") -> dict[str, Any]:
        found: dict[str, Any] = next(
            s["measured"] for s in self.manifest["stages"] if s["name"] == stage
        )
        return found


def counts(cost: Mapping[str, float]) -> tuple[float, float]:
    return cost["flops"], cost["tokens"]


def run(config: Mapping[str, Any], folder: Path, cache: Path) -> Told:
    progress: list[Progress] = []
    done = didact.run(config, folder, workers=1, cache_dir=cache, progress=progress.append)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    scores = (folder / "scores.parquet").read_bytes()
    return Told(cache, progress, done.changes, manifest, scores)


@pytest.fixture(scope="module")
def configured(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[..., dict[str, Any]]:
    """The config of a run by a scorer of `CASES`."""
    folder = tmp_path_factory.mktemp("rows")
    for name, rows in (("pool", sample_rows()), ("aim", target_rows())):
        lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        (folder / f"{name}.jsonl").write_bytes(lines)

    def config(case: str, samples: int = 12) -> dict[str, Any]:
        score = dict(CASES[case])
        if "model" in score:
            for library in LIBRARIES:
                pytest.importorskip(library)
            score["model"] = str(request.getfixturevalue(score["model"].strip("{}")))
        if score["method"] in WITH_TARGET:
            score["target"] = str(folder / "aim.jsonl")
        return {
            "data": {"path": str(folder / "pool.jsonl"), "batch_rows": 8},
            "score": score,
            "select": {"method": "top_k", "budget": {"samples": samples}},
            "order": {"method": "sort"},
        }

    return config


@pytest.fixture(scope="module")
def cold(configured, tmp_path_factory) -> Callable[[str], Told]:
    """A scorer's first run, once for all tests."""
    made: dict[str, Told] = {}

    def found(case: str) -> Told:
        if case not in made:
            folder = tmp_path_factory.mktemp("cold")
            made[case] = run(configured(case), folder / "run", folder / "cache")
        return made[case]

    return found


def test_every_scorer_is_here():
    assert {case["method"] for case in CASES.values()} == set(registry.known("scorers"))


@pytest.mark.parametrize("case", CASES)
def test_a_first_run_is_charged_with_all_that_its_result_is_worth(case, cold):
    first = cold(case)
    measured, whole = first.measured(), first.manifest["cost"]
    assert counts(measured["charged"]) == counts(measured["value"])
    assert counts(whole["charged"]) == counts(whole["value"]) == counts(measured["value"])
    if "device" in CASES[case]:
        assert min(counts(measured["value"])) > 0
    for cost in (measured["charged"], measured["value"]):
        assert cost["device_seconds"] == 0
        assert cost["cpu_seconds"] > 0
    # Nothing is told twice: both are of the same work, but for sealing what is kept of it.
    parts = SEALING * len(measured["uses"])
    assert abs(measured["charged"]["cpu_seconds"] - measured["value"]["cpu_seconds"]) <= parts


@pytest.mark.parametrize("case", CASES)
def test_a_second_run_is_charged_with_nothing_and_worth_the_same(case, cold, configured, tmp_path):
    first = cold(case)
    again = run(configured(case), tmp_path / "again", first.cache)
    other = run(configured(case, samples=7), tmp_path / "other", first.cache)
    there = run(configured(case, samples=9), tmp_path / "other", first.cache)
    before = first.measured()
    for later in (again, other, there):
        assert later.scores == first.scores
        measured = later.measured()
        assert counts(measured["charged"]) == (0, 0)
        assert counts(measured["value"]) == counts(before["value"])
        assert measured["uses"].keys() == before["uses"].keys()
        assert "score" not in {p.stage for p in later.progress}
        for name, cost in measured["uses"].items():
            assert counts(cost) == counts(before["uses"][name])
            assert cost["cpu_seconds"] == before["uses"][name]["cpu_seconds"]
        # Beside kept values a stage reads its target set, looks for what is kept and writes its
        # table, every time anew: that part is its own, and it alone may differ.
        own = measured["own"]["cpu_seconds"], before["own"]["cpu_seconds"]
        bound = abs(own[0] - own[1])
        seconds = measured["value"]["cpu_seconds"] - before["value"]["cpu_seconds"]
        assert abs(seconds) <= bound + 1e-9
        assert max(own) < 1 + 0.5 * before["value"]["cpu_seconds"]
    assert len(there.manifest["stages"]) == len(first.manifest["stages"])
    assert there.measured()["reused"]
    assert not there.measured("select")["reused"]
    assert [c for c in there.changes if c.startswith("score")] == []


# -- killed ----------------------------------------------------------------------------------------


class Killable:
    """Runs in processes of their own that are killed on their way.

    They are forks of one process that has the libraries open, which takes longer than they live.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, config: Mapping[str, Any], folder: Path, cache: Path, **dies: Any) -> float:
        """Seconds it lived; negative for one that came to its end.

        Args:
            config: As of `didact.run`.
            folder: Likewise.
            cache: Likewise.
            dies: `stage` and `done`, the progress at which it is killed; or `after` seconds.
        """
        order = {"config": config, "folder": str(folder), "cache": str(cache), "dies": dies}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status, seconds = json.loads(self._process.stdout.readline())
        assert status in {0, -signal.SIGKILL}, f"the run ended with {status}; see stderr"
        return float(seconds if status else -seconds)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


def serve() -> None:
    """Read runs from stdin, one a line; a fork does each, and its end is told on stdout."""
    small()
    ours = ("training.loop", "training.regression", "gradients.adjoint", "models.embed", "pipeline")
    for library in (*LIBRARIES, *(f"didact.{name}" for name in ours)):
        try:
            importlib.import_module(library)
        except ImportError:
            break
    gc.freeze()  # a fork that closes a model goes over its own objects alone
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a run may print
    for line in sys.stdin:
        began = time.monotonic()
        child = os.fork()
        if not child:
            try:
                _live(**json.loads(line))
            except BaseException:  # noqa: BLE001 - told, and known by the status
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        told = [os.waitstatus_to_exitcode(status), time.monotonic() - began]
        print(json.dumps(told), file=answers, flush=True)


def _live(config: Mapping[str, Any], folder: str, cache: str, dies: Mapping[str, Any]) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if "after" in dies:
        timer = threading.Timer(dies["after"], die)
        timer.daemon = True
        timer.start()

    def watch(progress: Progress) -> None:
        if progress.stage == dies.get("stage") and progress.done >= dies["done"]:
            die()

    didact.run(config, folder, workers=1, cache_dir=cache, progress=watch)


@pytest.fixture(scope="module")
def killable() -> Iterator[Killable]:
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    found = Killable()
    yield found
    found.close()


@pytest.mark.parametrize("case", CASES)
def test_killed_in_every_stage_it_comes_to_the_same_bytes_and_value(
    case, cold, configured, killable, tmp_path
):
    first = cold(case)
    stages = list(dict.fromkeys(p.stage for p in first.progress))
    places = []
    for stage in stages[stages.index("read") + 1 :] if "read" in stages else stages:
        done = [p.done for p in first.progress if p.stage == stage]
        places.append({"stage": stage, "done": done[len(done) // 2]})
    folder, cache, config = tmp_path / "run", tmp_path / "cache", configured(case)
    lives = [killable.run(config, folder, cache, **place) for place in places]
    assert lives[0] > 0, places
    moment = random.SystemRandom().uniform(0, 1.2 * max(lives))  # training seeds the usual one
    killable.run(config, folder, cache, after=moment)
    again = run(config, folder, cache)
    measured, before = again.measured(), first.measured()
    assert again.scores == first.scores, (places, moment)
    assert counts(measured["value"]) == counts(before["value"]), (places, moment)
    assert measured["uses"].keys() == before["uses"].keys()
    for name, cost in measured["uses"].items():
        assert counts(cost) == counts(before["uses"][name]), (name, places, moment)
    for spent, worth in zip(counts(measured["charged"]), counts(measured["value"]), strict=True):
        assert spent <= worth, (places, moment)
    for left in (p for p in (cache / "unfinished").glob("*") if p.is_dir()):
        kind, _, key = left.name.rpartition("-")  # killed between the entry and its tidying up
        assert (cache / kind / key / "entry.json").is_file(), (places, moment)


# -- totals ----------------------------------------------------------------------------------------


def test_what_two_stages_use_counts_once(cold, configured, tmp_path):
    config = configured("perplexity")
    config["order"]["score"] = config["score"]
    done = run(config, tmp_path / "run", tmp_path / "cache")
    value = counts(cold("perplexity").measured()["value"])
    assert min(value) > 0
    assert counts(done.measured("score")["value"]) == value
    assert counts(done.measured("order_score")["value"]) == value
    assert counts(done.measured("score")["charged"]) == value
    assert counts(done.measured("order_score")["charged"]) == (0, 0)
    whole = done.manifest["cost"]
    assert counts(whole["value"]) == counts(whole["charged"]) == value


def test_pds_and_lqs_are_both_worth_the_adjoint_they_share(cold, configured, tmp_path):
    done = run(configured("lqs"), tmp_path / "run", cold("pds").cache)
    measured, alone = done.measured(), cold("lqs").measured()
    assert counts(measured["value"]) == counts(alone["value"])
    (adjoint,) = (c for name, c in measured["uses"].items() if name.startswith("adjoints/"))
    assert adjoint["flops"] > 0
    assert measured["charged"]["flops"] == alone["value"]["flops"] - adjoint["flops"]
    assert measured["charged"]["tokens"] == alone["value"]["tokens"] - adjoint["tokens"]


# -- what makes it run again -----------------------------------------------------------------------


def test_another_version_of_torch_scores_again_and_says_so(configured, tmp_path, monkeypatch):
    config = configured("perplexity")
    first = run(config, tmp_path / "run", tmp_path / "cache")
    own, real = importlib.metadata.version("torch"), importlib.metadata.version
    with monkeypatch.context() as patch:
        patch.setattr(
            importlib.metadata, "version", lambda name: "99.1" if name == "torch" else real(name)
        )
        other = run(config, tmp_path / "run", tmp_path / "cache")
    assert not other.measured()["reused"]
    assert counts(other.measured()["charged"]) == counts(first.measured()["value"])
    (said,) = (c for c in other.changes if c.startswith("score: "))
    assert 0 < said.index("torch") < said.index(own) < said.index("99.1")
    back = run(config, tmp_path / "run", tmp_path / "cache")
    (said,) = (c for c in back.changes if c.startswith("score: "))
    assert 0 < said.index("torch") < said.index("99.1") < said.index(own)
    assert counts(back.measured()["charged"]) == (0, 0)  # the cache has not forgotten
    assert back.scores == first.scores
    text = run(configured("length"), tmp_path / "text", tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(
            importlib.metadata, "version", lambda name: "99.1" if name == "torch" else real(name)
        )
        still = run(configured("length"), tmp_path / "text", tmp_path / "cache")
    assert still.measured()["reused"]  # a length does not depend on torch
    assert still.changes == ()
    assert still.scores == text.scores


def test_a_change_of_a_library_is_told_without_what_has_not_changed(
    configured, tmp_path, monkeypatch
):
    config, real = configured("perplexity"), importlib.metadata.version
    run(config, tmp_path / "run", tmp_path / "cache")
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99.1" if name == "torch" else real(name)
    )
    other = run(config, tmp_path / "run", tmp_path / "cache")
    (said,) = (c for c in other.changes if c.startswith("score: "))
    assert said.endswith(f"torch changed from {real('torch')!r} to '99.1'")
    assert "transformers" not in said


def test_another_model_in_its_folder_scores_again_and_says_so(configured, tmp_path, save_llama):
    config = configured("perplexity")
    config["score"]["model"] = str(save_llama(tmp_path / "judge", seed=1))
    first = run(config, tmp_path / "run", tmp_path / "cache")
    save_llama(tmp_path / "judge", seed=2)
    other = run(config, tmp_path / "run", tmp_path / "cache")
    (said,) = (c for c in other.changes if c.startswith("score: "))
    assert "model" in said
    assert "changed" in said
    assert counts(other.measured()["charged"]) == counts(first.measured()["value"])
    assert other.scores != first.scores


if __name__ == "__main__":
    serve()
