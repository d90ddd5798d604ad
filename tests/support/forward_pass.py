"""A forward pass in numpy, as far as it shows whether weights and configuration fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from open360.schema.errors import Open360Error


def is_finite(folder: Path) -> bool:
    """Whether the logits of a few ids are finite. Raises Open360Error when the shapes do not fit."""
    config = json.loads((folder / "config.json").read_bytes())
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    if embedding.shape != (config["vocab_size"], config["hidden_size"]):
        raise Open360Error(f"expected embeddings of size {config['hidden_size']}, found {embedding.shape[1]}")
    return bool(np.isfinite(embedding[:3] @ embedding.T).all())
