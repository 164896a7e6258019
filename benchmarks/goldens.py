"""Digests of every data file that didact writes, over all methods and formats.

    python benchmarks/goldens.py record FILE.json     # before a change
    python benchmarks/goldens.py check FILE.json      # after it: prints what differs, exit code 1

A refactor shows with it that it changes no byte: tables, ordered files, validation splits, rejected
and excluded rows, trainers' files; not the manifest, the report and what a run keeps to resume. It
uses only what users can call. Tables carry their settings, so everything is read from a temporary
working folder by relative paths; the tiny models are made there, too. Digests are of one machine
and one set of library versions, which the file names.

`--only TEXT` takes the cases with that text in their names. `--data DIR` is the folder of real
data, by default ../shared/data beside the repository; without it those cases are left out.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch: sums in one order
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}

import argparse
import contextlib
import gzip
import hashlib
import json
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

import didact
from didact.core.registry import known
from didact.testing import sample_rows, target_rows

Config = dict[str, Any]
Case = Config | list[Config] | list[str] | Callable[[], None]  # a run, runs, commands, a function

LIBRARIES = (
    "didact", "isal", "model2vec", "numba", "numpy", "orjson", "peft", "pyarrow", "rensa",
    "sentence-transformers", "tokenizers", "torch", "transformers", "zstandard",
)  # fmt: skip
REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
OUT, CACHE = Path("out"), Path("cache")
SEED = 17
NOT_DATA = {"manifest.json", "report.html", "stages"}

# -- methods: each with its settings, once plain and once for every other way through the code -----
# fmt: off

AIM, GOAL = {"target": "aim.jsonl"}, {"target": "goal.jsonl"}
JUDGE = {"model": "judge", "device": "cpu", "tokens_per_batch": 1024}
INNER = {**JUDGE, **AIM, "steps": 2, "every": 1, "inner_batch": 4, "learning_rate": 0.02}
LESS = {**JUDGE, **AIM, "share": 0.5, "epochs": 2, "rank": 2, "alpha": 4, "batch_size": 8,
        "learning_rate": 1e-2}
PROJECTED = {"space": "projected", "dimension": 64}
ENCODER = {"model": "encoder", "device": "cpu", "tokens_per_batch": 512, **AIM}
STATIC = {"model": "static", **AIM}
GRADED = {"method": "column", "name": "meta.score", "prefer": "higher"}
REDUCED = [{"within": w, "reduce": r} for w in ("mean", "max", "each") for r in ("mean", "max")]
SCORERS: dict[str, list[Config]] = {
    "bits_per_byte": [JUDGE, {**JUDGE, "loss": "text"}],
    "bm25": [
        AIM,
        {"target": {"path": "aim.jsonl", "columns": {"task": "id"}}, "reduce": "max"},
        {**AIM, "variant": "lucene", "field": "prompt", "target_field": "text", "reduce": "max"},
        {**AIM, "k1": 0.9, "b": 0.4, "epsilon": 0.1},
    ],
    "classifier": [AIM, {**AIM, "folds": 2, "field": "prompt", "target_field": "text", "l2": 0.01},
                   {**STATIC, "features": "static_embedding"},
                   {"model": "encoder", "device": "cpu", **AIM, "features": "embedding"}],
    "column": [GRADED, {"name": "meta.grade", "prefer": "lower"}],
    "compression": [{}, {"codec": "isal", "field": "prompt"}, {"codec": "zstd", "level": 9},
                    {"level": 1, "field": "completion"}],
    "dsir": [AIM, {**AIM, "features": "released", "field": "prompt", "target_field": "text"},
             {**AIM, "per": "ngram", "order": 3, "buckets": 999, "separate_targets": False}],
    "embedding": [{**ENCODER, "max_length": 16}, *({**ENCODER, **r} for r in REDUCED),
                  {**ENCODER, "field": "prompt", "target_field": "completion", "prompt": "ask: "}],
    "ifd": [{**JUDGE, "above_one": "keep"}, JUDGE, {**JUDGE, "ratio": "loss", "template": "roles"}],
    "learned_grade": [{"grade": "meta.score"}, {"grade": "meta.score", "shape": False},
                      {"grade": "meta.score", "prefer": "lower", "folds": 3, "l2": 2.0}],
    "length": [{}, {"unit": "bytes", "field": "completion", "prefer": "shortest"},
               {"unit": "characters"}, {"unit": "words", "field": "prompt"}],
    "less": [
        LESS,
        {**LESS, "dtype": "float64"},
        {**LESS, **PROJECTED},
        {**LESS, **PROJECTED, "unit": "before", "reduce": "mean"},
        {**LESS, "gradient": "sgd", "loss": "all", "targets": ["q_proj", "down_proj"]},
        {**LESS, "epsilon_inside": False, "bias_correction": True, "template": "chatml"},
    ],
    "lqs": [{**INNER, "rule": r, **p} for r in ("interval", "paper") for p in ({}, {"proxy": 20})],
    "pds": [
        INNER,
        {**INNER, "proxy": "all"},
        {**INNER, "proxy": 20},
        {**INNER, "proxy": 20, "scorer_model": "bert", "scorer_epochs": 2},
        {**INNER, "hvp": "finite_difference", "every": 2},
    ],
    "ngram_perplexity": [AIM, {**AIM, "unit": "characters", "order": 3, "prefer": "highest"}],
    "perplexity": [
        JUDGE,
        {**JUDGE, "prefer": "highest", "loss": "all", "template": "plain"},
        {**JUDGE, "loss": "text", "window": 64, "stride": 32},
        {**JUDGE, "max_length": 100, "dtype": "bfloat16"},
    ],
    "random": [{}],
    "rds": [*({**JUDGE, **AIM, **r} for r in REDUCED), {**JUDGE, **AIM, "loss": "completion"}],
    "static_embedding": [*({**STATIC, **r} for r in REDUCED), {**STATIC, "field": "completion"}],
    "zip_fit": [AIM, {**AIM, "codec": "lz4", "max_targets": 2}, {**AIM, "codec": "zstd"}],
}
PARTS = [{"method": "length"}, {"method": "bm25", **AIM}, {"method": "compression"}]
MODELS = [{"method": "perplexity", **JUDGE}, {"method": "rds", **JUDGE, **AIM}]
COMBINED: list[Config] = [
    {"combine": "rank_mean", "of": PARTS},
    {"combine": "rank_mean", "of": PARTS, "weights": [1, 2, 0.5]},
    {"combine": "product", "of": PARTS},
    {"combine": "product", "of": [{"combine": "rank_mean", "of": PARTS[:2]}, {"method": "random"}]},
    {"combine": "rank_mean", "of": MODELS},
]
STAGES = {"k1": 60, "k2": 20, "k3": 10}
SELECTORS: dict[str, list[Config]] = {
    "feature_based": [{}, {"weight": "log", "min_df": 1, "per": "token", "noise": 0.1},
                      {"weight": "sqrt", "per": "sample", "own_pairs": 1, "balance": 0}],
    "gumbel_top_k": [{}, {"temperature": 2}],
    "middle": [{}, {"center": 0.8}],
    "round_robin": [{}],
    "shingle_novelty": [{}, {"sample": 2, "noise": 0, "balance": 0.5}],
    "threshold": [{"value": 33.0}],
    "top_k": [{}],
    "zip": [STAGES, {}, {**STAGES, "mode": "released"}],
}
BUDGETS: list[Config] = [{"samples": 40}, {"tokens": 1500}, {"ratio": 0.15}]
NEAR = {"near_duplicates": {"similarity": 0.6, "ngram": 2}}
OPTIONS: list[Config] = [
    {},
    {"quotas": {"at_most": 0.4}},
    {"quotas": {"at_most": {"code": 0.2}, "at_least": {"web": 0.5, "books": 4}}},
    {"quotas": {"proportional": True}},
    NEAR,
    {"quotas": {"at_most": 0.4}, "near_duplicates": {}},
]
ORDERERS: dict[str, list[Config]] = {
    "fold": [{}, {"layers": 5, "phase": 2}],
    "keep": [{}, {"by": "rank"}],
    "saw": [{}, {"sections": 4, "ratio": 0.1, "layers": 3}],
    "segment": [{}, {"low": 0.2, "high": 0.3, "lowest_first": False}],
    "shuffle": [{}, {"reference": "delt", "seed": 10}, {"reference": "data-efficacy", "seed": 3}],
    "sort": [{}, {"descending": True}],
    "stair": [{}, {"sections": 3, "ratio": 0.2, "layers": 2}],
    "zigzag": [{}, {"layers": 4}],
}
AROUND: list[Config] = [
    {}, {"epochs": 3}, {"jitter": 12}, {"interleave": True},
    {"epochs": 2, "jitter": 7, "interleave": True, "batch_size": 8},
]

# -- data ------------------------------------------------------------------------------------------

CONTAINERS = ("json", "json.gz", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow")
TEXTS = ("txt", "txt.gz", "md.zst")
NAMES = {"messages": "talk.turns", "role": "who", "content": "says", "id": "-", "source": "site"}
OWN_IDS, CHUNK = {"columns": {"id": "-"}}, {"unit": "chunk"}
DATA: dict[str, Config] = {
    "bad rows": {"path": "bad.jsonl", "on_bad_row": "skip"},
    "chunks": {"path": "text.jsonl", **CHUNK, "chunk": {"max_tokens": 16}, "validation": 0.2},
    "chunks at tokens": {"path": "text.parquet", **CHUNK, "tokenizer": "judge/tokenizer.json",
                         "chunk": {"max_tokens": 40, "at": "token"}},
    "duplicates kept": {"path": "many.jsonl", "dedup": "none", "validation": 0.1},
    "excluded": {"path": "many.jsonl", "exclude": ["held.jsonl"], "exclude_ngram": 5},
    "folder": {"path": "folder", "validation": 4},
    "glob": {"path": "m*y.jsonl"},
    "formats": {"path": ["messages.jsonl", "alpaca.json", "sharegpt.jsonl.zst"], **OWN_IDS},
    "tables": {"path": ["text.parquet", "text.arrow"], **OWN_IDS, "dedup": "none"},
    "other names": {"path": "names.jsonl", "columns": NAMES, "template": "roles"},
    "other names, parquet": {"path": "names.parquet", "columns": NAMES, "template": "chatml"},
    "small batches": {"path": "many.jsonl", "batch_rows": 7, "validation": 0.05},
    **{f"text by {by} {end}": {"path": f"notes.{end}", "lines": by}
       for by, end in product(("line", "paragraph", "file"), TEXTS)},
}


def kinds() -> dict[str, list[Config]]:
    """The same two dozen questions in every format, the last a copy of the first."""
    out: dict[str, list[Config]] = {}
    for i in range(24):
        j = i % 23
        q, a, bad = f"What is {j} plus {j * j}?", f"It is {j + j * j}. " + "Sure. " * (j % 5), "No."
        user, says = {"role": "user", "content": q}, {"role": "assistant", "content": a}
        talk = [{"from": "human", "value": q}, {"from": "gpt", "value": a}]
        more = f"Twice {j} is {2 * j}. Thrice {j} is {3 * j}. " * (j % 7)
        rows: dict[str, Config] = {
            "messages": {"messages": [user, says, {**user, "content": "Why?"}, says]},
            "sharegpt": {"conversations": talk},
            "alpaca": {"instruction": q, "input": "é" * (j % 3), "output": a, "system": "Add.",
                       "history": [["Hi", "Hello."]] * (j % 2)},
            "prompt_completion": {"prompt": q, "completion": a},
            "text": {"text": f"{q} {a}\n\n{more}"},
            "preference": {"prompt": q, "chosen": a, "rejected": bad},
            "preference messages": {"chosen": [user, says],
                                    "rejected": [user, {**says, "content": bad}]},
            "labelled": {"prompt": q, "completion": a, "label": j % 3 > 0},
            "labelled messages": {"messages": [user, says], "kto_tag": j % 2 > 0},
        }
        head = {"id": f"r{i}", "source": ("web", "books")[j % 2], "meta": {"score": j / 7}}
        for kind, row in rows.items():
            out.setdefault(kind, []).append({**row, **head})
    return out


# fmt: on
def many() -> list[Config]:
    """300 chats of three sources; every tenth an exact copy, every seventh one word from a copy."""
    draw, said, rows = random.Random(0), [""], []
    words = ["".join(draw.choices("aeioulnrst", k=draw.randint(2, 8))) for _ in range(150)]
    for i in range(300):
        if i % 10 != 9:
            said = said[:-1] if i % 7 == 6 else draw.choices(words, k=draw.randint(4, 60))
            said = [*said, draw.choice(words)]
        turns = {"user": f"What of {' '.join(said[:4])}?", "assistant": " ".join(said[2:]) + "."}
        messages = [{"role": role, "content": text} for role, text in turns.items()]
        head = {"id": f"row-{i}", "source": ("web", "books", "code", "web")[i % 4]}
        rows.append({**head, "messages": messages, "meta": {"score": (i * 37 % 101) / 100}})
    return rows


def write(name: str, rows: list[Any]) -> None:
    """Rows as a file of the kind that its name says; strings as lines of text."""
    path, kind = Path(name), name.rpartition(".")[2]
    path.parent.mkdir(exist_ok=True)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=10)
        return
    if kind == "arrow":
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=10)
        return
    lines = [r.encode() if isinstance(r, str) else orjson.dumps(r) for r in rows]
    data = b"\n".join([*lines, b""])
    if ".json." in name or kind == "json":
        data = b"[\n  " + b",\n  ".join(lines) + b"\n]\n"
    if kind == "gz":
        data = gzip.compress(data, mtime=0)
    path.write_bytes(zstandard.compress(data) if kind == "zst" else data)


def write_data() -> None:
    chats = many()
    texts = [[m["content"] for m in row["messages"]] for row in chats]
    write("pool.jsonl", sample_rows())
    write("aim.jsonl", target_rows())
    write("many.jsonl", chats)
    goals = [{"text": " ".join(texts[i]), "task": "abc"[i % 3]} for i in range(5, 300, 49)]
    write("goal.jsonl", goals)
    write("held.jsonl", [{"text": texts[i][1], "id": f"h{i}"} for i in range(0, 300, 30)])
    bad = ["not json", {"id": "x", "text": 5}, {"messages": []}, "[1]"]
    write("bad.jsonl", [*chats[:9], *bad, *chats[9:20]])
    for kind, container in product(kinds(), CONTAINERS):
        write(f"{kind}.{container}", kinds()[kind])
    for part, name in enumerate(("b.jsonl.gz", "a.jsonl", "c.ndjson")):
        rows = [{k: v for k, v in row.items() if k != "source"} for row in chats[part::9]]
        write(f"folder/{name}", rows)
    turns = [
        [{"who": w, "says": t} for w, t in zip(("user", "bot"), x, strict=True)] for x in texts
    ]
    names = [{"talk": {"turns": t}, "site": f"s{i % 3}"} for i, t in enumerate(turns[:40])]
    for end in ("jsonl", "parquet"):
        write(f"names.{end}", names)
    for end in TEXTS:
        write(f"notes.{end}", [t + "\n" * (i % 3) for i in range(20) for t in texts[i]])


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_models() -> None:
    """judge: a Llama; bert and encoder: a BERT that reads 64 tokens; static: vectors of tokens."""
    import numpy as np
    import torch
    import transformers as hf
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    text = "the answer to the question is not the question itself, and so on and on"
    bpe.train_from_iterator([text] * 9, trainer)
    end = {"eos_token": special[0], "bos_token": special[0]}
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=bpe, **end)
    fast.chat_template = CHATML
    fast.save_pretrained("judge")
    sizes = {
        "vocab_size": len(fast), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(0)
    hf.LlamaForCausalLM(
        hf.LlamaConfig(
            **sizes, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True
        )
    ).save_pretrained("judge")
    judge = Tokenizer.from_file("judge/tokenizer.json")
    vectors = np.random.default_rng(0).normal(size=(judge.get_vocab_size(), 8)).astype(np.float32)
    StaticModel(vectors, judge).save_pretrained("static")
    fast.pad_token = fast.eos_token
    pairs = [(name, fast.convert_tokens_to_ids(name)) for name in special[1:]]
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=pairs
    )
    fast.save_pretrained("bert")
    torch.manual_seed(0)
    hf.BertModel(hf.BertConfig(**sizes, max_position_embeddings=64)).save_pretrained("bert")
    encoder = SentenceTransformer("bert", device="cpu")  # adds mean pooling
    encoder.max_seq_length = 64
    encoder.save("encoder", create_model_card=False)


# -- cases -----------------------------------------------------------------------------------------

COMMANDS = """\
score many.jsonl --method bm25 --target goal.jsonl --set k1=1.2 -o out/a.parquet
score many.jsonl --method random --seed 17 --data template=roles -o out/b.parquet
select many.jsonl --scores out/a.parquet --method round_robin --budget ratio=0.2 \
 --set quotas.at_most.web=0.3 -o out/chosen
