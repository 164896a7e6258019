"""Coverage-guided fuzzing of what opens files of anybody: rows, settings, models, tables.

    python tests/fuzz/fuzz.py TARGET [--seconds 600] [--found FOLDER] [--corpus FOLDER]

A target is one of `TARGETS`. It needs atheris (pip install atheris; CPython 3.11 to 3.13 on Linux
and macOS). It starts from inputs that are right and, half of the time, changes them as JSON instead
of as bytes, so that many inputs are nearly right. Whatever is raised that is no error of didact's,
and whatever takes longer than two seconds, is kept once for each place in FOLDER; the process does
not stop. What it found is a test under tests/unit, never a file here.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["didact.data", "didact.config", "didact.core", "yaml"]):
    import yaml

    from didact import config as configs
    from didact.core.errors import DidactError
    from didact.core.render import derive
    from didact.data import tables
    from didact.data.reading.discovery import expand
    from didact.data.reading.incoming import turns_array
    from didact.data.reading.reader import Reader
    from didact.data.reading.settings import DataSettings
    from didact.data.reading.tables import are_tables, shared_schema
    from didact.data.rows.columns import RowError
    from didact.data.settings_text import parse_toml, parse_yaml
with atheris.instrument_imports(include=["didact.models"]):
    from didact.models import architecture, folder, sentences

import pyarrow as pa
import pyarrow.parquet as pq

SLOW = 2.0  # seconds of processor time: others may be busy, too
PLACE = Path(tempfile.mkdtemp())

CHAT = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a", "reasoning_content": "r", "weight": 1},
    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "content": [{"type": "text", "text": "x"}, {"type": "image"}]},
]
ROWS = [
    {"text": "some words", "id": "1", "source": "web", "meta": {"n": 1}},
    {"messages": CHAT, "tools": [{"type": "function"}]},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    {"instruction": "i", "input": "", "output": "o", "history": [["a", "b"]], "system": "s"},
    {"prompt": "p", "chosen": "c", "rejected": "r"},
    {"prompt": CHAT[:2], "completion": CHAT[2:3], "label": True},
    {"messages": json.dumps(CHAT[:3])},
    {"version": 1, "data": [{"text": "a"}, {"text": "b"}]},
]
CONFIG = {
    "seed": 1,
    "data": {"path": "x.jsonl", "columns": {"text": "body"}, "on_bad_row": "skip"},
    "score": {"combine": "product", "of": [{"method": "length"}, {"method": "compression"}]},
    "select": {"method": "top_k", "budget": {"ratio": 0.2}, "near_duplicates": {}},
    "order": {"method": "fold", "layers": 3, "epochs": 2},
    "export": {"for": "trl", "shards": 2},
    "seeds": {"draw": 3},
}
MODEL = {
    "config.json": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": True,
    },
    "header": {
        **{f"model.layers.0.self_attn.{p}_proj.weight": {
            "dtype": "F32", "shape": [4, 4], "data_offsets": [64 * i, 64 * i + 64]}
           for i, p in enumerate("qkvo")},
        "model.embed_tokens.weight": {"dtype": "F32", "shape": [9, 4], "data_offsets": [256, 400]},
    },
    "modules.json": [{"type": "sentence_transformers.models.Transformer", "path": ""}],
    "tokenizer_config.json": {"model_max_length": 9},
}  # fmt: skip
ODD = [
    None, True, 0, -1, 1.5, 2**63, -(2**63), 10**30, 1e308, float("nan"), float("inf"), "", " ",
    "\0", "\ud800", "é", "[", "{}", "[]", "true", "null", "a" * 300, [], {}, [[]], [None], [{}],
    [1], ["a"], {"": 1}, {"a": {"b": {"c": []}}}, {"role": "user"}, {"type": "text"}, "user", "gpt",
]  # fmt: skip
KEYS = sorted({
    "id", "task", "source", "label", "content", "role", "value", "from", "weight", "text", "prompt",
    "thinking", "reasoning_content", "tool_calls", "function_call", "images", "functions", "train",
    "response", "question", "answer", "input_ids", "start", "end", "parent", "auto_map", "method",
    "text_config", "target", "of", "weights", "budget", "tokens", "samples", "flops", "quotas",
    *(key for row in ROWS for key in row),
})  # fmt: skip


# -- targets ---------------------------------------------------------------------------------------


def rows(data: bytes) -> None:
    """A file of rows; the first byte says of which name, the second with which settings."""
    if len(data) < 2:
        return
    names = ("x.jsonl", "x.json", "x.txt", "x.md", "x.jsonl.gz", "x", "x.parquet", "x.arrow")
    name = names[data[0] % len(names)]
    body = data[2:]
    path = PLACE / name
    path.write_bytes(gzip.compress(body, 1) if name.endswith(".gz") and data[1] & 1 else body)
    given = {
        "format": ("auto", "messages", "text", "preference")[data[1] >> 1 & 3],
        "columns": ({}, {"text": "meta.n"}, {"messages": "data"}, {"id": "-"})[data[1] >> 3 & 3],
        "lines": ("line", "paragraph", "file")[(data[1] >> 5) % 3],
        "max_row_bytes": 2**14, "batch_rows": 3,
    }  # fmt: skip
    settings = DataSettings(**given, on_bad_row="skip")
    found = expand([path])
    schema = shared_schema(found) if are_tables(found) else None

    def emit(batch):
        for bad in batch.bad:
            bad.reason.encode("utf-8", "backslashreplace")
        if batch.turns:
            derive(turns_array(batch.turns), "text", "plain", chat=batch.kind != "text")

    Reader(settings, emit, schema).read(found, lambda _: None)


def settings(data: bytes) -> None:
    """Text of a config, YAML or TOML, and an override of it."""
    text = data.decode("utf-8", "replace")
    head, _, override = text.partition("\x01")
    plain = parse_toml(head[1:]) if head.startswith("\x02") else parse_yaml(head)
    if isinstance(plain, dict):
        configs.parse(configs.apply(plain, [override] if override else []))


def models(data: bytes) -> None:
    """A model's folder, its files in one object."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(told, dict):
        return
    place = PLACE / "model"
    place.mkdir(exist_ok=True)
    for name in MODEL:
        (place / name).unlink(missing_ok=True)
        if name in told:
            (place / name).write_text(json.dumps(told[name]))
    raw = json.dumps(told.get("header", {})).encode()
    (place / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(400))
    for look in (folder.find, architecture.read_spec, sentences.read_sentence_folder):
        try:
            look(place)
        except DidactError:
            continue


