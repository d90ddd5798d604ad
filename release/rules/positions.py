"""Rules about what a checkpoint says of itself: its position, its configuration, its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from open360.release.building import POSITION_FILE
from open360.release.findings import EvidenceLevel, Finding
from open360.release.rules.rule import BOTH, Rule
from open360.release.view import ReleaseView
from open360.schema.manifest import CheckpointRecord, RunRecord

SWAPPED = "CKP004"
TRAIN_AGAIN = "build the checkpoint again, or publish the right one under this name"


def _positions(release: ReleaseView) -> Iterator[tuple[RunRecord, CheckpointRecord, str, dict[str, Any]]]:
    """Checkpoints with an intact position, its path and content."""
    for run, checkpoint in release.built_checkpoints():
        path = f"{checkpoint.folder}/{POSITION_FILE}"
        if release.intact(path):
            content = release.document(path)
            yield run, checkpoint, path, content if isinstance(content, dict) else {}


class SwappedCheckpoint(Rule):
    """A checkpoint says that it is another one.

    ## What it does
    Compares run, name, step, rows and tokens in `training_state/position.json`, which the trainer wrote beside the
    weights, and the digest of the weights in it, with the manifest.

    ## Why is this bad?
    The weights under this name are those of another step; two checkpoints were probably swapped.

    ## Example
    The folder `ckpt_003` with a position that says `"checkpoint": "ckpt_004"`.

    ## Remedy
    Put the right checkpoint there, or build it again.

    ## Seen in practice
    A checkpoint of a 12 B model scored like the last one of the run, at a quarter of the training: it was the last one.
    """

    code = SWAPPED
    name = "swapped-checkpoint"
    level = EvidenceLevel.LOADED

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint whose position is that of another."""
        for run, checkpoint, path, position in _positions(release):
            digests = position.get("tensors")
            weights = digests.get("weights") if isinstance(digests, dict) else None
            facts = [
                ("run", run.name, position.get("run")),
                ("checkpoint", checkpoint.name, position.get("checkpoint")),
                ("step", checkpoint.step, position.get("step")),
                ("next_row", checkpoint.end_row, position.get("next_row")),
                ("tokens", checkpoint.tokens, position.get("tokens")),
                ("digest of the weights", checkpoint.tensors.weights, weights or checkpoint.tensors.weights),
            ]
            wrong = [f"{name} {found}, expected {expected}" for name, expected, found in facts if expected != found]
            if wrong:
                message = f"its position says: {'; '.join(wrong)}"[:600]
                yield self.finding(path, checkpoint.name, message, TRAIN_AGAIN)


