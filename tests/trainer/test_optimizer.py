"""Settings come from the spec, tensors from the checkpoint, and never the other way round."""

from __future__ import annotations

import pytest
import torch

from open360.schema.errors import IntegrityError
from open360.trainer import determinism
from open360.trainer.errors import UntrainableRunError
from open360.trainer.model import build_model
from open360.trainer.optimizer import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from open360.trainer.recipe import Recipe, recipe_of
from tests.trainer.tiny_run import tiny_spec

GROUPS = (
    "clip: 1.0, groups: [{match: '*norm*', weight_decay: 0.0}, {match: 'model.embed*', learning_rate: 0.5}, "
    "{match: '*layers.0.*', weight_decay: 0.3}]"
)


@pytest.fixture(autouse=True)
def machine() -> None:
    determinism.apply("machine")


def made(settings: str = "clip: 1.0") -> tuple[Recipe, torch.nn.Module, torch.optim.Optimizer]:
    spec = tiny_spec(lambda text: text.replace("clip: 1.0", settings))
    recipe = recipe_of(spec, spec.all_runs()[0])
    torch.manual_seed(0)
    model = build_model(recipe.run)
    return recipe, model, build_optimizer(recipe, model)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    set_learning_rate(optimizer, 1e-2)
    model(input_ids=torch.arange(16).reshape(1, 16)).logits.pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict[str, object]]:
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def test_a_loaded_state_changes_no_setting_and_is_a_copy() -> None:
    _, model, optimizer = made()
    step(model, optimizer)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, model).items()}
    _, other_model, other = made("clip: 1.0, epsilon: 1.0e-6")
    before = settings_of(other)
    load_optimizer_tensors(other, other_model, saved, "ckpt")
    assert settings_of(other) == before
    assert before[0]["eps"] == 1e-6
    assert before[0]["foreach"] is True
    assert before[0]["fused"] is False
    step(other_model, other)
    assert saved["step.model.norm.weight"].item() == 1
    assert optimizer_tensors(other, other_model)["step.model.norm.weight"].item() == 2


def test_a_fresh_state_saved_and_loaded_trains_as_no_state_does() -> None:
    _, model, optimizer = made()
    _, other_model, other = made()
    load_optimizer_tensors(other, other_model, optimizer_tensors(optimizer, model), "ckpt")
    for _ in range(3):
        step(model, optimizer)
        step(other_model, other)
    for mine, theirs in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_parameter_belongs_to_the_first_group_that_fits_its_name() -> None:
    _, model, optimizer = made(GROUPS)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    set_learning_rate(optimizer, 1.0)
    found = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found["model.layers.0.input_layernorm.weight"] == (1.0, 0.0)
    assert found["model.embed_tokens.weight"] == (0.5, 0.1)
    assert found["model.layers.0.self_attn.q_proj.weight"] == (1.0, 0.3)
    assert found["model.layers.1.self_attn.q_proj.weight"] == (1.0, 0.1)
    assert len(found) == len(names)


def test_a_group_without_parameters_is_refused() -> None:
    with pytest.raises(UntrainableRunError, match="parameter group 'lm_heed' gets no parameter"):
        made("clip: 1.0, groups: [{match: lm_heed, weight_decay: 0.0}]")


def test_adam_decays_by_the_gradient_and_adamw_does_not() -> None:
    spec = tiny_spec(lambda text: text.replace("type: adamw", "type: adam"))
    recipe = recipe_of(spec, spec.all_runs()[0])
    optimizer = build_optimizer(recipe, build_model(recipe.run))
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is False
    assert made()[2].param_groups[0]["decoupled_weight_decay"] is True


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype"])
def test_a_state_of_other_parameters_is_refused(change: str) -> None:
    _, model, optimizer = made()
    tensors = optimizer_tensors(optimizer, model)
    name = "exp_avg.model.norm.weight"
    if change == "missing":
        tensors.pop(name)
    elif change == "extra":
        tensors["exp_avg.other"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(5) if change == "shape" else tensors[name].double()
    with pytest.raises(IntegrityError, match="ckpt"):
        load_optimizer_tensors(optimizer, model, tensors, "ckpt")