def kept(data: bytes) -> None:
    """A table of scores, a selection or an order, with metadata of anybody."""
    if not data:
        return
    columns = {
        "row": pa.array([0, 1]), "id": pa.array(["a", "b"]), "score": pa.array([0.5, 1.0]),
        "rank": pa.array([0, 1]), "why": pa.array(["x", "x"]), "position": pa.array([0, 1]),
    }  # fmt: skip
    path = PLACE / "t.parquet"
    pq.write_table(pa.table(columns).replace_schema_metadata({b"didact": data[1:]}), path)
    (tables.read_scores, tables.read_selection, tables.read_order)[data[0] % 3](path)


TARGETS = {"rows": rows, "settings": settings, "models": models, "kept": kept}


def seeds(target: str) -> list[bytes]:
    """Inputs that are right, of every kind."""
    if target == "models":
        return [json.dumps(MODEL).encode()]
    if target == "settings":
        text = json.dumps(CONFIG)
        toml = '\x02seed = 1\n[data]\npath = "x.jsonl"\n[select]\nmethod = "top_k"\n'
        return [
            text.encode(), yaml.safe_dump(CONFIG).encode(), toml.encode(),
            (text + "\x01select.budget={tokens: 5}").encode(),
            b"base: &b {path: x.jsonl}\ndata: {<<: *b}\nseed: !!int 3\n",
        ]  # fmt: skip
    if target == "kept":
        meta = {
            "table": "scores", "pool_fingerprint": "0" * 32, "method": "length", "tasks": [],
            "higher_is_better": True, "settings": {}, "facts": {}, "spent": None, "reasons": ["x"],
            "notes": [], "epochs": 1, "batch_size": None,
        }  # fmt: skip
        kinds = ("scores", "selection", "order")
        return [
            bytes([i]) + json.dumps({**meta, "table": kind}).encode()
            for i, kind in enumerate(kinds)
        ]
    out = [bytes([i, 0]) + json.dumps(row).encode() * 1 for row in ROWS for i in (0, 1, 5)]
    out.append(b"\1\0" + json.dumps(ROWS).encode())
    out.append(b"\2\x20one\n\ntwo\nthree\n")
    for row in ROWS[:7]:
        try:
            table = pa.Table.from_pylist([row, row])
        except pa.ArrowInvalid:  # values of two types in one column
            continue
        for code, write in ((6, pq.write_table), (7, _write_arrow)):
            path = PLACE / "seed"
            write(table, path)
            out.append(bytes([code, 0]) + path.read_bytes())
    return out


