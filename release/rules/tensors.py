"""Rules about tensors, by their headers and digests: readable, those of the manifest, those of the architecture."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.building import OPTIMIZER_FILE, weight_files
from open360.release.evidence.once import once
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.hashing import tensors_digest_of
from open360.release.listed_view import SeenCheckpoint
from open360.release.rules.architectures import expected_shapes, ignorable
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.digests import TensorFileError, TensorSpan
from open360.schema.manifest import CheckpointRecord, RunRecord
from open360.schema.run import Run

WRONG_SHAPES, UNREADABLE = "CKP011", "CKP015"
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
BUILD_AGAIN = "build the checkpoint again, or fetch it again"
MAX_SHOWN = 5


class UnreadableTensors(Rule):
    """A weights file is not a safetensors file.

    ## What it does
    Reads the header of every safetensors file of every checkpoint: its length, names, types, shapes and offsets must
    be possible and fill the file without holes.

    ## Why is this bad?
    Loaders fail on it, or read what is not there. A header that claims 10 GB in a file of 1 kB is an attack.

    ## Example
    A file that was cut short by an interrupted upload.

    ## Remedy
    Fetch or build the file again.

    ## Seen in practice
    Uploads of Pythia broke off at the Hub's limits and were finished by hand; users met the incomplete branches when
    loading failed.
    """

    code = UNREADABLE
    name = "unreadable-tensors"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints with safetensors files."""
        return sum(bool(_tensor_paths(seen)) for seen in release.checkpoints)

    def unseen(self, release: ReleaseView) -> int:
        """Those of them outside the sample, or with such a file that is not intact."""
        paths = [found for seen in release.loaded_checkpoints if (found := _tensor_paths(seen))]
        return self.claims(release) - sum(all(map(release.intact, found)) for found in paths)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file."""
        for checkpoint in release.loaded_checkpoints:
            for path in _tensor_paths(checkpoint):
                if release.intact(path):
                    try:
                        release.tensor_file(path)
                    except TensorFileError as error:
                        yield self.finding(path, checkpoint.name, error.problem, BUILD_AGAIN)


def _tensor_paths(checkpoint: SeenCheckpoint) -> list[str]:
    """Paths of all safetensors files of a checkpoint: weights, and states of the optimizer."""
    return [checkpoint.path(inside) for inside in checkpoint.files if inside.endswith(".safetensors")]


class WrongTensorsDigest(Rule):
    """The tensors of a checkpoint are not those of the manifest.

    ## What it does
    Computes the tensors digest (over names, types, shapes and payloads) of weights and optimizer state and compares it
    with the manifest.

    ## Why is this bad?
    The tensors digest is what two parties compare when a checkpoint was saved again by other software; a wrong one
    makes equal weights look different, and different ones equal.

    ## Example
    A manifest whose files were updated by hand, but not its tensors digests.

    ## Remedy
    Build the manifest again.

    ## Seen in practice
    Amber's main branch was uploaded again in another precision; without a digest of the tensors nobody can tell whether
    two copies of it hold the same numbers.
    """

    code = "CKP010"
    name = "wrong-tensors-digest"
    level = EvidenceLevel.HASHED
    part = Part.CHECKPOINT

    def unseen(self, release: ReleaseView) -> int:
        """Checkpoints of which a file is not intact, or not on this disk where it has to be."""
        return sum(any(found is None for _, _, found in parts) for _, _, parts in _compared(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each digest that differs."""
        for run, checkpoint, parts in _compared(release):
            for part, expected, found in parts:
                if found is not None and found != expected:
                    message = f"expected the tensors digest {expected} of its {part}, found {found}"
                    place = release.place_of(run, checkpoint, f"tensors/{part}")
                    yield self.finding(place, checkpoint.name, message, "run 'dvc repro manifest'")


@once
def _compared(release: ReleaseView) -> list[tuple[RunRecord, CheckpointRecord, list[tuple[str, str, str | None]]]]:
    """Every checkpoint with `(part, tensors digest by the manifest, digest of what is there)`."""
    return [
        (
            run,
            checkpoint,
            [(part, expected, _digest(release, paths)) for part, paths, expected in _parts_of(checkpoint)],
        )
        for run, checkpoint in release.built_checkpoints()
    ]


