"""Checkpoints on disk: weights, optimizer state and RNG state as safetensors, position as JSON. No pickle.

A folder holds::

    config.json  generation_config.json  model.safetensors  tokenizer.json …
    training_state/optimizer.safetensors  rng.safetensors  position.json

Equal states give equal bytes: names are sorted, and a safetensors file carries one metadata key only (with more, their
order changes from save to save).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from open360.schema.atomic import replacing_folder
from open360.schema.digests import digest_of_tensor_file
from open360.schema.errors import IntegrityError
from open360.schema.manifest import TensorDigests
from open360.schema.model import ManifestModel
from open360.schema.names import Count, Name, Sha256
from open360.schema.serialization import canonical_json, load_json_model
from open360.trainer.determinism import Determinism
from open360.trainer.errors import MissingInputError
from open360.trainer.model import stored_tensors, write_model_config
from open360.trainer.optimizer import optimizer_tensors
from open360.trainer.tokenizer import copy_tokenizer

WEIGHTS_FILE = "model.safetensors"
STATE_FOLDER = "training_state"
OPTIMIZER_FILE = f"{STATE_FOLDER}/optimizer.safetensors"
RNG_FILE = f"{STATE_FOLDER}/rng.safetensors"
POSITION_FILE = f"{STATE_FOLDER}/position.json"
MAX_POSITION_BYTES = 1 << 20
NEXT = "build or fetch the checkpoint again"


class StateDigests(TensorDigests):
    """Tensors digests of a whole training state."""

    rng: Sha256


class Position(ManifestModel):
    """Where in its run a checkpoint stands, and what it was made from. `position.json` is its canonical JSON.

    `step` batches and `next_row` rows were consumed. `parent_sha256` is the digest of the parent's weights,
    `rows_sha256` the digest of the rows since the parent, `spec_sha256` that of the slice of the spec that was read,
    `tensors` the digests of this checkpoint's own tensors.
    """

    run: Name
    checkpoint: Name
    step: Count
    next_row: Count
    tokens: Count
    parent: str | None
    parent_sha256: Sha256 | None
    chunk: Name | None
    rows_sha256: Sha256 | None
    spec_sha256: Sha256
    determinism: Determinism
    tensors: StateDigests


@dataclass(frozen=True, kw_only=True)
class State:
    """All tensors of a training state: weights, optimizer (`part.parameter`), RNG (`torch`, uint8)."""

    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    rng: Mapping[str, torch.Tensor]

    def copied(self) -> State:
        """The same state in memory of its own, so that training can go on while this one is written."""
        return State(
            weights={name: tensor.clone() for name, tensor in self.weights.items()},
            optimizer={name: tensor.clone() for name, tensor in self.optimizer.items()},
            rng={name: tensor.clone() for name, tensor in self.rng.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint as it was read: all its tensors, and its position."""

    position: Position
    state: State


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """The state as it is, not copied: weights and optimizer tensors are those in use."""
    return State(
        weights={name: tensor.detach() for name, tensor in stored_tensors(model).items()},
        optimizer={name: tensor.detach() for name, tensor in optimizer_tensors(optimizer, model).items()},
        rng={"torch": torch.get_rng_state()},
    )


