import math
from dataclasses import replace

import pytest

from didact.accounting import flops as f
from didact.accounting.flops import Lengths
from didact.accounting.spec import LoraSpec, ModelSpec
from didact.core.errors import ConfigError
from didact.core.pool import LENGTH_BINS, PoolStats
from didact.models.architecture import read_lora, read_spec
from didact.scoring.adjoint.pds import PDS


def of_size(n: float) -> ModelSpec:
    return ModelSpec("sized", ((int(n), 1, 1),), 1, 1, 0, 0, 0, int(n), tied=False)


def same(value: float, printed: str) -> bool:
    digits = len(printed.split("e", maxsplit=1)[0].replace(".", "")) - 1
    return f"{value:.{digits}e}".replace("e+", "e") == printed


# A toy by hand: two matrices, one layer of attention of width 2, one sequence of 3 tokens.
TOY = ModelSpec("toy", ((4, 2, 1), (5, 4, 1)), 5, 2, 1, 2, 10, 38, tied=False)


def test_a_toy_by_hand():
    weights = 3 * (4 * 2 + 5 * 4)  # multiply-adds of 3 tokens
    scores = 3 * 3 * 2  # multiply-adds of all pairs of tokens; as many to use them
    assert f.forward_flops(TOY, 3, 9) == 2 * weights + 2 * (scores + scores)
    assert f.backward_flops(TOY, 3, 9) == 2 * (2 * weights + 4 * scores)
    assert f.training_flops(TOY, 3, 9) == 3 * (2 * weights + 4 * scores)
    # the gradient of either factor in both products of attention, of the input in the weights'
    assert f.input_gradient_flops(TOY, 3, 9) == 2 * weights + 2 * 4 * scores
    # nine products where a forward pass has one
    assert f.hvp_flops(TOY, 3, 9) == 9 * f.forward_flops(TOY, 3, 9)


def test_lora_by_hand():
    # (4, 2) adapted with rank 1 and nothing before it; (5, 4) frozen above it.
    lora = LoraSpec(1, ((4, 2, 1),), first=((4, 2, 1),), n_below=8)
    multiply_adds = (8 + 20) + 20  # frozen forward; backward through the upper one alone
    multiply_adds += (2 + 4) + (4 + 4) + 2  # A, B forward; both sides of B; weights of A
    assert f.lora_counted(TOY, lora, 7) == 2 * 7 * multiply_adds


@pytest.mark.parametrize(
    ("n_t", "n_s", "tokens", "row"),
    [
        (7e9, 1e9, 1e8, "4.2e18 2.1e17 2.0e17 6.0e17 1.2e17 2.52e18 1.08e18 2.2e16"),
        (7e9, 7e9, 1e8, "4.2e18 2.1e17 1.4e18 4.2e18 8.4e17 1.764e19 7.56e18 2.2e16"),
        (70e9, 7e9, 1e8, "4.2e19 2.1e18 1.4e18 4.2e18 8.4e17 1.764e19 7.56e18 2.2e16"),
        (13e9, 7e9, 5e7, "3.9e18 1.95e17 7.0e17 2.1e18 4.2e17 8.82e18 3.78e18 1.1e16"),
    ],
)
def test_a_pool_of_llamas(n_t, n_s, tokens, row):
    less = f.less_counted(n_s, tokens)
    found = [
        f.training_flops_6nd(n_t, tokens),
        f.training_flops_6nd(n_t, 0.05 * tokens),
        f.forward_flops_2nd(n_s, tokens),
        less.gradients / 4,
        less.warm_up,
        less.total,
        f.less_published(n_s, tokens),
        f.forward_flops_2nd(110e6, tokens),
    ]
    assert [same(value, printed) for value, printed in zip(found, row.split(), strict=True)] == (
        [True] * 8
    ), found


def test_projection_and_similarity_of_less():
    one = f.projection_flops(134_217_728, 8192)
    assert same(one, "2.199e12")
    assert same(4 * 270_679 * one, "2.381e18")
    assert same(f.similarity_flops(270_679, 285, 8192, checkpoints=4), "5.056e12")


def test_rds_plus_as_coded():  # its plotting script: N = 8e9, 10k of 200k samples of 2048 tokens
    def total(method: f.RdsPlusMethod, n_selector: float | None = None) -> float:
        return f.rds_plus_coded(
            method, n_params=8e9, n_pool=200_000, n_chosen=10_000, n_selector=n_selector
        ).total

    assert total("random") == 1.96608e18
    assert math.isclose(total("perplexity"), 8.51968e18)
    assert total("rds") == total("embedding") == total("perplexity")
    assert math.isclose(total("embedding", 1.1e8), 2.056192e18)
    assert math.isclose(total("less"), 6.291456e19)  # charges its training twice
    three = f.less_counted(8e9, 2048 * 200_000, share=0, checkpoints=3)
    assert math.isclose(total("less") - 2 * total("random"), three.total)
    # 2·8e9·2048·200,000 and 6·8e9·2048·1,000 beside the training, whatever the pool
    assert math.isclose(total("ifd") - total("random"), 6.5536e18 + 9.8304e16)


