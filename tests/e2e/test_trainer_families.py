"""LLaMA-Factory, ms-swift and axolotl, run as exported: what enters the model is in the order.

Each has an environment of its own, `.venv-NAME`, made by `make trainers-all`; without it its tests are
skipped. A family runs in one process, which writes down the input ids of every forward pass that
learns.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import didact
from didact.core.scores import TrainingOrder
from didact.testing import make_pool

pytestmark = [pytest.mark.trainers, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
N, BATCH = 14, 4

DRIVER = """
import json, os, sys, traceback

{load}

def main():  # workers that a family starts import this file again: nothing above is slow
    import torch, yaml
    from transformers.models.llama.modeling_llama import LlamaModel

    torch.set_num_threads(1)
    forward, steps, results = LlamaModel.forward, [], {{}}
    cross_entropy, learned = torch.nn.functional.cross_entropy, []

    def recorded_loss(logits, target, *more, **named):
        if torch.is_grad_enabled():
            learned.append([i for i in target.flatten().tolist() if i != -100])
        return cross_entropy(logits, target, *more, **named)

    torch.nn.functional.cross_entropy = recorded_loss

    def recorded(self, *more, **named):
        if self.training and torch.is_grad_enabled():  # not a reference's
            ids = named.get("input_ids")
            steps.append((more[0] if ids is None else ids).tolist())
        return forward(self, *more, **named)

    LlamaModel.forward = recorded
    start, common = load()
    for name, (folder, changed) in json.load(open(sys.argv[1])).items():
        os.chdir(folder)
        steps.clear()
        learned.clear()
        error = None
        with open("{family}.yaml") as file:
            settings = {{**yaml.safe_load(file), **common, **changed}}
        try:
            start(settings)
        except BaseException:
            error = traceback.format_exc()
        results[name] = {{"steps": list(steps), "learned": list(learned), "error": error}}
    with open(sys.argv[2], "w") as file:
        json.dump(results, file)

if __name__ == "__main__":
    main()
"""

LOADS = {
    "llama-factory": """
def load():
    from llamafactory.train.tuner import run_exp

    return run_exp, dict(model_name_or_path=os.environ["TINY"], use_cpu=True, report_to="none",
                         save_strategy="no", overwrite_cache=True)
""",
    "ms-swift": """
def load():
    import swift

    def start(settings):
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        run = swift.pretrain_main if settings.get("use_chat_template") is False else swift.sft_main
        (swift.rlhf_main if "rlhf_type" in settings else run)(words)

    return start, dict(model=os.environ["TINY"], model_type="llama", template="chatml",
                       use_cpu=True, report_to="none", save_strategy="no", torch_dtype="float32",
                       check_model=False, eval_strategy="no", agent_template="hermes")
""",
    "axolotl": """
def load():
    import yaml
    from axolotl.cli.train import do_cli

    def start(settings):
        with open("run.yaml", "w") as file:
            yaml.safe_dump(settings, file)
        do_cli(config="run.yaml")

    return start, dict(base_model=os.environ["TINY"], bf16=False, fp16=False, tf32=False,
                       flash_attention=False, attn_implementation="eager", save_strategy="no",
                       special_tokens={"pad_token": "<pad>"}, dataset_prepared_path="prepared",
                       dataset_num_proc=1)
