"""Held-out loss of a checkpoint: nats a token, perplexity and bits a byte, over all documents and by domain.

Each document is scored alone: from the separator on, in windows of `seq_len` ids that do not overlap, so that every id
is predicted exactly once. Means are over tokens; bits per byte divides by the UTF-8 bytes of the texts, which makes it
comparable between tokenizers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from open360.schema.corpus import Corpus
from open360.schema.errors import IntegrityError
from open360.schema.run import Run
from open360.schema.spec import ReleaseSpec
from open360.trainer import determinism as numeric
from open360.trainer.checkpoint import Position, load_checkpoint, load_weights
from open360.trainer.errors import NonFiniteScoreError, UntrainableRunError
from open360.trainer.held_out import NEXT, read_documents, windows
from open360.trainer.model import build_model
from open360.trainer.recipe import Recipe, recipe_of
from open360.trainer.tokenizer import read_tokenizer

TASK = "held_out"
LOGITS_BYTES = 128 << 20  # of one forward pass
POOL_WINDOWS = 2048  # windows that are sorted by length together
IGNORED = -100  # label of padding, which no loss counts


@dataclass(kw_only=True)
class Score:
    """Sums over documents: negative log likelihood in nats by window, tokens, bytes, documents."""

    nats: list[float] = field(default_factory=list)
    tokens: int = 0
    bytes: int = 0
    documents: int = 0

    def metrics(self) -> dict[str, float]:
        """Loss in nats a token, its perplexity, and bits per byte."""
        total = math.fsum(self.nats)
        loss = total / max(self.tokens, 1)
        bits = total / math.log(2) / max(self.bytes, 1)
        # The C library's last digit of exp and log depends on the CPU; the loss above uses neither.
        return {"loss": loss, "perplexity": _rounded(math.exp(min(loss, 700.0))), "bits_per_byte": _rounded(bits)}


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window to score, and the domain that it counts for."""

    domain: str
    context: list[int]
    labels: list[int]


def evaluate_checkpoint(
    spec: ReleaseSpec,
    run: Run,
    checkpoint_folder: Path,
    corpus_folder: Path,
    determinism: numeric.Determinism,
) -> dict[str, Any]:
    """Score a checkpoint on the held-out documents of the run's corpus.

    Returns:
        `{"task", "checkpoint", "step", "metrics": {"loss", "perplexity", "bits_per_byte"}, "domains": {domain: the
        same metrics, and "tokens", "bytes", "documents"}}`.

    Raises:
        UntrainableRunError, NumericProfileError, MissingInputError, IntegrityError: an input is missing, or not what
            it says, or the held-out documents hold nothing to predict.
        NonFiniteScoreError: a score is no number.
    """
    recipe = recipe_of(spec, run)
    numeric.apply(determinism)
    model, position = _load(recipe, checkpoint_folder)
    label = f"{corpus_folder.name}/held_out.jsonl.zst"
    scores: dict[str, Score] = defaultdict(Score)
    scored = _windows(recipe, corpus_folder, label, scores)
    with torch.inference_mode():
        while pool := list(islice(scored, POOL_WINDOWS)):
            for window, nats in zip(pool, _score(model, pool, recipe.vocabulary), strict=True):
                scores[window.domain].nats.append(nats)
    overall = Score(
        nats=[nats for domain in sorted(scores) for nats in scores[domain].nats],
        tokens=sum(score.tokens for score in scores.values()),
        bytes=sum(score.bytes for score in scores.values()),
    )
    if not overall.tokens:
        raise IntegrityError(label, "documents with ids to predict", "none", NEXT)
    domains = {
        domain: {**score.metrics(), "tokens": score.tokens, "bytes": score.bytes, "documents": score.documents}
        for domain, score in sorted(scores.items())
    }
    metrics = overall.metrics()
    broken = {name for found in (metrics, *domains.values()) for name in metrics if not math.isfinite(found[name])}
    if broken:
        raise NonFiniteScoreError(run.name, position.checkpoint, sorted(broken))
    return {
        "task": TASK,
        "checkpoint": position.checkpoint,
        "step": position.step,
        "metrics": metrics,
        "domains": domains,
    }


def _load(recipe: Recipe, folder: Path) -> tuple[torch.nn.Module, Position]:
    label = "/".join(folder.parts[-4:])
    checkpoint = load_checkpoint(folder, label)
    model = build_model(recipe.run)
    load_weights(model, checkpoint.state.weights, label)
    return model.eval(), checkpoint.position


def _windows(recipe: Recipe, corpus_folder: Path, label: str, scores: dict[str, Score]) -> Iterator[Window]:
    """All windows in the order of the documents; counts documents, tokens and bytes in `scores` on the way."""
    tokenizer = read_tokenizer(corpus_folder / "tokenizer", recipe)
    separator = _separator(recipe, tokenizer)
    domains = {source.name: source.domain or source.name for source in recipe.corpus.sources}
    for document in read_documents(corpus_folder / "held_out.jsonl.zst", label):
        if document.source not in domains:
            known = f"one of {', '.join(domains)}"
            raise IntegrityError(f"{label}, source of document '{document.id}'", known, document.source, NEXT)
        ids = tokenizer.encode(document.text, add_special_tokens=False).ids
        score = scores[domains[document.source]]
        score.documents += 1
        score.bytes += document.text_bytes
        score.tokens += len(ids)
        for context, labels in windows(ids, separator, recipe.seq_len):
            yield Window(domain=domains[document.source], context=context, labels=labels)


def _separator(recipe: Recipe, tokenizer: Any) -> int:
    corpus: Corpus = recipe.corpus
    text = corpus.row.separator if corpus.row is not None else None
    found = tokenizer.token_to_id(text) if text is not None else None
    if found is None and corpus.tokenizer is not None:
        found = corpus.tokenizer.special_ids.separator
    if found is None:
        raise UntrainableRunError(
            recipe.run.name, (f"the tokenizer of corpus '{corpus.name}' has no id for the row's separator '{text}'",)
        )
    return int(found)


def _score(model: torch.nn.Module, pool: list[Window], vocabulary: int) -> list[float]:
    """Negative log likelihood of each window in nats. Windows of like length share a forward pass."""
    order = sorted(range(len(pool)), key=lambda index: -len(pool[index].labels))
    nats = [0.0] * len(pool)
    while order:
        longest = len(pool[order[0]].labels)
        size = max(1, LOGITS_BYTES // (4 * vocabulary * longest))
        batch, order = order[:size], order[size:]
        context = _padded((pool[index].context for index in batch), longest, 0)
        labels = _padded((pool[index].labels for index in batch), longest, IGNORED)
        logits = model(input_ids=context, use_cache=False).logits.float()
        losses = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED, reduction="none"
        )
        sums = losses.reshape(labels.shape).double().sum(dim=1).tolist()
        for index, value in zip(batch, sums, strict=True):
            nats[index] = value
    return nats


def _padded(rows: Iterable[list[int]], length: int, padding: int) -> torch.Tensor:
    # Padding stands on the right, where no earlier id attends to it.
    return torch.tensor([[*row, *([padding] * (length - len(row)))] for row in rows], dtype=torch.int64)
