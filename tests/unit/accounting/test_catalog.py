from dataclasses import replace

import pytest

from didact.accounting.catalog import described
from didact.accounting.known_models import KNOWN_MODELS
from didact.accounting.lora import lora_spec
from didact.accounting.spec import headless
from didact.core.errors import ConfigError

ROWS = {row.spec.name: row for row in KNOWN_MODELS}

# Parameter counts as the repositories' safetensors state them; a tied head counts once.
PUBLISHED = {
    "Llama-2-7b-hf": 6_738_415_616, "Llama-2-13b-hf": 13_015_864_320,
    "Llama-2-70b-hf": 68_976_648_192, "Meta-Llama-3-8B": 8_030_261_248,
    "Meta-Llama-3-70B": 70_553_706_496, "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B": 3_212_749_824, "Llama-3.1-405B": 405_853_388_800,
    "Mistral-7B-v0.1": 7_241_732_096, "Mistral-7B-v0.3": 7_248_023_552,
    "Mistral-Nemo-Base-2407": 12_247_782_400, "SmolLM2-135M": 134_515_008,
    "SmolLM2-360M": 361_821_120, "SmolLM2-1.7B": 1_711_376_384, "TinyLlama_v1.1": 1_100_048_384,
    "Qwen2.5-0.5B": 494_032_768, "Qwen2.5-1.5B": 1_543_714_304, "Qwen2.5-3B": 3_085_938_688,
    "Qwen2.5-7B": 7_615_616_512, "Qwen2.5-14B": 14_770_033_664, "Qwen2.5-32B": 32_763_876_352,
    "Qwen2.5-72B": 72_706_203_648, "Qwen3-0.6B": 596_049_920, "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096, "Qwen3-8B": 8_190_735_360, "Qwen3-14B": 14_768_307_200,
    "Qwen3-32B": 32_762_123_264, "gemma-2-2b": 2_614_341_888, "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320, "gemma-3-270m": 268_098_176, "gemma-3-1b-pt": 999_885_952,
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200, "pythia-70m": 70_426_624, "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016, "pythia-1b": 1_011_781_632, "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960, "pythia-6.9b": 6_857_302_016, "pythia-12b": 11_846_072_320,
}  # fmt: skip
# Of BERTs with their pooler, a matrix and its bias, which embeddings do not need.
WITH_POOLER = {
    "all-MiniLM-L6-v2": 22_713_216, "bge-small-en-v1.5": 33_360_000,
    "bge-base-en-v1.5": 109_482_240, "bge-large-en-v1.5": 335_141_888,
    "all-mpnet-base-v2": 109_486_464,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name):
    assert ROWS[name].spec.n_total == PUBLISHED[name]


@pytest.mark.parametrize("name", WITH_POOLER)
def test_published_totals_of_encoders(name):
    spec = ROWS[name].spec
    assert spec.n_total + spec.width * (spec.width + 1) == WITH_POOLER[name]


