from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from didact.core.errors import ConfigError, DataError  # noqa: E402
from didact.execution.devices import local_devices  # noqa: E402
from didact.models.language_model import context_of, open_model, open_tokenizer  # noqa: E402


def test_a_model_opens_in_evaluation_mode(tiny_model):
    with open_model(tiny_model, device="cpu", dtype="float64") as model:
        assert not model.module.training
        assert next(model.module.parameters()).dtype == torch.float64
        assert model.dtype == "float64"
        assert model.context == 256
        assert model.spec.n_layers == 2


def test_bfloat16_stays_near_float32(tiny_model):
    ids = torch.arange(5, 25)[None]
    found = {}
    for dtype in ("float32", "bfloat16"):
        with open_model(tiny_model, device="cpu", dtype=dtype) as model, torch.inference_mode():
            found[dtype] = model.module(input_ids=ids).logits.float()
    # 8 bits of mantissa, two layers, logits of order 1
    assert (found["float32"] - found["bfloat16"]).abs().max() < 0.3
    assert (found["float32"] - found["bfloat16"]).abs().max() > 0


def test_a_vocabulary_that_does_not_fit_is_refused(save_llama, tmp_path):
    folder = save_llama(tmp_path / "small", vocab_size=100)
    with (
        pytest.raises(ConfigError, match=r"highest id is \d+, the model embeds 100 tokens"),
        open_model(folder, device="cpu"),
    ):
        pass


def test_no_tokenizer_is_said(tiny_model, tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_model / name, folder / name)
    with pytest.raises(DataError, match=r"no tokenizer.json; save"):
        open_tokenizer(folder)


def test_what_is_no_language_model_is_said(tiny_encoder):
    with (
        pytest.raises(DataError, match=r"as a causal language model it lacks \d+ weights"),
        open_model(tiny_encoder, device="cpu"),
    ):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match="no CUDA device is visible"):
        local_devices("cuda")
    assert local_devices("auto") == local_devices("cpu") == ("cpu",)


def test_the_context_is_the_configuration_s_else_the_tokenizer_s(tiny_model, tmp_path):
    tokenizer = open_tokenizer(tiny_model)
    for config, expected in (
        ({"n_positions": 77}, 77),
        ({"text_config": {"max_position_embeddings": 88}}, 88),
        ({}, 2048),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert context_of(tmp_path, tokenizer) == expected


def test_padding_and_truncation_of_the_file_are_off(tiny_model, tmp_path):
    folder = tmp_path / "padded"
    shutil.copytree(tiny_model, folder)
    tokenizer = open_tokenizer(folder)
    tokenizer.backend_tokenizer.enable_padding(pad_id=1, pad_token="<|im_start|>")
    tokenizer.backend_tokenizer.enable_truncation(max_length=4)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    texts = ["a longer text than four tokens", "short"]
    found = open_tokenizer(folder).backend_tokenizer.encode_batch(texts)
    expected = open_tokenizer(tiny_model).backend_tokenizer.encode_batch(texts)
    assert [e.ids for e in found] == [e.ids for e in expected]