def load_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy `weights` into `model`. Raises IntegrityError when they are not exactly its fp32 tensors."""
    own = stored_tensors(model)
    if set(own) != set(weights):
        odd = sorted(set(own) ^ set(weights))[:3]
        raise IntegrityError(where, "the tensors of the run's architecture", f"other names ({', '.join(odd)} …)", NEXT)
    with torch.no_grad():
        for name, tensor in own.items():
            given = weights[name]
            if given.shape != tensor.shape or given.dtype != tensor.dtype:
                expected, found = (f"{t.dtype} {tuple(t.shape)}" for t in (tensor, given))
                raise IntegrityError(f"{where}, tensor '{name}'", expected, found, NEXT)
            tensor.copy_(given)


def write_state(folder: Path, state: State) -> None:
    """Write the three tensor files of a state into `folder`."""
    (folder / STATE_FOLDER).mkdir(exist_ok=True)
    for name, tensors in ((WEIGHTS_FILE, state.weights), (OPTIMIZER_FILE, state.optimizer), (RNG_FILE, state.rng)):
        ready = {key: tensors[key].contiguous() for key in sorted(tensors)}
        save_file(ready, folder / name, metadata={"format": "pt"})


def read_state(folder: Path, digests: StateDigests, label: str) -> State:
    """Read the three tensor files of a state.

    Raises:
        MissingInputError: one of them is missing.
        IntegrityError: tensors are not those of `digests`.
        TensorFileError: a file is no safetensors file.
    """
    read = []
    expected = ((WEIGHTS_FILE, digests.weights), (OPTIMIZER_FILE, digests.optimizer), (RNG_FILE, digests.rng))
    for name, digest in expected:
        if not (folder / name).is_file():
            raise MissingInputError(f"{label}/{name}", "a part of the training state")
        found = tensors_digest_of(folder / name)
        if found != digest:
            raise IntegrityError(f"{label}/{name}", f"tensors digest {digest} ({POSITION_FILE})", found, NEXT)
        read.append(load_file(folder / name))
    return State(weights=read[0], optimizer=read[1], rng=read[2])


def state_digests(folder: Path) -> StateDigests:
    """Tensors digests of the three files of a state."""
    weights, optimizer, rng = (tensors_digest_of(folder / name) for name in (WEIGHTS_FILE, OPTIMIZER_FILE, RNG_FILE))
    return StateDigests(weights=weights, optimizer=optimizer, rng=rng)


def tensors_digest_of(path: Path) -> str:
    """Tensors digest of a safetensors file. Raises TensorFileError for a file that is none."""
    size = path.stat().st_size
    data = np.memmap(path, dtype=np.uint8, mode="r").data if size else memoryview(b"")
    return digest_of_tensor_file(path.name, data)


def checkpoint_digests(folder: Path) -> tuple[str, str | None]:
    """Tensors digests of a checkpoint: weights, and the optimizer state where the folder has it."""
    optimizer = folder / OPTIMIZER_FILE
    return tensors_digest_of(folder / WEIGHTS_FILE), tensors_digest_of(optimizer) if optimizer.is_file() else None


def save_checkpoint(
    folder: Path,
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    tokenizer: Path,
    position: Mapping[str, object],
) -> Position:
    """Write a whole checkpoint to `folder`, or leave what was there.

    Args:
        tokenizer: folder whose tokenizer files are copied.
        position: the fields of `Position` but `tensors`, which are measured here.
    """
    with replacing_folder(folder) as partial:
        write_state(partial, state_of(model, optimizer))
        write_model_config(model, partial)
        copy_tokenizer(tokenizer, partial)
        complete = Position.model_validate({**position, "tensors": state_digests(partial)})
        (partial / POSITION_FILE).write_bytes(canonical_json(complete.model_dump(mode="json")))
    return complete


def read_position(folder: Path, label: str) -> Position:
    """The position of a checkpoint. Raises MissingInputError, SpecError."""
    path = folder / POSITION_FILE
    if not path.is_file():
        raise MissingInputError(f"{label}/{POSITION_FILE}", "the position of a checkpoint that training can go on from")
    with path.open("rb") as file:
        data = file.read(MAX_POSITION_BYTES + 1)
    if len(data) > MAX_POSITION_BYTES:
        raise IntegrityError(f"{label}/{POSITION_FILE}", f"at most {MAX_POSITION_BYTES} bytes", "more", NEXT)
    return load_json_model(Position, data, f"{label}/{POSITION_FILE}")


def load_checkpoint(folder: Path, label: str) -> Checkpoint:
    """Read a checkpoint and check its tensors against the digests in its position.

    Args:
        label: path of the folder as messages show it.
    Raises:
        MissingInputError, IntegrityError, TensorFileError, SpecError: it is not complete, or not what it says.
    """
    position = read_position(folder, label)
    return Checkpoint(position=position, state=read_state(folder, position.tensors, label))