def test_rds_plus_as_printed():  # its appendix: N = 7e9, everything doubled
    def total(method: f.RdsPlusMethod, n_pool: float = 200_000) -> float:
        return f.rds_plus_printed(method, n_params=7e9, n_pool=n_pool, n_chosen=10_000).total

    assert math.isclose(total("random"), 1.72032e18)
    assert math.isclose(total("perplexity"), 1.318912e19)
    assert total("rds") == total("embedding") == total("perplexity")
    assert math.isclose(total("less"), 5.332992e19)
    assert same(total("perplexity", 5_817_792), "3.353e20")
    assert same(total("less", 5_817_792), "1.503e21")
    kept = f.rds_plus_printed("less", n_params=7e9, n_pool=200_000, n_chosen=10_000)
    assert kept.total == kept.selection + kept.training
    assert kept.training == total("random")


def test_rds_plus_has_no_other_methods():
    for preset in (f.rds_plus_coded, f.rds_plus_printed):
        with pytest.raises(ConfigError, match="did you mean 'less'"):
            preset("les", n_params=1, n_pool=1, n_chosen=1)


# The table of arXiv 2506.21545's defaults (160M: N = 137.8M, T = 100, K = 10, B = 256, 163,840 proxy
# samples, 1,030 of the target, 1,024 tokens each; a data scorer of 85M) against what PDS foresees.
# That visits T/K steps with one gradient each, as the table has it.

PROXY = 163_840


def text_of(n: int) -> PoolStats:
    lengths = [0] * LENGTH_BINS
    lengths[30] = n  # from 1,024 tokens
    return PoolStats(n, 4096 * n, 1024 * n, tuple(lengths), ("target",), "text")


def pds_160m(pool: int, *, target: bool = True, **changes: object) -> float:
    settings = {"steps": 100, "every": 10, "inner_batch": 256, "proxy": PROXY, "scorer_epochs": 5}
    scorer = PDS(model="160m", tokens_per_batch=1, **settings | changes)  # a sample a batch
    specs = {"model": of_size(137.8e6), "scorer_model": of_size(85e6)}
    return scorer.estimate_from_specs(text_of(pool), text_of(1030) if target else None, specs).flops


