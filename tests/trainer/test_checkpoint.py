"""Checkpoints: equal states give equal bytes, nothing is pickled, and a folder is whole or not there."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from open360.schema.digests import TensorFileError
from open360.trainer.checkpoint import (
    State,
    checkpoint_digests,
    read_position,
    state_digests,
    write_state,
)
from tests.trainer.tiny_run import file_bytes

FOLDER = "runs/tiny/checkpoints/ckpt_002"


def test_a_checkpoint_holds_exactly_these_files(trained: Path) -> None:
    assert sorted(file_bytes(trained / FOLDER)) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_state/optimizer.safetensors",
        "training_state/position.json",
        "training_state/rng.safetensors",
    ]


@pytest.mark.parametrize("file", ["model", "training_state/optimizer", "training_state/rng"])
def test_a_tensor_file_has_one_metadata_key(trained: Path, file: str) -> None:
    data = (trained / FOLDER / f"{file}.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert json.loads(data[8 : 8 + length])["__metadata__"] == {"format": "pt"}


def test_the_optimizer_state_is_named_after_the_parameters(trained: Path) -> None:
    weights = load_file(trained / FOLDER / "model.safetensors")
    state = load_file(trained / FOLDER / "training_state/optimizer.safetensors")
    assert set(state) == {f"{part}.{name}" for part in ("exp_avg", "exp_avg_sq", "step") for name in weights}
    assert {tensor.dtype for tensor in (*weights.values(), *state.values())} == {torch.float32}


def test_the_order_of_tensors_and_their_strides_change_no_byte(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.arange(4.0)}
    turned = {"a": tensors["a"].clone(), "b": tensors["b"].T.contiguous().T}
    for name, weights in (("one", tensors), ("two", turned)):
        (tmp_path / name).mkdir()
        write_state(tmp_path / name, State(weights=weights, optimizer={}, rng={"torch": torch.zeros(3).byte()}))
    assert file_bytes(tmp_path / "one") == file_bytes(tmp_path / "two")


def test_digests_are_those_of_the_position_and_the_optimizer_may_be_missing(trained: Path, tmp_path: Path) -> None:
    import shutil

    position = read_position(trained / FOLDER, "ckpt_002")
    assert checkpoint_digests(trained / FOLDER) == (position.tensors.weights, position.tensors.optimizer)
    assert state_digests(trained / FOLDER) == position.tensors
    shutil.copytree(trained / FOLDER, tmp_path / "bare")
    (tmp_path / "bare/training_state/optimizer.safetensors").unlink()
    assert checkpoint_digests(tmp_path / "bare") == (position.tensors.weights, None)


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"\xff" * 64, struct.pack("<Q", 2) + b"{}" + b"more"])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(TensorFileError, match=r"model\.safetensors"):
        checkpoint_digests(tmp_path)


def test_no_file_of_a_release_is_a_pickle(trained: Path) -> None:
    for name, data in file_bytes(trained).items():
        assert not data.startswith((b"\x80\x02", b"\x80\x04", b"PK\x03\x04")), name
