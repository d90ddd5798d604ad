"""A checkpoint that cannot be run is told from one that can."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from open360.trainer.forward_pass import ForwardPassError, forward_pass_is_finite


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = AutoConfig.for_model(
        "llama", hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_sound_checkpoint_runs(checkpoint: Path) -> None:
    assert forward_pass_is_finite(checkpoint)


def test_infinite_weights_give_outputs_that_are_not_finite(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["model.norm.weight"][:] = float("inf")
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    assert not forward_pass_is_finite(checkpoint)


def test_weights_that_are_missing_are_not_made_up(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ForwardPassError, match="up_proj"):
        forward_pass_is_finite(checkpoint)


def test_a_pickle_is_never_loaded(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ForwardPassError):
        forward_pass_is_finite(checkpoint)


def test_code_of_the_repository_is_never_run(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    trap = checkpoint.parent / "ran"
    config.update(model_type="trap", auto_map={"AutoConfig": "trap.C", "AutoModelForCausalLM": "trap.M"})
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "trap.py").write_text(f"open({str(trap)!r}, 'w').close()\n")
    with pytest.raises(ForwardPassError):
        forward_pass_is_finite(checkpoint)
    assert not trap.exists()
    shutil.rmtree(checkpoint)