select many.jsonl --scores out/a.parquet --scores out/a.parquet --combine product \
 --method gumbel_top_k --seed 17 --budget tokens=900 -o out/two
select many.jsonl --method zip --set k1=60 --set k2=20 --set k3=9 --budget samples=30 -o out/zip
order out/chosen --scores out/a.parquet --method fold --set layers=4 -o out/order.parquet
order out/two --method shuffle --seed 17 --set epochs=3 --set jitter=8 --set batch_size=4 \
 -o out/mixed.parquet
order out/chosen --method keep --set interleave=true -o out/spread.parquet
export many.jsonl --order out/order.parquet --for trl -o out/x --set shards=3
export many.jsonl --order out/mixed.parquet --for hf -o out/y --set format=parquet \
 --set order_index=true --set name=mine
export many.jsonl --order out/spread.parquet -o out/z --set format=jsonl.zst""".splitlines()


def verbs() -> None:
    """The Python verbs, one after another."""
    ctx = didact.context(seed=SEED, workers=1, cache_dir=CACHE)
    pool = didact.read("many.jsonl", seed=SEED, cache_dir=CACHE, validation=10)
    aim = didact.read("goal.jsonl", cache_dir=CACHE)
    scores = didact.score(pool, "bm25", target=aim, ctx=ctx, variant="okapi")
    for name in ("round_robin", "gumbel_top_k", "zip"):
        chosen = didact.select(pool, scores, name, budget=didact.Budget(samples=40), ctx=ctx)
        order = didact.order(pool, chosen, scores, "zigzag", epochs=2, jitter=9, ctx=ctx)
        didact.export(pool, order, OUT / name, trainer="trl", shards=2, order_index=True)


Cases = Iterator[tuple[str, Case]]
FULL: Config = {"order": {"method": "fold", "layers": 3}, "export": {"for": "trl"}}
TOP = {"method": "top_k", "budget": {"ratio": 0.3}}
MANY = {"data": {"path": "many.jsonl"}}


def score_cases() -> Cases:
    data = {"path": "pool.jsonl", "tokenizer": "judge/tokenizer.json"}
    scores = [{"method": name, **s} for name, found in SCORERS.items() for s in found]
    for (i, score), seed in product(enumerate(scores + COMBINED), (0, SEED)):
        name = score.get("method", "combined")
        if not seed or name in {"less", "pds", "lqs", "random", "combined"}:
            run = {"data": data, "score": score, "select": TOP, "seed": seed, **FULL}
            yield f"score {name} {i} seed {seed}", run
    names = ("perplexity", "ifd", "less", "rds", "bm25", "embedding", "compression")
    for kind, name in product(("preference", "labelled", "messages", "text"), names):
        if (kind, name) != ("text", "ifd"):
            score = {"method": name, **SCORERS[name][0]}
            run = {"data": {"path": f"{kind}.parquet"}, "score": score, "select": TOP, **FULL}
            yield f"score {name} of {kind}", run


def select_cases() -> Cases:
    bm25 = {"score": {"method": "bm25", **GOAL}, **FULL}
    held = {"path": "many.jsonl", "validation": 0.05}
    parts = [{"method": name, **s} for name, found in SELECTORS.items() for s in found]
    for i, part in enumerate(parts):
        name, exact = part["method"], part.get("mode") != "released"
        for budget in BUDGETS if exact else [BUDGETS[0], BUDGETS[2]]:
            run = {**MANY, **bm25, "select": {**part, "budget": budget}}
            yield f"select {name} {i} by {next(iter(budget))}", run
        for number, more in enumerate(OPTIONS if exact else [{}]):
            chosen = {**part, **more, "budget": {"samples": 60}}
            run = {**bm25, "data": held, "select": chosen, "seed": SEED}
            yield f"select {name} {i} options {number}", run
    value = {**SELECTORS["threshold"][0], **NEAR}
    yield "select, no budget", {**MANY, **bm25, "select": {"method": "threshold", **value}}
    for name in ("zip", "feature_based", "shingle_novelty"):
        chosen = {"method": name, "budget": {"ratio": 0.2}, **NEAR}
        run = {**MANY, "order": {"method": "shuffle"}, "seed": SEED, "select": chosen}
        yield f"select {name} without scores", run


def order_cases() -> Cases:
    graded = {**MANY, "score": GRADED, "select": {"method": "top_k", "budget": {"samples": 100}}}
    orders = [{"method": name, **s} for name, found in ORDERERS.items() for s in found]
    for (i, order), (j, more), seed in product(enumerate(orders), enumerate(AROUND), (0, SEED)):
        run = {**graded, "order": {**order, **more}, "seed": seed, "export": {"for": "hf"}}
        yield f"order {order['method']} {i} around {j} seed {seed}", run
    own = {"method": "sort", "score": {"combine": "rank_mean", "of": PARTS}}
    yield "order by a score of its own", {**graded, "order": own}


def data_cases() -> Cases:
    for kind, container in product(kinds(), CONTAINERS):
        data = {"path": f"{kind}.{container}", "validation": 3}
        run = {"data": data, "score": {"method": "length"}, "order": {"method": "sort"}}
        export = {"for": "trl", "format": "jsonl" if container == "arrow" else "auto"}
        yield f"read {kind} {container}", {**run, "export": export}
    forms = ("auto", "jsonl", "jsonl.zst", "parquet")
    for kind, trainer, form in product(kinds(), ("none", "hf", "trl"), forms):
        export = {"for": trainer, "format": form, "shards": 3, "order_index": True}
        order = {"method": "shuffle", "epochs": 2, "batch_size": 8}
        run = {"data": {"path": f"{kind}.jsonl"}, "order": order, "export": export, "seed": SEED}
        yield f"export {kind} {trainer} {form}", run
    for (name, data), form in product(DATA.items(), forms):
        run = {"data": data, "score": {"method": "compression"}, "order": {"method": "fold"}}
        export = {"for": ("hf", "trl")[form == "auto"], "format": form, "name": "mine"}
        yield f"data {name} {form}", {**run, "seed": SEED * (form != "auto"), "export": export}


def other_cases() -> Cases:
    yield "commands", COMMANDS
    yield "verbs", verbs
    zipped = {"method": "zip", **STAGES, "budget": {"samples": 60}, **NEAR}
    small = {"data": DATA["small batches"], "score": PARTS[2], "seed": SEED, **FULL}
    small["select"] = zipped
    yield "two runs over one cache", [small, {**small, "seed": 0, "score": GRADED}]
    yield "two workers", {**small, "workers": 2}
    yield "two workers, a model", {**small, "score": MODELS[1], "workers": 2}


def real_cases() -> Cases:
    half = {"score": {"method": "length"}, "select": {"method": "top_k", "budget": {"ratio": 0.5}}}
    for path in sorted(Path("real/formats").glob("*")):
        if not path.name.startswith("dataset_info"):
            data = {"path": str(path), "on_bad_row": "skip"}
            yield f"real {path.name} half", {"data": {**data, "validation": 0.05}, **half, **FULL}
            run = {"data": data, "order": {"method": "shuffle"}, "export": {"for": "hf"}}
            yield f"real {path.name} all", {**run, "seed": SEED}
    held = ["real/target_gsm8k_test.jsonl.zst"]
    pool = {"data": {"path": "real/instruct_small.jsonl.zst", "exclude": held}}
    score = {"score": {"method": "bm25", "target": "real/target_bbh_val.jsonl.zst"}}
    for name in ("round_robin", "zip", "feature_based", "shingle_novelty"):
        part = {"method": name, "budget": {"tokens": 40_000}, "quotas": {"at_most": 0.3}, **NEAR}
        part |= STAGES if name == "zip" else {}
        yield f"real instruct {name}", {**pool, **score, "select": part, **FULL}
    text = {"path": "real/multilingual_paragraphs.jsonl.zst", "unit": "chunk"}
    yield "real chunks", {"data": {**text, "chunk": {"max_tokens": 64}}, **half, **FULL}


# -- running ---------------------------------------------------------------------------------------


def digests(case: Case) -> dict[str, str]:
    """Run a case in a fresh cache and folder; the digest of every data file it wrote."""
    for folder in (OUT, CACHE):
        shutil.rmtree(folder, ignore_errors=True)
    if callable(case):
        case()
        case = []
    for number, step in enumerate(case if isinstance(case, list) else [case]):
        if isinstance(step, str):
            words = [*step.split(), "--cache-dir", str(CACHE)]
            command = [sys.executable, "-m", "didact.cli", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{step}: {done.stderr}")
        else:
            config = {k: v for k, v in step.items() if k != "workers"}
            out = OUT / str(number) if isinstance(case, list) else OUT
            didact.run(config, out, cache_dir=CACHE, workers=step.get("workers", 1))
    found = {}
    for path in sorted(OUT.rglob("*")):
        name = path.relative_to(OUT)
        inner = any(part in NOT_DATA or part.startswith(".") for part in name.parts)
        if path.is_file() and not inner:
            found[name.as_posix()] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return found


def run_all(only: str, real: Path) -> dict[str, dict[str, str]]:
    """Digests by case, from a temporary working folder."""
    chosen: dict[str, Case] = {}
    for group in (score_cases, select_cases, order_cases, data_cases, other_cases):
        chosen |= group()
    methods = set().union(*(_methods(case) for case in chosen.values()))
    missing = {m for g in ("scorers", "selectors", "orderers") for m in known(g)} - methods
    if missing:
        raise SystemExit(f"methods that no case covers: {', '.join(sorted(missing))}")
    results: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        if real.is_dir():
            Path("real").symlink_to(real)
            chosen |= real_cases()
        else:
            print(f"no real data at {real}: its cases are left out", file=sys.stderr)
        write_data()
        write_models()
        for name, case in chosen.items():
            if only not in name:
                continue
            began = time.perf_counter()
            try:
                results[name] = digests(case)
            except Exception as error:  # noqa: BLE001 - a case that fails is a difference
                results[name] = {"error": f"{type(error).__name__}: {error}"}
                print(f"{name}: {results[name]['error']}", file=sys.stderr)
            took = time.perf_counter() - began
            print(f"{took:6.2f} s  {len(results[name]):2} files  {name}", file=sys.stderr)
    return results


def _methods(value: Any) -> set[str]:
    """Every method that a case names."""
    if isinstance(value, dict):
        own = {value["method"]} if "method" in value else set()
        return own.union(*map(_methods, value.values()))
    return set().union(*map(_methods, value)) if isinstance(value, list) else set()


def versions() -> dict[str, str]:
    found = {name: metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "zlib": zlib.ZLIB_RUNTIME_VERSION, **found}


def differences(old: dict[str, dict[str, str]], new: dict[str, dict[str, str]]) -> Iterator[str]:
    for name, files in new.items():
        if name not in old:
            yield f"{name}: the case was not recorded"
            continue
        for file in sorted(old[name].keys() | files.keys()):
            a, b = old[name].get(file, "not there"), files.get(file, "not there")
            if a != b:
                yield f"{name}: {file}: {a} → {b}"


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("action", choices=("record", "check"))
    parser.add_argument("file", type=lambda name: Path(name).resolve())
    parser.add_argument("--only", default="")
    parser.add_argument("--data", type=lambda name: Path(name).resolve(), default=REAL)
    args = parser.parse_args()
    recorded = json.loads(args.file.read_bytes()) if args.action == "check" else {}
    results = run_all(args.only, args.data)
    count = f"{sum(map(len, results.values()))} files in {len(results)} cases"
    if args.action == "record":
        whole = {"versions": versions(), "cases": results}
        args.file.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
        failed = [name for name, files in results.items() if "error" in files]
        print(f"{count}: recorded" + f", {len(failed)} cases failed" * bool(failed))
        return int(bool(failed))
    for name, version in versions().items():
        if recorded["versions"].get(name) != version:
            print(f"recorded with {name} {recorded['versions'].get(name)}, here is {version}")
    left = {n for n in recorded["cases"].keys() - results.keys() if args.only in n}
    for name in sorted(left):
        print(f"{name}: recorded, not run here")
    found = list(differences(recorded["cases"], results))
    print("\n".join([*found, f"{count}: {f'{len(found)} differences' if found else 'equal'}"]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
