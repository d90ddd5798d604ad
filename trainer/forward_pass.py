"""Can a checkpoint be loaded and run? Asked by the validator, by this module's dotted name, when torch is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from open360.schema.errors import Open360Error

IDS = 16


class ForwardPassError(Open360Error):
    """A checkpoint cannot be loaded by `transformers`, or fails when it is run."""

    def __init__(self, folder: Path, problem: str) -> None:
        self.folder, self.problem = folder, problem
        super().__init__(f"{folder.name}: expected a model that runs, found: {problem}; see 'open360 rules CKP014'")


def forward_pass_is_finite(folder: Path) -> bool:
    """Whether the logits of one forward pass over a few ids are finite.

    Only safetensors are read, and no code of the repository is run. Raises ForwardPassError when the checkpoint
    cannot be loaded, has weights that were made up while loading, or fails.
    """
    load: Any = AutoModelForCausalLM.from_pretrained
    quiet: Any = logging.disable_progress_bar
    quiet()
    safely = {"trust_remote_code": False, "use_safetensors": True, "local_files_only": True}
    try:
        model, report = load(folder, output_loading_info=True, **safely)
        if report["missing_keys"]:
            raise ForwardPassError(folder, f"no weights for {', '.join(sorted(report['missing_keys'])[:3])}")
        ids = torch.arange(IDS)[None] % model.config.vocab_size
        with torch.no_grad():
            return bool(torch.isfinite(model.eval()(ids).logits).all())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise ForwardPassError(folder, str(error).strip().splitlines()[0] if str(error) else repr(error)) from error