def _config(name, transformers):
    """A representative of each family, as its published configuration."""
    spec = ROWS[name].spec
    shapes = {module: (d_out, d_in) for module, d_out, d_in, *_ in spec.modules}
    if name == "gpt2":
        return transformers.GPT2Config(), transformers.GPT2LMHeadModel
    if name == "pythia-70m":
        config = transformers.GPTNeoXConfig(
            hidden_size=512, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=8,
            vocab_size=50304, tie_word_embeddings=False,
        )  # fmt: skip
        return config, transformers.GPTNeoXForCausalLM
    if name == "all-MiniLM-L6-v2":
        config = transformers.BertConfig(
            hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=12
        )
        return config, transformers.BertModel
    if name == "all-mpnet-base-v2":
        # Its config.json has 514 positions; the class's own default is 512.
        config = transformers.MPNetConfig(vocab_size=30527, max_position_embeddings=514)
        return config, transformers.MPNetModel
    if name == "gtr-t5-base":
        config = transformers.T5Config(
            d_model=768, d_ff=3072, num_layers=12, num_heads=12, d_kv=64, vocab_size=32128,
            tie_word_embeddings=False,
        )  # fmt: skip
        return config, transformers.T5EncoderModel
    family = {"Llama": "Llama", "Mistral": "Mistral", "Qwen2.5": "Qwen2", "Qwen3": "Qwen3",
              "gemma-2": "Gemma2", "gemma-3": "Gemma3"}  # fmt: skip
    class_name = next(v for k, v in family.items() if name.startswith(k))
    heads = {"Llama-2-7b-hf": 32, "Mistral-7B-v0.1": 32, "Qwen2.5-0.5B": 14, "Qwen3-0.6B": 16,
             "gemma-2-2b": 8, "gemma-3-270m": 4}[name]  # fmt: skip
    head_dim = shapes["self_attn.q_proj"][0] // heads
    text = "Text" if class_name == "Gemma3" else ""
    config = getattr(transformers, f"{class_name}{text}Config")(
        hidden_size=spec.width, intermediate_size=shapes["mlp.gate_proj"][0],
        num_hidden_layers=spec.n_layers, num_attention_heads=heads, head_dim=head_dim,
        num_key_value_heads=shapes["self_attn.k_proj"][0] // head_dim, vocab_size=spec.vocab,
        tie_word_embeddings=spec.tied,
    )  # fmt: skip
    return config, getattr(transformers, f"{class_name}ForCausalLM")


@pytest.mark.parametrize(
    "name",
    ["Llama-2-7b-hf", "Mistral-7B-v0.1", "Qwen2.5-0.5B", "Qwen3-0.6B", "gemma-2-2b", "gemma-3-270m",
     "gpt2", "pythia-70m", "all-MiniLM-L6-v2", "all-mpnet-base-v2", "gtr-t5-base"],
)  # fmt: skip
def test_table_is_what_the_architecture_gives(name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from didact.models.architecture import loaded_spec

    config, of = _config(name, transformers)
    with torch.device("meta"):
        model = of(config)
    shapes = {key: tuple(each.shape) for key, each in model.named_parameters()}
    found = loaded_spec({**config.to_dict(), "architectures": [of.__name__]}, shapes, name)
    spec = ROWS[name].spec
    assert replace(found, context=spec.context, overhead=spec.overhead) == spec


def test_headless_takes_away_the_head_alone():
    own, tied = ROWS["Llama-2-7b-hf"].spec, ROWS["gpt2"].spec
    assert own.headed
    assert tied.headed
    for spec in (own, tied):
        without = headless(spec)
        assert not without.headed
        assert headless(without) == without
        assert spec.n_matmul - without.n_matmul == spec.vocab * spec.width
        assert without.modules == spec.modules
        assert not without.tied
    assert headless(own).n_total == own.n_total - own.vocab * own.width
    assert headless(tied).n_total == tied.n_total
    encoder = ROWS["bge-base-en-v1.5"].spec
    assert headless(encoder) is encoder


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [("llama-2-7b", "Llama-2-7b-hf"), ("meta-llama/Llama-2-7b-chat-hf", "Llama-2-7b-hf"),
     ("Llama 3 8B", "Meta-Llama-3-8B"), ("Meta-Llama-3-8B-Instruct", "Meta-Llama-3-8B"),
     ("llama3-8b", "Meta-Llama-3-8B"), ("Llama-3.1-8B-Instruct", "Llama-3.1-8B"),
     ("llama-3.3-70b", "Llama-3.3-70B-Instruct"), ("mistral-7b", "Mistral-7B-v0.1"),
     ("mistralai/Mistral-7B-Instruct-v0.3", "Mistral-7B-v0.3"),
     ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5-0.5B"), ("Qwen3-8B-Base", "Qwen3-8B"),
     ("gemma-2-2b-it", "gemma-2-2b"), ("gemma-3-1b", "gemma-3-1b-pt"),
     ("pythia-1.4b-deduped", "pythia-1.4b"), ("bge-base", "bge-base-en-v1.5"),
     ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"), ("e5-base", "e5-base-v2"),
     ("gtr_t5_base", "gtr-t5-base"), ("bert-base", "bert-base-uncased")],
)  # fmt: skip
def test_names_are_matched_leniently(text, name):
    found = described(text)
    assert found.spec.name == name
    assert (found.low, found.high) == (1.0, 1.0)
    assert found.source.startswith(f"config.json of {ROWS[name].repository}")


