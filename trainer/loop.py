"""The training loop: one visible function, a step at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from open360.schema.schedule import learning_rate
from open360.trainer.errors import NonFiniteWeightsError
from open360.trainer.optimizer import set_learning_rate
from open360.trainer.recipe import Recipe
from open360.trainer.rows import Batch
from open360.trainer.slices import precision_at


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step gave: mean cross entropy of the batch in nats, gradient norm before clipping, learning rate."""

    batch: Batch
    loss: float
    grad_norm: float
    learning_rate: float

    @property
    def finite(self) -> bool:
        """Whether both the loss and the gradient norm are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def inputs_and_labels(ids: torch.Tensor, seq_len: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Model inputs and the ids to predict, for rows of seq_len + 1 ids, or of seq_len (one fewer is predicted then).

    Args:
        ids: (rows, row_len), int64.
    """
    if ids.shape[1] == seq_len + 1:
        return ids[:, :-1], ids[:, 1:]
    return ids, ids[:, 1:]


def batch_loss(model: torch.nn.Module, ids: torch.Tensor, seq_len: int, precision: str) -> torch.Tensor:
    """Mean cross entropy over all predicted ids of a batch, in nats, as an fp32 scalar."""
    inputs, labels = inputs_and_labels(ids, seq_len)
    mixed = precision == "bfloat16-mixed"
    with torch.autocast("cpu", dtype=torch.bfloat16) if mixed else contextlib.nullcontext():
        logits = model(input_ids=inputs, use_cache=False).logits[:, : labels.shape[1]]
    return torch.nn.functional.cross_entropy(logits.float().reshape(-1, logits.shape[-1]), labels.reshape(-1))


def train_steps(
    recipe: Recipe,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
) -> Iterator[Step]:
    """Train on `batches` in order; yields after each update. A step that is not finite is yielded without an update."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    limit = recipe.optimizer.clip if recipe.optimizer.clip is not None else math.inf
    model.train()
    for batch in batches:
        rate = learning_rate(
            recipe.schedule,
            batch.step,
            steps=recipe.run.steps,
            tokens_per_step=(batch.end_row - batch.first_row) * recipe.seq_len,
        )
        set_learning_rate(optimizer, rate)
        loss = batch_loss(model, torch.from_numpy(batch.ids), recipe.seq_len, precision_at(recipe.run, batch.step))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
        # One transfer for both numbers: each would wait for the device.
        loss_value, norm_value = torch.stack([loss.detach(), norm]).tolist()
        step = Step(batch=batch, loss=loss_value, grad_norm=norm_value, learning_rate=rate)
        if step.finite:
            if limit != math.inf:
                torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm, foreach=True)
            try:
                optimizer.step()
            except RuntimeError as error:  # a step size beyond the range of the weights' type
                steps = (batch.step, batch.step + 1)
                raise NonFiniteWeightsError(recipe.run.name, steps, f"an update that overflows ({error})") from error
        optimizer.zero_grad(set_to_none=True)
        yield step
