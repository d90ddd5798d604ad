"""The optimizer: its settings come from the spec, only its tensors come from a checkpoint.

torch's own `load_state_dict` takes the settings of the saved state, silently (`fused`, `foreach`, the learning rate);
so states are taken apart into named tensors, and parameter groups are made anew from the spec every time.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

import torch

from open360.schema.errors import IntegrityError
from open360.schema.run import ParameterGroup
from open360.trainer.errors import UntrainableRunError
from open360.trainer.recipe import Recipe

PARTS = ("exp_avg", "exp_avg_sq", "step")


def build_optimizer(recipe: Recipe, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a run over the parameters of `model`, with no state yet.

    A parameter belongs to the first group of the spec whose `match` fits its name. Each group holds `factor`, by which
    the learning rate of the schedule is multiplied there.

    Raises:
        UntrainableRunError: a group matches no parameter.
    """
    settings = recipe.optimizer
    kind = torch.optim.AdamW if settings.type == "adamw" else torch.optim.Adam
    return kind(
        _groups(recipe.run.name, settings.groups, settings.weight_decay, model),
        lr=0.0,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        foreach=True,
        fused=False,
    )


def _groups(
    run: str, groups: tuple[ParameterGroup, ...], weight_decay: float, model: torch.nn.Module
) -> list[dict[str, object]]:
    members: list[list[torch.nn.Parameter]] = [[] for _ in range(len(groups) + 1)]
    for name, parameter in model.named_parameters():
        fits = (index for index, group in enumerate(groups) if fnmatch.fnmatchcase(name, group.match))
        members[next(fits, len(groups))].append(parameter)
    unused = [group.match for group, found in zip(groups, members, strict=False) if not found]
    if unused:
        raise UntrainableRunError(run, tuple(f"parameter group '{match}' gets no parameter" for match in unused))
    made: list[dict[str, object]] = []
    for index, found in enumerate(members):
        if not found:
            continue
        group = groups[index] if index < len(groups) else None
        factor = group.learning_rate if group is not None and group.learning_rate is not None else 1.0
        decay = group.weight_decay if group is not None and group.weight_decay is not None else weight_decay
        made.append({"params": found, "factor": factor, "weight_decay": decay})
    return made


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Put the learning rate of a step in force, multiplied by each group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["factor"]


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state as `{part.parameter: tensor}`; zeros for a parameter that was never updated."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter) or _fresh(parameter)
        for part in PARTS:
            tensors[f"{part}.{name}"] = state[part]
    return tensors


def _fresh(parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
        "step": torch.zeros((), dtype=torch.float32),
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: str
) -> None:
    """Fill the state of `optimizer` with copies of `tensors`; its settings stay as they are.

    Raises:
        IntegrityError: the tensors are not those of these parameters.
    """
    expected = {f"{part}.{name}" for name, _ in model.named_parameters() for part in PARTS}
    if set(tensors) != expected:
        odd = sorted(set(tensors) ^ expected)[:3]
        raise IntegrityError(where, "the state of every parameter", f"other names ({', '.join(odd)} …)", NEXT)
    for name, parameter in model.named_parameters():
        state = {part: tensors[f"{part}.{name}"] for part in PARTS}
        for part, tensor in state.items():
            shape = torch.Size() if part == "step" else parameter.shape
            if tensor.shape != shape or tensor.dtype != torch.float32:
                found = f"{tensor.dtype} {tuple(tensor.shape)}"
                raise IntegrityError(f"{where}, tensor '{part}.{name}'", f"torch.float32 {tuple(shape)}", found, NEXT)
        optimizer.state[parameter] = {part: tensor.clone() for part, tensor in state.items()}


NEXT = "build or fetch the checkpoint again"