class WrongParent(Rule):
    """A checkpoint was made from other weights or rows than the manifest says.

    ## What it does
    Compares the digest of the parent's weights and of the rows in `training_state/position.json` with the parent and
    the chunk in the manifest. The first checkpoint of a run that starts from another run holds the weights of the
    checkpoint that the spec names.

    ## Why is this bad?
    The segment cannot be repeated: starting from the published parent with the published rows gives something else.

    ## Example
    `ckpt_002` was trained, then `ckpt_001` was trained again with another seed, and published.

    ## Remedy
    Train the segment again from the parent that is published.
    """

    code = "CKP006"
    name = "wrong-parent"
    level = EvidenceLevel.LOADED
    requires = BOTH | {SWAPPED}

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each digest that differs."""
        for run, checkpoint, path, position in _positions(release):
            weights = {other.name: other.tensors.weights for other in run.checkpoints}
            rows = {chunk.name: chunk.rows_sha256 for chunk in run.chunks}
            facts = [("parent_sha256", checkpoint.parent, weights), ("rows_sha256", checkpoint.chunk, rows)]
            for field, origin, known in facts:
                found = position.get(field)
                if origin in known and found != known[origin]:
                    message = f"{field} is {found}, but '{origin}' has {known[origin]}"
                    fix = "train this segment again: 'dvc repro'"
                    yield self.finding(path, checkpoint.name, message, fix)
        for name, record, above, parent in _starts(release):
            first = record.checkpoints[0]
            if first.step == 0 and first.tensors.weights != parent.tensors.weights:
                message = (
                    f"its weights are not those of '{parent.name}' of run '{above.name}', where run '{name}' starts"
                )
                fix = "train the run again from its parent, or declare the parent that it started from"
                yield self.finding(release.place_of(record, first, "tensors"), first.name, message, fix)


def _starts(release: ReleaseView) -> Iterator[tuple[str, RunRecord, RunRecord, CheckpointRecord]]:
    """`(run, its record, record of the parent run, the checkpoint it starts from)`, as far as they are here."""
    records = {record.name: record for record in release.manifest.runs}
    for run, record in release.built_runs():
        parent = run.parent
        above = records.get(parent.run) if parent is not None and parent.release is None else None
        if parent is None or above is None or not record.checkpoints:
            continue
        for checkpoint in above.checkpoints[-1:] if parent.final else above.checkpoints:
            if parent.final or checkpoint.name == parent.checkpoint or checkpoint.step == parent.step:
                yield run.name, record, above, checkpoint


class ConfigDiffers(Rule):
    """A checkpoint's configuration is not the architecture of its run.

    ## What it does
    Compares each key of `architecture` in the spec with `config.json` of every checkpoint. A key that `config.json`
    leaves out has the default of its architecture there, and is not compared.

    ## Why is this bad?
    Loaders build the model from `config.json`: another number of heads or another epsilon gives other outputs from the
    same weights, often without an error.

    ## Example
    `rms_norm_eps: 1.0e-6` in the spec, `1e-05` in `config.json`.

    ## Remedy
    Correct whichever is wrong, and build the checkpoint again.

    ## Seen in practice
    In several releases the stated context length, batch size or schedule differs from what ran, since settings were
    overridden on the command line.
    """

    code = "CKP008"
    name = "config-differs"
    level = EvidenceLevel.LOADED

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint."""
        for run, record in release.built_runs():
            for checkpoint in record.checkpoints:
                path = f"{checkpoint.folder}/config.json"
                if not release.intact(path):
                    continue
                config = release.document(path)
                config = config if isinstance(config, dict) else {}
                wrong = [
                    f"{key} is {config.get(key)!r}, declared {value!r}"
                    for key, value in run.architecture.items()
                    if config.get(key, value if key != "model_type" else None) != value
                ]
                if wrong:
                    message = f"its configuration differs: {'; '.join(wrong)}"[:600]
                    yield self.finding(path, checkpoint.name, message, "correct the one that is wrong, build again")


class TokenizerDiffers(Rule):
    """A checkpoint has another tokenizer than its corpus.

    ## What it does
    Compares the sha256 of `tokenizer.json` in every checkpoint with that of the run's corpus.

    ## Why is this bad?
    The model is fed other ids than it was trained on. It answers with slightly or entirely wrong text, and nothing
    says why.

    ## Example
    One branch with a `tokenizer.json` that was saved again by a newer library.

    ## Remedy
    Put the tokenizer of the corpus into the checkpoint.

    ## Seen in practice
    The notes of Pythia warn that one does not always end up with the right tokenizer, for reasons that could not be
    found; a checkpoint of nanochat wrote gibberish since it came with another one.
    """

    code = "CKP009"
    name = "tokenizer-differs"

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint."""
        expected = {corpus.name: corpus.tokenizer_sha256 for corpus in release.manifest.corpora}
        for run, checkpoint in release.built_checkpoints():
            for file in checkpoint.files:
                digest = expected.get(run.corpus or "")
                if file.path == "tokenizer.json" and digest is not None and file.sha256 != digest:
                    message = f"its tokenizer has sha256 {file.sha256}, that of corpus '{run.corpus}' {digest}"
                    fix = "put the tokenizer of the corpus into the checkpoint"
                    yield self.finding(f"{checkpoint.folder}/{file.path}", checkpoint.name, message, fix)
