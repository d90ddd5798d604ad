"""Rules about how checkpoints are stored: each with weights of its own, none as a pickle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from open360.release.building import weight_files
from open360.release.findings import EvidenceLevel, Finding, Severity
from open360.release.rules.rule import Rule
from open360.release.view import ReleaseView
from open360.schema.manifest import CheckpointRecord, RunRecord

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class RepeatedWeights(Rule):
    """Two checkpoints hold the same weights.

    ## What it does
    Compares the digests of the weights of all checkpoints: those of the manifest, of what the target lists, and at
    level `hashed` of the bytes. Nothing is downloaded for the first two. Checkpoints that are equal on purpose are
    named in the series (`equal`); the first checkpoint of a run may equal its parent.

    ## Why is this bad?
    One of them is not what its name says: every result obtained with it is about another step.

    ## Example
    `ckpt_005` and `ckpt_006` with one digest.

    ## Remedy
    Publish the right weights, or declare them in `equal` when no step lies between that changes anything.

    ## Seen in practice
    86 of 154 branches of pythia-2.8b served the weights of another checkpoint, most of them those of the last; three
    steps of OLMo-2-7B shared all their files. Both can be seen in the listing, and were found years later.
    """

    code = "CKP003"
    name = "repeated-weights"

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint that repeats an earlier one."""
        equal = [set(group) for run in release.spec.all_runs() if run.series is not None for group in run.series.equal]
        seen: dict[str, tuple[RunRecord, CheckpointRecord]] = {}
        for run, checkpoint in release.built_checkpoints():
            digests = set(_weight_digests(release, checkpoint))
            before = next((seen[digest] for digest in sorted(digests) if digest in seen), None)
            for digest in digests:
                seen.setdefault(digest, (run, checkpoint))
            if before is None or any({before[1].name, checkpoint.name} <= group for group in equal):
                continue
            if before[0] is not run and checkpoint.step == 0:
                continue
            message = f"its weights are those of '{before[1].name}' (step {before[1].step})"
            fix = "publish the right weights, or list both names in 'equal' of the series"
            yield self.finding(release.place_of(run, checkpoint, "tensors"), checkpoint.name, message, fix)


def _weight_digests(release: ReleaseView, checkpoint: CheckpointRecord) -> Iterator[str]:
    """Digests that only equal weights share."""
    yield checkpoint.tensors.weights
    weights = weight_files(file.path for file in checkpoint.files)
    for file in checkpoint.files:
        if file.path not in weights:
            continue
        yield file.sha256
        path = f"{checkpoint.folder}/{file.path}"
        if release.level.includes(EvidenceLevel.LISTED) and path in release.listing:
            listed = release.listing[path].sha256
            if listed is not None:
                yield listed
        if release.level.includes(EvidenceLevel.HASHED) and path in release.digests:
            yield release.digests[path].sha256


class PickleWeights(Rule):
    """A checkpoint is stored as a pickle.

    ## What it does
    Looks for files such as `pytorch_model.bin`, `.pt`, `.ckpt` among the files of checkpoints, and for series of the
    format `pickle`.

    ## Why is this bad?
    Loading a pickle can run any program that its author put in. Its bytes also change from save to save, so equal
    weights have no equal digest.

    ## Example
    `pytorch_model-00001-of-00002.bin`

    ## Remedy
    Save weights and optimizer state as safetensors.

    ## Seen in practice
    Most of the intermediate checkpoints of Amber and of early Pythia models are pickles.
    """

    code = "CKP007"
    name = "pickle-weights"
    severity = Severity.WARNING

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each series, else for each checkpoint."""
        for run, record in release.built_runs():
            if run.series is not None and run.series.format == "pickle":
                place = release.place(f"{release.run_pointer(run.name)}/series/format")
                message = f"the checkpoints of run '{run.name}' are pickles"
                yield self.finding(place, run.name, message, "publish them as safetensors too")
                continue
            known = {f"{c.folder}/{file.path}" for c in record.checkpoints for file in c.files}
            listed = set(release.listing) if release.level.includes(EvidenceLevel.LISTED) else set()
            by_checkpoint: dict[str, list[str]] = defaultdict(list)
            for path in sorted(known | listed):
                parts = path.split("/")
                if path.startswith(f"runs/{run.name}/checkpoints/") and path.endswith(PICKLE_SUFFIXES):
                    by_checkpoint[parts[3]].append(path)
            for name, paths in by_checkpoint.items():
                message = f"'{name}' holds pickles: {', '.join(path.rsplit('/', 1)[1] for path in paths[:5])}"
                yield self.finding(paths[0], name, message, "save them as safetensors")
