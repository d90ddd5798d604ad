"""Any causal language model of `transformers`, and configuration files that old and new readers understand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from open360.schema.errors import IntegrityError
from open360.schema.run import ParameterGroup, Run
from open360.trainer import determinism
from open360.trainer.checkpoint import load_weights, state_of, write_state
from open360.trainer.errors import UntrainableRunError
from open360.trainer.model import build_model, initialize_weights, stored_tensors, write_model_config
from open360.trainer.optimizer import build_optimizer
from open360.trainer.recipe import recipe_of
from open360.trainer.segment import initialize_run
from tests.trainer.tiny_run import tiny_spec

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
FEW_HEADS: dict[str, Any] = {**SIZES, "num_key_value_heads": 1, "intermediate_size": 48}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "gpt_neox": {**SIZES, "intermediate_size": 64},
    "llama": {
        **FEW_HEADS,
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "torch_dtype": "bfloat16",
    },
    "mixtral": {**FEW_HEADS, "num_local_experts": 2},
    "olmo2": FEW_HEADS,
    "qwen3": {**FEW_HEADS, "head_dim": 16, "tie_word_embeddings": True},
}


@pytest.fixture(autouse=True)
def machine() -> None:
    determinism.apply("machine")


def run_of(model_type: str, **settings: object) -> Run:
    architecture = {"model_type": model_type, "vocab_size": 300, "eos_token_id": 0, "bos_token_id": 0, **settings}
    return tiny_spec().all_runs()[0].model_copy(update={"architecture": architecture})


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_checkpoint_is_loaded_by_transformers_with_equal_logits(tmp_path: Path, model_type: str) -> None:
    from transformers import AutoModelForCausalLM

    run = run_of(model_type, **ARCHITECTURES[model_type])
    torch.manual_seed(1)
    model = build_model(run).eval()
    write_state(tmp_path, state_of(model, build_optimizer(recipe_of(tiny_spec(), run), model)))
    write_model_config(model, tmp_path)
    load: Any = AutoModelForCausalLM.from_pretrained
    loaded, told = load(tmp_path, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    ids = torch.arange(32).reshape(2, 16) * 9
    with torch.no_grad():
        assert torch.equal(loaded.eval()(input_ids=ids).logits, model(input_ids=ids).logits)


def test_the_trained_checkpoint_is_loaded_by_transformers_with_its_tokenizer(trained: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = trained / "runs/tiny/checkpoints/ckpt_002"
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("some text").input_ids) == "some text"
    with torch.no_grad():
        generated = model.generate(torch.tensor([[5, 8, 11, 14]]), max_new_tokens=2, do_sample=False)
    assert generated.shape == (1, 6)


def test_the_configuration_speaks_to_old_and_new_readers(tmp_path: Path) -> None:
    write_model_config(build_model(run_of("llama", **ARCHITECTURES["llama"])), tmp_path)
    text = (tmp_path / "config.json").read_text()
    config = json.loads(text)
    assert list(config) == sorted(config)
    assert config["dtype"] == config["torch_dtype"] == "float32"
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 500000.0
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["model_type"] == "llama"
    assert "transformers_version" not in text
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"bos_token_id": 0, "eos_token_id": 0}


def test_a_configuration_becomes_the_same_model_and_the_same_configuration_again(tmp_path: Path) -> None:
    run = run_of("llama", **ARCHITECTURES["llama"])
    write_model_config(build_model(run), tmp_path)
    first = (tmp_path / "config.json").read_bytes()
    again = run.model_copy(update={"architecture": json.loads(first)})
    write_model_config(build_model(again), tmp_path)
    assert (tmp_path / "config.json").read_bytes() == first


def test_tied_weights_are_stored_once() -> None:
    tied, untied = (build_model(run_of("llama", **FEW_HEADS, tie_word_embeddings=tie)) for tie in (True, False))
    assert "lm_head.weight" not in stored_tensors(tied)
    assert "lm_head.weight" in stored_tensors(untied)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "no-such-model"}, "no-such-model"),
        ({"model_type": None}, "has no 'model_type'"),
        ({"model_type": "bloom", "n_head": 2, "hidden_size": 32}, "scaled_dot_product_attention"),
        ({"model_type": "llama", **FEW_HEADS, "hidden_act": "no-such-function"}, "no-such-function"),
    ],
)
def test_an_architecture_that_makes_no_model_is_refused(settings: dict[str, object], message: str) -> None:
    run = run_of("x").model_copy(update={"architecture": {"vocab_size": 300, **settings}})
    with pytest.raises(UntrainableRunError, match="cannot be trained") as caught:
        build_model(run)
    assert message in str(caught.value)


def test_groups_may_set_the_spread_of_fresh_weights() -> None:
    torch.manual_seed(1)
    model = build_model(run_of("llama", **FEW_HEADS))
    before = {name: tensor.clone() for name, tensor in stored_tensors(model).items()}
    initialize_weights(model, (ParameterGroup(match="*down_proj*", initial_std=0.5), ParameterGroup(match="*")))
    for name, tensor in stored_tensors(model).items():
        if "down_proj" in name:
            assert tensor.std().item() == pytest.approx(0.5, rel=0.1)
        else:
            assert torch.equal(tensor, before[name])


def test_weights_of_another_architecture_are_refused() -> None:
    model = build_model(run_of("llama", **FEW_HEADS))
    weights = dict(stored_tensors(model))
    name = next(iter(weights))
    for changed in (
        {key: tensor for key, tensor in weights.items() if key != name},
        {**weights, "extra": torch.zeros(1)},
        {**weights, name: weights[name].T},
        {**weights, name: weights[name].bfloat16()},
    ):
        with pytest.raises(IntegrityError, match=name if len(changed) == len(weights) else "names"):
            load_weights(model, changed, "ckpt")


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused(release: Path) -> None:
    spec = tiny_spec(lambda text: text.replace("vocab_size: 300", "vocab_size: 256"))
    with pytest.raises(UntrainableRunError, match="vocab_size 256 does not cover its tokenizer"):
        initialize_run(spec, spec.all_runs()[0], release)


def test_a_tokenizer_that_cannot_be_read_is_refused(release: Path) -> None:
    (release / "corpora/toy/tokenizer/tokenizer.json").write_text("{}")
    spec = tiny_spec()
    with pytest.raises(IntegrityError, match=r"corpora/toy/tokenizer/tokenizer\.json|toy/tokenizer/tokenizer\.json"):
        initialize_run(spec, spec.all_runs()[0], release)
