import dataclasses
import json

from didact.accounting.spec import LoraSpec, ModelSpec

TWO = ModelSpec("two", ((3, 4, 2), (10, 3, 1)), 10, 4, 1, 4, 40, 64, tied=False)
FULL = dataclasses.replace(
    TWO, context=128, overhead=(("chat", 9), ("text", 1)), modules=(("mlp.up_proj", 3, 4, 2, 1),)
)


def test_matmul_weights_are_counted_with_repeats():
    assert TWO.n_matmul == 2 * 12 + 30


def test_specs_survive_json():
    for spec in (TWO, FULL):
        again = ModelSpec(**json.loads(json.dumps(dataclasses.asdict(spec))))
        assert again == spec
        assert hash(again) == hash(spec)
    lora = LoraSpec(2, ((3, 4, 2),), ((3, 4, 1),), 12)
    assert LoraSpec(**json.loads(json.dumps(dataclasses.asdict(lora)))) == lora


def test_overhead_by_kind():
    assert [FULL.added(kind) for kind in ("chat", "text", "pair")] == [9, 1, 0]
    assert TWO.added("chat") == 0


def test_lora_of_llama_2_7b():  # LESS trains 134,217,728: rank 128 on q, k, v, o of 32 layers
    assert LoraSpec(128, ((4096, 4096, 4 * 32),)).n_params == 134_217_728