""",
}
# family → case → kind of rows, what is changed in the settings
CASES: dict[str, dict[str, tuple[str, Mapping[str, object]]]] = {
    "llama-factory": {
        "chat": ("chat", {}),
        "text": ("text", {}),
        "pair": ("pair", {}),
        "labelled": ("labelled", {}),
        "agent": ("agent", {}),
        "uneven": ("uneven", {}),
        "untrained": ("untrained", {}),
        "shuffled": ("chat", {"disable_shuffling": False}),
    },
    "ms-swift": {
        "chat": ("chat", {}),
        "text": ("text", {}),
        "pair": ("pair", {}),
        "agent": ("agent", {}),
        "uneven": ("uneven", {}),
        "untrained": ("untrained", {}),
        "shuffled": ("chat", {"dataset_shuffle": True}),
    },
    "axolotl": {
        "chat": ("chat", {}),
        "text": ("text", {}),
        "labelled": ("labelled", {}),
        "agent": ("agent", {}),
        "untrained": ("untrained", {}),
        "shuffled": ("chat", {"curriculum_sampling": False}),
    },
}  # fmt: skip
IN_ORDER = [(f, c) for f, cases in CASES.items() for c in cases if c not in {"shuffled", "pair"}]


def rows(kind: str) -> list[dict[str, object]]:
    """Rows of a kind; a number in each tells which it is, and lengths differ."""
    out: list[dict[str, object]] = []
    for i in range(N):
        question, answer = f"sample {i} asks " + "again " * (i * 7 % 11), f"answer {i} says"
        asked, said = (
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        )
        call = {"type": "function", "function": {"name": "look", "arguments": {f"at{i % 2}": i}}}
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        made: dict[str, dict[str, object]] = {
            "chat": {"messages": [asked, said]},
            "text": {"text": f"{question} {answer}"},
            "pair": {"prompt": [asked], "chosen": [said],
                     "rejected": [{"role": "assistant", "content": "bad"}]},
            "labelled": {"prompt": [asked], "completion": [said], "label": i % 2},
            "agent": {"messages": [
                asked, {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": f"tool {i}"},
                said | {"reasoning_content": f"because {i}"}], "tools": [tool] if i % 2 else None},
            # an answer of the prompt, no answer at all, none that is to be trained
            "untrained": {"prompt": [asked, {"role": "assistant", "content": "old"}, asked],
                          "completion": [said, asked, said | {"weight": 0}][i % 3]},
            # spelled and grouped in ways that trainers drop
            "uneven": {"conversations": [
                {"from": "Human", "value": question}, {"from": "USER", "value": "more"},
                {"from": "bot", "value": answer}, {"from": "ChatGPT", "value": "and"},
                {"from": "human", "value": "unanswered"}][: 3 + i % 3]},
        }  # fmt: skip
        out.append(made[kind])
    return out


@dataclass(frozen=True)
class Ran:
    """The order of a case's rows, the texts of every step as the model got them, its error.

    `learned` is what a loss was taken of, a text for each time.
    """

    order: list[int]
    texts: list[list[str]]
    learned: list[str]
    error: str | None

    @property
    def numbers(self) -> list[list[int]]:
        """The numbers of the samples of every step."""
        assert self.error is None, self.error
        return [[int(re.findall(r"sample (\d+)", t)[0]) for t in step] for step in self.texts]

    @property
    def steps(self) -> list[list[int]]:
        """The order in steps."""
        return [self.order[i : i + BATCH] for i in range(0, len(self.order), BATCH)]


@pytest.fixture(scope="module")
def families(tiny_llama, tmp_path_factory):
    """Runs all cases of a family, once."""
    done: dict[str, dict[str, Ran]] = {}

    def run(family: str) -> dict[str, Ran]:
        python = ROOT / f".venv-{family}" / "bin" / "python"
        if not python.exists():
            pytest.skip(f"no {python.parents[1].name}: make trainers-all")
        if family not in done:
            done[family] = ran(family, python, tiny_llama, tmp_path_factory.mktemp(family))
        return done[family]

    return run


def ran(family: str, python: Path, model: Path, place: Path) -> dict[str, Ran]:
    jobs, orders = {}, {}
    for case, (kind, changed) in CASES[family].items():
        pool = make_pool(rows(kind), place / case, validation=2 if case == "chat" else 0)
        free = np.random.default_rng(1).permutation(np.flatnonzero(~pool.in_validation))[:12]
        order = TrainingOrder(free, pool.fingerprint, "test", epochs=1, batch_size=BATCH)
        didact.export(pool, order, place / case / "out", trainer=family)
        jobs[case], orders[case] = (str(place / case / "out" / "settings"), changed), free.tolist()
    (place / "jobs.json").write_text(json.dumps(jobs))
    driver = DRIVER.format(load=LOADS[family], family=family)
    (place / "driver.py").write_text(driver)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ended = subprocess.run(
        [python, "driver.py", place / "jobs.json", place / "results.json"],
        capture_output=True, text=True, check=False, cwd=place,
        env={
            **environment, "TINY": str(model), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": str(place / "hf"), "MODELSCOPE_CACHE": str(place / "ms"),
            "TRITON_CACHE_DIR": str(place / "triton"), "CUDA_VISIBLE_DEVICES": "",
            "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "AXOLOTL_DO_NOT_TRACK": "1",
        },
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    return {
        case: Ran(
            orders[case],
            [[tokenizer.decode(r, skip_special_tokens=False) for r in s] for s in told["steps"]],
            [tokenizer.decode(ids) for ids in told["learned"]],
            told["error"],
        )
        for case, told in json.loads((place / "results.json").read_text()).items()
    }


@pytest.mark.parametrize(("family", "case"), IN_ORDER)
def test_the_order_enters_the_model(families, family, case):
    got = families(family)[case]
    assert got.numbers == got.steps


@pytest.mark.parametrize("family", ["llama-factory", "ms-swift"])
def test_pairs_keep_their_order(families, family):
    got = families(family)["pair"]
    assert got.numbers == [step + step for step in got.steps]  # the chosen ones first
    assert all("says" in t for step in got.texts for t in step[:BATCH])
    assert all("bad" in t for step in got.texts for t in step[BATCH:])


@pytest.mark.parametrize("family", CASES)
def test_without_the_setting_the_order_is_lost(families, family):
    got = families(family)["shuffled"]
    assert got.numbers != got.steps
    assert sorted(i for step in got.numbers for i in step) == sorted(got.order)


@pytest.mark.parametrize("family", CASES)
def test_tools_calls_and_reasoning_enter_the_model(families, family):
    got = families(family)["agent"]
    assert got.error is None, got.error
    for i, text in zip(got.order, (t for step in got.texts for t in step), strict=True):
        assert ("look" in text.split("sample")[0]) == bool(i % 2)  # the tools, where there are any
        assert re.search(rf'"at{i % 2}": {i}\b', text)
        assert f"because {i}" in text
        assert f"tool {i}" in text
        assert "null" not in text


@pytest.mark.parametrize("family", ["llama-factory", "ms-swift"])
def test_turns_that_do_not_alternate_are_joined(families, family):
    got = families(family)["uneven"]
    for i, text in zip(got.order, (t for step in got.texts for t in step), strict=True):
        assert f"answer {i} says" in text
        assert ("unanswered" in text) == (i % 3 == 2)


@pytest.mark.parametrize("family", CASES)
def test_answers_of_prompts_are_learned_where_it_is_said(families, family):
    got = families(family)["untrained"]
    assert got.error is None, got.error
    alone = [i for i in got.order if i % 3]  # no other is to be trained, and the row not dropped
    learned = " ".join(got.learned)
    assert learned.count("old") == len(got.order if family == "llama-factory" else alone)
    assert learned.count("says") == len([i for i in got.order if i % 3 != 1])