def test_every_repository_is_found_by_its_name():
    for row in KNOWN_MODELS:
        assert described(row.repository).spec == row.spec
        assert described(row.spec.name).spec == row.spec


def test_language_model_as_an_encoder_has_no_head():
    assert described("Qwen3-0.6B", encoder=True).spec == headless(ROWS["Qwen3-0.6B"].spec)
    assert described("bge-base", encoder=True).spec == ROWS["bge-base-en-v1.5"].spec


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size", "low", "high"),
    [("7B", 7e9, 6.5e9, 7.5e9), ("7b", 7e9, 6.5e9, 7.5e9), (7e9, 7e9, 6.5e9, 7.5e9),
     ("1.5b", 1.5e9, 1.45e9, 1.55e9), ("350M", 350e6, 345e6, 355e6), ("70B", 70e9, 65e9, 75e9),
     ("1B", 1e9, 0.75e9, 1.25e9), ("6.74e9", 6.74e9, 6.735e9, 6.745e9), ("3M", 3e6, 2.5e6, 3.5e6),
     ("6,738,415,616", 6738415616, 6738415615.5, 6738415616.5), ("1T", 1e12, 0.75e12, 1.25e12)],
)  # fmt: skip
def test_a_size_and_what_it_leaves_open(text, size, low, high):
    found = described(text)
    assert found.spec.n_total == size
    assert found.low * size == pytest.approx(low)
    assert found.high * size == pytest.approx(high)


def _weights(spec):
    """All parameters that matrices and embeddings have."""
    head = spec.vocab * spec.width * spec.headed
    return spec.n_matmul + spec.n_embedding - (head if spec.tied else 0)


@pytest.mark.parametrize("text", ["500k", "3M", "35M", "135M", "1B", "3B", "7B", "70B", "1T"])
@pytest.mark.parametrize("encoder", [False, True])
def test_shape_of_a_size_sums_to_it(text, encoder):
    spec = described(text, encoder=encoder).spec
    assert _weights(spec) == pytest.approx(spec.n_total, rel=0.02)
    assert spec.headed != encoder
    assert lora_spec(spec, rank=8).n_params < spec.n_total / 2


@pytest.mark.parametrize("name", ["Llama-2-7b-hf", "Qwen2.5-7B", "Meta-Llama-3-8B", "SmolLM2-360M",
                                  "Llama-2-70b-hf", "bge-base-en-v1.5"])  # fmt: skip
def test_shape_of_a_size_is_near_that_of_real_models(name):
    real = ROWS[name].spec
    spec = described(float(real.n_total), encoder=not real.headed).spec
    assert spec.n_matmul == pytest.approx(real.n_matmul, rel=0.07)
    assert spec.n_layers * spec.attention_width == pytest.approx(
        real.n_layers * real.attention_width, rel=0.35
    )


# -- what is neither -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [("7GB", "bytes"), ("7 GiB", "bytes"), ("7B tokens", "tokens"), ("2e19 FLOPs", "FLOPs"),
     ("50h", "a time"), ("300usd", "money"), ("-7B", "above 0"), ("0", "above 0"),
     ("7", r"did you mean 7B\?"), ("1e20", "expected 100k to 10T"),
     ("lama-2-7b", "did you mean 'llama-2-7b'"), ("gpt5", "or give its number of parameters: 7B"),
     ("1,5B", "as in 1.5B"), ("", "or give its number of parameters"), (float("nan"), "not in the table")],
)  # fmt: skip
def test_mistakes_are_named(text, named):
    with pytest.raises(ConfigError, match=named):
        described(text)