def _parts_of(checkpoint: CheckpointRecord) -> list[tuple[str, list[str], str]]:
    """`(what, paths, tensors digest by the manifest)` of weights, and of the state of the optimizer where it is."""
    weights = [f"{checkpoint.folder}/{path}" for path in weight_files(file.path for file in checkpoint.files)]
    parts = [("weights", weights, checkpoint.tensors.weights)]
    if checkpoint.tensors.optimizer is not None:
        parts.append(("optimizer", [f"{checkpoint.folder}/{OPTIMIZER_FILE}"], checkpoint.tensors.optimizer))
    return parts


def _digest(release: ReleaseView, paths: list[str]) -> str | None:
    """Tensors digest of intact files, as far as they lie on this disk."""
    if not paths or not all(release.intact(path) for path in paths):
        return None
    if len(paths) == 1:
        return release.digests[paths[0]].tensors
    files = [release.target.local_path(path) for path in paths]
    try:
        return tensors_digest_of(file for file in files if file is not None) if all(files) else None
    except TensorFileError:
        return None  # a rule of its own reports it


class WrongShapes(Rule):
    """The tensors of a checkpoint do not fit the architecture.

    ## What it does
    Reads the headers of the weights. For Llama-like architectures names and shapes follow from the spec; for others
    all checkpoints of a run must agree with the first. The type must be that of the series (`dtype`).

    ## Why is this bad?
    Loaders drop tensors with unknown names and make up missing ones at random, mostly with a warning only.

    ## Example
    `lm_head.weight` missing in one checkpoint, though `tie_word_embeddings` is false.

    ## Remedy
    Convert or build the checkpoint again.

    ## Seen in practice
    Amber's main branch was uploaded again in bfloat16, while the other branches hold float32.
    """

    code = WRONG_SHAPES
    name = "wrong-shapes"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ, UNREADABLE})
    part = Part.CHECKPOINT

    def unseen(self, release: ReleaseView) -> int:
        """Checkpoints outside the sample, and those without intact safetensors files."""
        return len(release.checkpoints) - sum(bool(_spans(release, seen)) for seen in release.loaded_checkpoints)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint."""
        for checkpoints in release.checkpoints_by_run(release.loaded_checkpoints):
            run = checkpoints[0].run
            expected = expected_shapes(run.architecture)
            origin = "the architecture"
            for checkpoint in checkpoints:
                spans = _spans(release, checkpoint)
                if not spans:
                    continue
                found = {name: span.shape for name, span in spans.items()}
                if expected is None:
                    expected, origin = found, f"'{checkpoint.name}'"
                wrong = [*_differences(expected, found), *_wrong_types(run, checkpoint, spans)]
                if wrong:
                    more = f" and {len(wrong) - MAX_SHOWN} more" if len(wrong) > MAX_SHOWN else ""
                    message = f"its tensors do not fit {origin}: {'; '.join(wrong[:MAX_SHOWN])}{more}"
                    path = release.weight_paths(checkpoint)[0]
                    yield self.finding(path, checkpoint.name, message, "convert or build the checkpoint again")


def _spans(release: ReleaseView, checkpoint: SeenCheckpoint) -> dict[str, TensorSpan]:
    paths = release.weight_paths(checkpoint)
    if not all(release.intact(path) for path in paths):
        return {}
    return {span.name: span for path in paths for span in release.tensor_file(path).spans if not ignorable(span.name)}


def _differences(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield f"'{name}' is missing"
        elif name not in expected:
            yield f"'{name}' is too much"
        elif expected[name] != found[name]:
            yield f"'{name}' has shape {list(found[name])}, expected {list(expected[name])}"


def _wrong_types(run: Run, checkpoint: SeenCheckpoint, spans: dict[str, TensorSpan]) -> Iterator[str]:
    if run.series is None:
        return
    _, declared = run.series.storage(checkpoint.name)
    for name, span in sorted(spans.items()):
        if declared is not None and span.dtype != DTYPES[declared]:
            yield f"'{name}' is {span.dtype}, expected {DTYPES[declared]}"
