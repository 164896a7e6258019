"""Tasks of lm-eval out of held-out files: what is written, and run offline where it is installed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import orjson
import pytest
import yaml

import didact
from didact import verbs
from didact.core.errors import ConfigError, DataError, MissingDependencyError
from didact.testing import chat

pytest.importorskip("torch")
pytest.importorskip("peft")

LIST = "Where?\n(A) museum\n(B) house"


def rows() -> dict[str, list[dict]]:
    return {
        "gsm8k": [chat(f"g{i}", f"What is {i} and 1,000?", f"{i} + 1,000 = {i + 1000}\n#### 1,{i:03}")
                  for i in range(3)],
        "csqa": [chat(f"c{i}", f"{i}: {LIST}", "(AB)"[:1] + "AB"[i % 2] + ")") for i in range(4)],
        "clinc150": [chat(f"l{i}", f"intent {i}", ["pay", "fly"][i % 2]) for i in range(8)],
        "bbh": [chat(f"b{i}", f"sort {i}", f"word {i}", source="bbh/word_sorting")
                for i in range(3)]
        + [chat(f"o{i}", f"{i} is", ["True", "False"][i % 2], source="bbh/boolean")
           for i in range(8)],
    }  # fmt: skip


@pytest.fixture
def files(tmp_path):
    out = {}
    for name, found in rows().items():
        out[name] = tmp_path / f"{name}.jsonl"
        out[name].write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in found))
    return out


def written(folder, name):
    task = yaml.safe_load((folder / f"{name}.yaml").read_text())
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return task, [json.loads(line) for line in lines]


def test_every_source_is_a_task_of_its_kind(files, tiny_model, tmp_path):
    folder = tmp_path / "tasks"
    names = verbs.write_tasks(tiny_model, list(files.values()), folder)
    assert names == ["gsm8k", "csqa", "clinc150", "bbh_word_sorting", "bbh_boolean"]
    task, samples = written(folder, "gsm8k")
    assert task["output_type"] == "generate_until"
    assert [s["number"] for s in samples] == ["1000", "1001", "1002"]
    assert samples[0]["prompt"] == "What is 0 and 1,000?"
    task, samples = written(folder, "csqa")
    assert task["output_type"] == "multiple_choice"
    assert [(s["options"], s["right"]) for s in samples[:2]] == [
        (["(A)", "(B)"], 0), (["(A)", "(B)"], 1),
    ]  # fmt: skip
    task, samples = written(folder, "clinc150")
    assert (samples[0]["options"], samples[0]["right"]) == (["fly", "pay"], 1)
    task, samples = written(folder, "bbh_word_sorting")
    assert (task["output_type"], task["doc_to_target"]) == ("loglikelihood", "{{answer}}")
    task, samples = written(folder, "bbh_boolean")
    assert samples[1]["options"] == ["False", "True"]
    assert task["dataset_kwargs"]["data_files"]["test"] == str(folder / "bbh_boolean.jsonl")


def test_rows_without_prompt_or_answer_are_refused(tiny_model, tmp_path):
    path = tmp_path / "held.jsonl"
    path.write_bytes(orjson.dumps(chat("a", "q", "")))
    with pytest.raises(DataError, match=r"held.jsonl: row 1: has no answer; lm-eval needs both"):
        verbs.write_tasks(tiny_model, path, tmp_path / "tasks")


def test_rows_that_the_model_was_trained_on_are_left_out_with_a_line(tiny_model, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"say {i}"},
                      {"role": "assistant", "content": f"word {i}"}]}
        for i in range(8)
    ]  # fmt: skip
    path = tmp_path / "held_out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    seen = didact.read(path, dedup="none").content_hash[[1, 5]]
    np.save(model / "trained_on.npy", np.sort(seen))
    said = []
    (name,) = verbs.write_tasks(
        model, path, tmp_path / "tasks", ctx=didact.context(tell=said.append)
    )
    lines = (tmp_path / "tasks" / f"{name}.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == [
        f"say {i}" for i in range(8) if i not in {1, 5}
    ]
    assert "2 of 8 rows" in said[0]
    with pytest.raises(DataError, match="never seen"):
        verbs.write_tasks(model, path, tmp_path / "more", on_overlap="error")


def test_lm_eval_that_is_not_installed_is_an_instruction(tiny_model, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "lm_eval" else real(name, *a)
    )
    with pytest.raises(MissingDependencyError, match=r"pip install 'didact\[eval\]'"):
        verbs.run_tasks(tiny_model, ["gsm8k"])


@pytest.mark.filterwarnings("default")  # those of lm-eval and what it stands on
def test_lm_eval_runs_the_tasks_offline(files, tiny_model, tmp_path):
    pytest.importorskip("lm_eval")
    folder = tmp_path / "tasks"
    names = verbs.write_tasks(tiny_model, list(files.values()), folder)
    own = {"folder": folder, "device": "cpu", "dtype": "float32"}
    found = verbs.run_tasks(tiny_model, names, **own)
    by_task = {(r["task"], r["metric"]): r for r in found}
    assert {task for task, _ in by_task} == set(names)
    assert ("gsm8k", "exact_match (last-number)") in by_task
    for record in found:
        assert record["low"] <= record["value"] <= record["high"] + 1e-12
        assert (record["file"], record["unit"], record["higher_is_better"]) == ("", "samples", True)
    assert by_task["clinc150", "acc"]["n"] == 8
    with pytest.raises(ConfigError, match="knows no such task"):
        verbs.run_tasks(tiny_model, ["nope"], folder=folder)
