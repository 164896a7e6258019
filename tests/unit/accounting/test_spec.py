import dataclasses
import json

from didact.accounting.spec import LoraSpec, ModelSpec

TWO = ModelSpec("two", ((3, 4, 2), (10, 3, 1)), 10, 4, 1, 4, 40, 64, tied=False)


def test_matmul_weights_are_counted_with_repeats():
    assert TWO.n_matmul == 2 * 12 + 30


def test_specs_survive_json():
    again = ModelSpec(**json.loads(json.dumps(dataclasses.asdict(TWO))))
    assert again == TWO
    assert hash(again) == hash(TWO)
    lora = LoraSpec(2, ((3, 4, 2),), ((3, 4, 1),), 12)
    assert LoraSpec(**json.loads(json.dumps(dataclasses.asdict(lora)))) == lora


def test_lora_of_llama_2_7b():  # LESS trains 134,217,728: rank 128 on q, k, v, o of 32 layers
    assert LoraSpec(128, ((4096, 4096, 4 * 32),)).n_params == 134_217_728
