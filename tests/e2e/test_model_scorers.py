"""Every scorer that judges with a model, from a file to a training file in order."""

from __future__ import annotations

import json

import orjson
import pytest

import didact
from didact.testing import sample_rows, target_rows

for library in ("torch", "transformers", "peft", "sentence_transformers", "model2vec"):
    pytest.importorskip(library)

JUDGE = {"model": "{tiny_model}", "device": "cpu"}
INNER = {**JUDGE, "steps": 2, "every": 1, "inner_batch": 4, "learning_rate": 0.02}
SCORERS = {
    "perplexity": JUDGE,
    "bits_per_byte": JUDGE,
    "ifd": {**JUDGE, "above_one": "keep"},
    "embedding": {"model": "{tiny_encoder}", "device": "cpu"},
    "static_embedding": {"model": "{tiny_static}"},
    "rds": JUDGE,
    "less": {**JUDGE, "share": 0.5, "epochs": 1, "rank": 2, "batch_size": 8},
    "pds": INNER,
    "lqs": {**INNER, "proxy": 20},
}


@pytest.mark.parametrize("name", SCORERS)
def test_score_select_order_export(name, request, tmp_path):
    (tmp_path / "pool.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in sample_rows()))
    (tmp_path / "aim.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in target_rows()))
    way = dict(SCORERS[name])
    way["model"] = str(request.getfixturevalue(way["model"].strip("{}")))
    if name not in {"perplexity", "bits_per_byte", "ifd"}:
        way["target"] = str(tmp_path / "aim.jsonl")
    config = {
        "data": {
            "path": str(tmp_path / "pool.jsonl"),
            "tokenizer": str(request.getfixturevalue("tiny_model") / "tokenizer.json"),
        },
        "score": {"method": name, **way},
        "select": {"method": "top_k", "budget": {"samples": 12}},
        "order": {"method": "fold", "layers": 3},
        "export": {"for": "trl"},
    }
    done = didact.run(config, out=tmp_path / "run", cache_dir=tmp_path / "cache")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    stage = next(s for s in manifest["stages"] if s["name"] == "score")
    charged, value = stage["measured"]["charged"], stage["measured"]["value"]
    cost, estimate = charged, stage["estimated"]
    assert (charged["flops"], charged["tokens"]) == (value["flops"], value["tokens"])
    assert manifest["cost"]["value"]["flops"] == cost["flops"]
    assert manifest["cost"]["charged"]["tokens"] == cost["tokens"]
    if name != "static_embedding":
        assert cost["flops"] > 0
        assert estimate["flops"] == pytest.approx(cost["flops"], rel=0.15)  # 38 samples
        assert stage["facts"]["versions"]["torch"]
    exported = sorted((tmp_path / "run").rglob("*.jsonl"))
    rows = [orjson.loads(line) for line in exported[0].read_bytes().splitlines()]
    assert len(rows) == 12
    assert {row["id"] for row in rows} <= {row["id"] for row in sample_rows()}
    assert (tmp_path / "run" / "report.html").exists()
    assert done is not None


def test_another_model_in_the_same_folder_is_scored_again(tmp_path, save_llama):
    rows = b"".join(orjson.dumps(r) + b"\n" for r in sample_rows())
    (tmp_path / "pool.jsonl").write_bytes(rows)
    config = {
        "data": {"path": str(tmp_path / "pool.jsonl")},
        "score": {"method": "perplexity", "model": str(tmp_path / "judge"), "device": "cpu"},
        "select": {"method": "top_k", "budget": {"samples": 12}},
        "order": {"method": "keep"},
    }

    def scores():
        didact.run(config, out=tmp_path / "run", cache_dir=tmp_path / "cache")
        return (tmp_path / "run" / "scores.parquet").read_bytes()

    save_llama(tmp_path / "judge", seed=1)
    first = scores()
    assert scores() == first
    save_llama(tmp_path / "judge", seed=2)
    assert scores() != first
