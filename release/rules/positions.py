"""Rules about what a checkpoint says of itself: its position, its configuration, its tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from open360.release.building import POSITION_FILE
from open360.release.evidence.once import once
from open360.release.evidence.run_configurations import (
    MAX_COMPARED_BYTES,
    UsualConfiguration,
    configuration_texts,
    dtype_of,
)
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.hub_objects import RemoteFile
from open360.release.listed_view import SeenCheckpoint
from open360.release.rules.rule import BOTH, SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.manifest import CheckpointRecord, RunRecord
from open360.schema.series import PositionFile

SWAPPED = "CKP004"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
TRAIN_AGAIN = "build the checkpoint again, or publish the right one under this name"


@once
def _positions(release: ReleaseView) -> list[tuple[str, CheckpointRecord, str, dict[str, Any]]]:
    """Checkpoints of ours with an intact position: run, record, and the position's path and content."""
    found = []
    for seen in release.loaded_checkpoints:
        path = seen.path(POSITION_FILE)
        if seen.record is not None and release.intact(path):
            content = release.document(path)
            found.append((seen.run.name, seen.record, path, content if isinstance(content, dict) else {}))
    return found


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
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints that open360's trainer wrote."""
        return sum(seen.record is not None for seen in release.checkpoints)

    def unseen(self, release: ReleaseView) -> int:
        """Those of them outside the sample, or without an intact position."""
        return self.claims(release) - len(_positions(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint whose position is that of another."""
        for run, checkpoint, path, position in _positions(release):
            digests = position.get("tensors")
            weights = digests.get("weights") if isinstance(digests, dict) else None
            facts = [
                ("run", run, position.get("run")),
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

    ## Seen in practice
    The script of the long-context stage of OLMo-3-32B loads the end of stage 1; its README says that the stage follows
    the merged weights of stage 2.
    """

    code = "CKP006"
    name = "wrong-parent"
    level = EvidenceLevel.LOADED
    requires = BOTH | {SWAPPED}
    part = Part.CHECKPOINT

    def unseen(self, release: ReleaseView) -> int:
        """Checkpoints outside the sample, or without an intact position."""
        return self.claims(release) - len(_positions(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each digest that differs."""
        records = {record.name: record for record in release.manifest.runs}
        for name, checkpoint, path, position in _positions(release):
            run = records[name]
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
    Compares each key of `architecture` in the spec with `config.json` of every checkpoint, and behind its other names
    (`main`); `dtype` (`torch_dtype`) with that of the series; keys that the spec does not state, and a dtype that it
    does not, with most checkpoints of the run. A key that `config.json` leaves out has the default of its architecture
    there, and is not compared; nor is what libraries write of themselves.

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
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints, and other names of them."""
        return len(release.named_checkpoints)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint or alias."""
        close = release.level.includes(EvidenceLevel.HASHED)
        everything = release.named_checkpoints
        release.fetch("config.json", everything)
        usual = _usual_configurations(release, close=close)
        for checkpoint in everything:
            path = checkpoint.path("config.json")
            if "config.json" not in checkpoint.files or (close and not release.intact(path)):
                continue
            config = release.document(path)
            if config is None and checkpoint.record is not None and not close:
                continue  # a file that is not there, or not readable, is told by a rule of its own
            config = config if isinstance(config, dict) else {}
            wrong = [
                f"{key} is {config.get(key)!r}, declared {value!r}"
                for key, value in checkpoint.run.architecture.items()
                if config.get(key, value if key != "model_type" else None) != value
            ]
            wrong += _unlike_most(checkpoint, config, usual)
            if wrong:
                message = f"its configuration differs: {'; '.join(wrong)}"[:600]
                yield self.finding(path, checkpoint.name, message, "correct the one that is wrong, build again")


def _usual_configurations(release: ReleaseView, *, close: bool) -> dict[str, UsualConfiguration]:
    """What most checkpoints of each run say in their configurations."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for checkpoint in release.checkpoints:
        path = checkpoint.path("config.json")
        if not _is_compared(checkpoint) or (close and not release.intact(path)):
            continue
        config = release.document(path)
        if isinstance(config, dict):
            found.setdefault(checkpoint.run.name, []).append(configuration_texts(config))
    return {name: UsualConfiguration(configs) for name, configs in found.items()}


def _is_compared(checkpoint: SeenCheckpoint) -> bool:
    return "config.json" in checkpoint.files and checkpoint.files["config.json"].bytes <= MAX_COMPARED_BYTES


def _unlike_most(
    checkpoint: SeenCheckpoint, config: Mapping[str, Any], usual: Mapping[str, UsualConfiguration]
) -> Iterator[str]:
    """How a configuration differs from the declared dtype, and from most of its run."""
    series, most = checkpoint.run.series, usual.get(checkpoint.run.name)
    declared = series.storage(checkpoint.declared_name)[1] if series is not None else None
    found = dtype_of(config)
    if declared is not None and found is not None and found != declared:
        yield f"dtype is '{found}', declared '{declared}'"
    elif declared is None and found is not None and most is not None and found != (most.dtype or found):
        yield f"dtype is '{found}', in most checkpoints '{most.dtype}'"
    if most is not None and _is_compared(checkpoint):
        yield from most.differences(configuration_texts(config), checkpoint.run.architecture)


class TokenizerDiffers(Rule):
    """A checkpoint has another tokenizer than its corpus.

    ## What it does
    Compares the tokenizer's files (`tokenizer.json`, `tokenizer.model`, `vocab.json`, `merges.txt`) in every checkpoint
    with those of the run's corpus, where the manifest or the spec has their sha256, else with those of most
    checkpoints of the run; so in the revisions that are other names of a checkpoint (`main`). The listing says enough:
    nothing is read.

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
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints, and other names of them."""
        return len(release.named_checkpoints)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint or alias."""
        for checkpoints in release.checkpoints_by_run(release.named_checkpoints):
            expected = _declared_tokenizer(release, checkpoints[0])
            for name in TOKENIZER_FILES:
                contents = Counter(
                    _content(checkpoint.files[name])
                    for checkpoint in checkpoints
                    if name in checkpoint.files and checkpoint.alias_of is None
                )
                usual = contents.most_common(1)[0][0] if contents else None
                wanted = expected.get(name, usual)
                origin = "its corpus" if name in expected else "most checkpoints"
                for checkpoint in checkpoints:
                    found = _content(checkpoint.files[name]) if name in checkpoint.files else None
                    comparable = found is not None and wanted is not None and len(found) == len(wanted)
                    if comparable and found != wanted:
                        message = f"its {name} has the digest {found}, that of {origin} {wanted}"
                        fix = "put the tokenizer of the corpus into the checkpoint"
                        yield self.finding(checkpoint.path(name), checkpoint.name, message, fix)
                        break


def _content(file: RemoteFile) -> str | None:
    """What only equal files share: the sha256 where it is listed, else the git id."""
    return file.sha256 or file.git_id


def _declared_tokenizer(release: ReleaseView, checkpoint: SeenCheckpoint) -> dict[str, str]:
    """sha256 of the tokenizer's files, as far as the manifest or the spec says them."""
    corpus = release.spec.corpus_of(checkpoint.run)
    if corpus is None:
        return {}
    if release.readable_manifest is not None:
        built = {record.name: record.tokenizer_sha256 for record in release.manifest.corpora}
        return {"tokenizer.json": built[corpus.name]} if corpus.name in built else {}
    files = corpus.tokenizer.files if corpus.tokenizer is not None else ()
    return {file.path.rsplit("/", 1)[-1]: file.sha256 for file in files}


class PositionNotContinued(Rule):
    """A checkpoint's own note of where the training stood is not what the schedule says.

    ## What it does
    Reads the small JSON file in each revision that the series names (`position`), and compares its step, its tokens,
    and its epoch and rows of the epoch with the schedule: with `n` rows an epoch, checkpoint `s` has finished
    `rows(s) // n` epochs and seen `rows(s) % n` rows of the next.

    ## Why is this bad?
    After a restart, rows were seen twice or left out: the published order is not the one that was trained.

    ## Example
    Step 9,000 lies in the second epoch, and its state says that 12 rows of the first one were seen.

    ## Remedy
    Declare what happened (`restarts`, `skipped`, a run of its own from there on), or publish the right state.

    ## Seen in practice
    Resuming OLMo in a second epoch did not restore the epoch and did not reset the first row: data was skipped or
    repeated after a restart, until the trainer was mended.
    """

    code = "CKP018"
    name = "position-not-continued"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints of series that name such a file."""
        return sum(_position_file(seen) is not None for seen in release.checkpoints)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint."""
        for path in {file.path for seen in release.checkpoints if (file := _position_file(seen)) is not None}:
            release.fetch(path, release.checkpoints)
        for seen in release.checkpoints:
            file = _position_file(seen)
            if file is None:
                continue
            path = seen.path(file.path)
            noted = release.document(path) if file.path in seen.files else None
            if not isinstance(noted, dict):
                message = f"its series names the position '{file.path}': expected a JSON file there, found none"
                yield self.finding(path, seen.name, message, "publish it, or correct 'position' of the series")
                continue
            wrong = [
                f"{key} is {noted.get(key)!r}, expected {value}"
                for key, value in _expected_position(release, seen, file)
                if noted.get(key) != value
            ]
            if wrong:
                message = f"its position says: {'; '.join(wrong)}"[:600]
                fix = "declare what happened as 'restarts' or 'skipped', or publish the right state"
                yield self.finding(path, seen.name, message, fix)


def _position_file(seen: SeenCheckpoint) -> PositionFile | None:
    return seen.run.series.position if seen.run.series is not None else None


def _expected_position(
    release: ReleaseView, seen: SeenCheckpoint, file: PositionFile
) -> Iterator[tuple[str, int | None]]:
    """`(key, value)` of what the schedule says; nothing where it does not."""
    rows = release.rows_at(seen.run, seen.step)
    corpus = release.spec.corpus_of(seen.run)
    an_epoch = corpus.files.total_rows if corpus is not None and corpus.files is not None else None
    if file.step is not None:
        yield file.step, seen.step
    if file.tokens is not None and seen.tokens is not None:
        yield file.tokens, seen.tokens
    if rows is not None and an_epoch is not None:
        if file.epoch is not None:
            yield file.epoch, rows // an_epoch
        if file.rows is not None:
            yield file.rows, rows % an_epoch
