"""Models: any causal language model of `transformers`, made from the run's `architecture`, and its configuration files.

Weights are fp32, attention is SDPA. `config.json` is written by hand: sorted keys, no library version, and each value
under the key that old readers know and under the one that new readers know.
"""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import torch

from open360.schema.run import ParameterGroup, Run
from open360.schema.serialization import canonical_json
from open360.trainer.errors import UntrainableRunError

ATTENTION = "sdpa"
# Keys that say how somebody stored or ran the model, not what the model is.
NOT_ARCHITECTURE = ("dtype", "torch_dtype", "transformers_version", "_name_or_path", "architectures", "auto_map")
GENERATION_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")


def build_model(run: Run) -> torch.nn.Module:
    """The model of a run, freshly initialised from the current RNG state.

    Raises:
        UntrainableRunError: `transformers` does not know the architecture, or refuses one of its settings.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {key: value for key, value in run.architecture.items() if key not in NOT_ARCHITECTURE}
    model_type = settings.pop("model_type", None)
    if not isinstance(model_type, str):
        raise UntrainableRunError(run.name, ("its architecture has no 'model_type'",))
    try:
        config = AutoConfig.for_model(model_type, **settings)
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, attn_implementation=ATTENTION, dtype=torch.float32
        )
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, ZeroDivisionError) as error:
        raise UntrainableRunError(
            run.name, (f"transformers makes no model of its architecture '{model_type}': {error}",)
        ) from error
    found: torch.nn.Module = model
    return found


def initialize_weights(model: torch.nn.Module, groups: tuple[ParameterGroup, ...]) -> None:
    """Draw the parameters again whose group sets `initial_std`: normal, mean 0, in the order of the model."""
    wanted = [group for group in groups if group.initial_std is not None]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            group = next((g for g in wanted if fnmatch.fnmatchcase(name, g.match)), None)
            if group is not None:
                parameter.normal_(mean=0.0, std=group.initial_std or 0.0)


def stored_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that a checkpoint stores, by name: parameters and persistent buffers, tied ones once."""
    stored: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, torch.Size, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or place not in seen:
            seen.add(place)
            stored[name] = tensor
    return stored


def write_model_config(model: torch.nn.Module, folder: Path) -> None:
    """Write `config.json` and `generation_config.json` into `folder`, the same bytes for the same model."""
    config = json.loads(model.config.to_json_string(use_diff=True))  # type: ignore[union-attr, operator]
    for key in NOT_ARCHITECTURE:
        config.pop(key, None)
    config["architectures"] = [type(model).__name__]
    config["dtype"] = config["torch_dtype"] = "float32"
    config.update(_old_rope_keys(config.get("rope_parameters")))
    (folder / "config.json").write_bytes(canonical_json(config))
    generation = {key: config[key] for key in GENERATION_KEYS if config.get(key) is not None}
    (folder / "generation_config.json").write_bytes(canonical_json(generation))


def _old_rope_keys(parameters: Any) -> dict[str, Any]:
    """What readers before `rope_parameters` look for. Settings by layer type have no old form."""
    if not isinstance(parameters, dict) or "rope_theta" not in parameters:
        return {}
    keys: dict[str, Any] = {"rope_theta": parameters["rope_theta"]}
    if parameters.get("rope_type", "default") != "default":
        keys["rope_scaling"] = {key: value for key, value in parameters.items() if key != "rope_theta"}
    return keys