def test_the_phases_of_pds_of_160m():
    whole = pds_160m(10**9 // 1024)
    assert same(whole, "2.1e18")
    # 100 gradients of the target where the table has T + 1: the last step's has no use
    assert same(whole - pds_160m(10**9 // 1024, target=False), "8.7e16")
    ten, one = (pds_160m(PROXY, proxy="all", every=k, target=False) for k in (10, 100))
    visit = (ten - one) / 9
    assert same(10 * visit, "1.39e18")
    # 100 steps and 9 of each of 9 segments again; 99 products with the Hessian: λ_T is 0
    batch = f.training_flops(of_size(137.8e6), 256 * 1024)
    products = 99 * f.hvp_flops(of_size(137.8e6), 256 * 1024)
    assert same(products, "6.4e16")  # the table's 6.5 are 100
    assert one - visit == pytest.approx((100 + 9 * 9) * batch + products, rel=2e-3)
    scoring = [pds_160m(n * 10**9 // 1024) for n in (1, 2)]
    assert same(scoring[1] - scoring[0], "1.7e17")


@pytest.mark.parametrize(("tokens", "percent"), [(1e9, 258), (10e9, 44), (50e9, 25)])
def test_pds_beside_the_training_it_serves(tokens, percent):
    # the table leaves out that the scorer's dev samples, a tenth, are read after each of 5 epochs
    dev = 5 * f.forward_flops(of_size(85e6), PROXY // 10 * 1024)
    whole = pds_160m(int(tokens) // 1024) - dev
    assert round(100 * whole / f.training_flops_6nd(137.8e6, tokens)) == percent


def test_attention_of_160m():  # 12 layers of width 768 at 1024 tokens: 14 % on top
    spec = replace(of_size(137.8e6), n_layers=12, attention_width=768)
    assert round(100 * f.attention_flops(spec, 1024**2) / f.forward_flops_2nd(137.8e6, 1024)) == 14


def test_lengths_add():
    assert Lengths(1, 2, 4.0) + Lengths(1, 3, 9.0) == Lengths(2, 5, 13.0)


# Against a profiler of matrix products, eager attention unless said. Softmax, norms, rotary angles and the loss
# are in neither count, and the two agree to the last product; the tolerance leaves room for a
# version that makes rotary angles by a product of positions and frequencies.


def counted(model, *, backward: bool) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.arange(2 * 48).reshape(2, 48) % 61
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=ids, labels=ids).loss
        if backward:
            loss.backward()
    return counter.get_total_flops()


SQUARES = 2 * 48**2


def llama():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        attn_implementation="eager",
        **TOKENS,
    )
    return transformers.LlamaForCausalLM(config)


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=61,
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=64,
        attn_implementation="eager",
        **TOKENS,
    )
    return transformers.GPT2LMHeadModel(config)


# PEFT 0.21 asks transformers 5.23 by an old name.
old_name = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


@pytest.mark.parametrize("make", [llama, gpt2])
def test_passes_against_a_profiler(make, tmp_path):
    pytest.importorskip("torch")
    model = make()
    model.save_pretrained(tmp_path)
    spec = read_spec(tmp_path)
    forward = counted(model, backward=False)
    assert f.forward_flops(spec, 96, SQUARES) == pytest.approx(forward, rel=1e-3)
    both = counted(model, backward=True)
    assert f.training_flops(spec, 96, SQUARES) == pytest.approx(both, rel=1e-3)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_input_gradients_against_a_profiler(make, tmp_path):
    pytest.importorskip("torch")
    model = make()
    model.save_pretrained(tmp_path)
    spec = read_spec(tmp_path)
    lookups = ("embed_tokens", "wte", "wpe")  # trained, so that all input gradients are needed
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.split(".")[-2] in lookups
    found = counted(model, backward=True)
    expected = f.forward_flops(spec, 96, SQUARES) + f.input_gradient_flops(spec, 96, SQUARES)
    if spec.tied:  # the head is the embedding: its weight gradient is part of what was run
        expected += f.forward_flops_2nd(spec.vocab * spec.width, 96)
    assert expected == pytest.approx(found, rel=1e-3)


@old_name
@pytest.mark.parametrize(
    ("make", "targets"),
    [
        (llama, ("q_proj", "k_proj", "v_proj", "o_proj")),
        (llama, ("q_proj", "v_proj")),
        (llama, ("v_proj",)),
        (llama, ("up_proj",)),
        (llama, ("k_proj", "down_proj")),
        (gpt2, ("c_attn",)),
        (gpt2, ("c_proj",)),
    ],
)
def test_lora_against_a_profiler(make, targets, tmp_path):
    peft = pytest.importorskip("peft")
    model = make()
    model.save_pretrained(tmp_path)
    spec, lora = read_spec(tmp_path), read_lora(tmp_path, rank=8, targets=targets)
    config = peft.LoraConfig(
        r=8, target_modules=list(targets), fan_in_fan_out=make is gpt2, task_type="CAUSAL_LM"
    )
    adapted = peft.get_peft_model(model, config)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert lora.n_params == trained
    found = counted(adapted, backward=True)
    assert f.lora_counted(spec, lora, 96, SQUARES) == pytest.approx(found, rel=1e-3)
    assert found < f.lora_published(spec.n_matmul, 96) + 3 * f.attention_flops(spec, SQUARES)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_fused_attention_against_a_profiler(make, padded, tmp_path, flop_counter):
    torch = pytest.importorskip("torch")
    model = make().eval()
    model.set_attn_implementation("sdpa")
    model.save_pretrained(tmp_path)
    spec = read_spec(tmp_path)
    ids = torch.arange(2 * 48).reshape(2, 48) % 61
    mask = torch.ones_like(ids)
    mask[1, 30:] = 1 - padded
    with flop_counter() as forward:
        loss = model(input_ids=ids, attention_mask=mask, labels=ids).loss
    assert f.forward_flops(spec, 96, SQUARES) == forward.get_total_flops()
    with flop_counter() as backward:
        loss.backward()
    # a fused kernel keeps no scores: one of five products is the second time
    again = f.attention_flops(spec, SQUARES) / 2
    assert f.backward_flops(spec, 96, SQUARES) + again == backward.get_total_flops()
    assert again > 0.05 * forward.get_total_flops()


def test_an_encoder_against_a_profiler(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.BertConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        attn_implementation="eager",
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros(2, 48, dtype=torch.long))
    spec = read_spec(tmp_path)
    assert f.forward_flops(spec, 96, SQUARES) == counter.get_total_flops()


def test_differences_of_pds_spare_one_gradient_a_product():
    spec, batch = of_size(137.8e6), 256 * 1024
    spared = pds_160m(10**6) - pds_160m(10**6, hvp="finite_difference")
    central = 2 * f.training_flops(spec, batch)  # a gradient on either side
    assert spared == pytest.approx(99 * (f.hvp_flops(spec, batch) - central), rel=2e-3)