def _write_arrow(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


# -- mutation --------------------------------------------------------------------------------------


def mutated(value: object, rng: random.Random, p: float) -> object:
    """A JSON value with some of its parts replaced, renamed, doubled or gone."""
    if rng.random() < p:
        return rng.choice(ODD)
    if isinstance(value, dict):
        out = {k: mutated(v, rng, p) for k, v in value.items() if rng.random() > p / 2}
        if out and rng.random() < p:
            key = rng.choice(list(out))
            out[rng.choice(KEYS)] = out[key] if rng.random() < 0.5 else out.pop(key)
        if rng.random() < p:
            out[rng.choice(KEYS)] = rng.choice(ODD)
        return out
    if isinstance(value, list):
        out = [mutated(v, rng, p) for v in value if rng.random() > p / 2]
        return out * 2 if rng.random() < p / 2 else out
    return value


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """By structure where the input is JSON behind its first bytes, else by bytes."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        for skip in (2, 1, 0):
            head, body = data[:skip], data[skip:]
            try:
                values = [json.loads(line) for line in body.splitlines() if line.strip()]
            except (ValueError, RecursionError):
                continue
            if not values:
                continue
            if rng.random() < 0.3:
                values.append(rng.choice(ROWS))
            found = [mutated(v, rng, rng.choice((0.02, 0.1, 0.3))) for v in values]
            out = head + b"\n".join(json.dumps(v).encode() for v in found)
            if len(out) <= max_size:
                return out
    return bytes(atheris.Mutate(data, max_size))


# -- running ---------------------------------------------------------------------------------------


def say(*words: object) -> None:
    """A line on stdout, at once: the process ends without a word."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run one target for some time; say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--corpus", type=Path)
    told = parser.parse_args()
    target, found = TARGETS[told.target], Counter[tuple[object, ...]]()
    runs = Counter[str]()
    began = time.monotonic()
    told.found.mkdir(parents=True, exist_ok=True)

    def keep(kind: tuple[object, ...], data: bytes, text: str) -> None:
        found[kind] += 1
        if found[kind] == 1:
            name = f"{told.target}-{len(found)}"
            (told.found / name).write_bytes(data)
            (told.found / f"{name}.txt").write_text(text, errors="backslashreplace")
            say("FOUND", *kind)

    def once(data: bytes) -> None:
        start, cpu = time.monotonic(), time.process_time()
        if start - began > told.seconds:
            inputs = f"{runs.total():,} inputs in {start - began:.0f} s:"
            say(f"{told.target}:", inputs, dict(runs), f"found: {len(found)}")
            os._exit(0)
        try:
            target(data)
            runs["right"] += 1
        except (DidactError, RowError) as error:
            runs[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            runs["found"] += 1
            frames = traceback.extract_tb(error.__traceback__)
            last = next((f for f in reversed(frames) if "didact" in f.filename), frames[-1])
            where = (type(error).__name__, Path(last.filename).name, last.lineno)
            keep(where, data, traceback.format_exc())
        if (took := time.process_time() - cpu) > SLOW:
            keep(("slow", int(took)), data, "")

    place = told.corpus or PLACE / "corpus"
    place.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds(told.target)):
        (place / f"seed-{i}").write_bytes(seed)
    words = [json.dumps(k) for k in KEYS] + ["true", "null", "NaN", "1e999", "&a", "*a", "!!int"]
    lines = (f'"{w}"' if '"' not in w else '"' + w.replace('"', '\\"') + '"' for w in words)
    (PLACE / "words").write_text("\n".join(lines))
    arguments = [sys.argv[0], str(place), f"-dict={PLACE / 'words'}", "-max_len=16384",
                 "-rss_limit_mb=4096", "-timeout=60", "-verbosity=0"]  # fmt: skip
    atheris.Setup(arguments, once, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
