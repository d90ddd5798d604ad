"""The checkpoint before the first step: fresh weights from the run's seed, or those of its parent run."""

from __future__ import annotations

from pathlib import Path

import torch

from open360.schema.atomic import discard_leftovers
from open360.schema.layout import checkpoint_folder, corpus_folder
from open360.schema.run import Run
from open360.schema.spec import ReleaseSpec
from open360.trainer import determinism
from open360.trainer.checkpoint import load_checkpoint, load_weights, save_checkpoint
from open360.trainer.model import build_model, initialize_weights
from open360.trainer.optimizer import build_optimizer
from open360.trainer.recipe import parent_folder, recipe_of
from open360.trainer.records import now, write_record
from open360.trainer.slices import slice_digest
from open360.trainer.tokenizer import read_tokenizer


def initialize_run(spec: ReleaseSpec, run: Run, root: Path) -> Path:
    """Write the checkpoint before the first step, seeded by the run, or with the weights of the run's parent.

    Returns its folder. Raises UntrainableRunError, NumericProfileError, MissingInputError, IntegrityError.
    """
    recipe = recipe_of(spec, run)
    determinism.apply(recipe.determinism)
    began = now()
    torch.manual_seed(recipe.seed)
    model = build_model(run)
    parent, parent_sha256 = None, None
    if run.parent is None:
        initialize_weights(model, recipe.optimizer.groups)
    else:
        label = parent_folder(spec, run, run.parent)
        source = load_checkpoint(root / label, label)
        load_weights(model, source.state.weights, label)
        parent, parent_sha256 = f"{run.parent.run}/{source.position.checkpoint}", source.position.tensors.weights
    optimizer = build_optimizer(recipe, model)
    name, tokenizer = recipe.initial, root / corpus_folder(recipe.corpus.name) / "tokenizer"
    read_tokenizer(tokenizer, recipe)
    folder = root / checkpoint_folder(run.name, name)
    discard_leftovers(folder)
    save_checkpoint(
        folder,
        model=model,
        optimizer=optimizer,
        tokenizer=tokenizer,
        position={
            "run": run.name,
            "checkpoint": name,
            "step": 0,
            "next_row": 0,
            "tokens": 0,
            "parent": parent,
            "parent_sha256": parent_sha256,
            "chunk": None,
            "rows_sha256": None,
            "spec_sha256": slice_digest(spec, run, 0),
            "determinism": recipe.determinism,
        },
    )
    write_record(root, run.name, name, {"began": began, "ended": now()})
    return folder
