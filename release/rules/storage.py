"""Rules about how checkpoints are stored: each with weights of its own, none as a pickle."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from open360.release.building import is_state, weight_files
from open360.release.findings import EvidenceLevel, Finding, Part, Severity
from open360.release.hub_objects import RemoteFile
from open360.release.listed_view import SeenCheckpoint
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
LARGEST_DIFFERENCE, HEADER_BYTES = 0.02, 4096


class RepeatedWeights(Rule):
    """Two checkpoints hold the same weights.

    ## What it does
    Compares the digests of the weights of all checkpoints: those of the manifest, of what the target lists, and at
    level `hashed` of the bytes. Nothing is downloaded for the first two. Weights in several files are equal when all
    files are; a single file that two checkpoints share is told as such, unless all checkpoints of the run share it
    (embeddings that were frozen). Checkpoints that are equal on purpose are named in the series (`equal`); the first
    checkpoint of a run may equal its parent. Of equal ones, the checkpoint that has an alias (`main`) is taken to be
    right, else the first.

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
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint that holds the weights of another."""
        equal = [set(group) for run in release.spec.all_runs() if run.series is not None for group in run.series.equal]
        weights = [(seen, _file_digests(release, seen)) for seen in release.checkpoints]
        whole = [(seen, sorted(_weight_digests(seen, files))) for seen, files in weights]
        parts = [(seen, sorted({digest for found in files for digest in found.values()})) for seen, files in weights]
        owners, part_owners = _owners(whole), _owners(parts)
        frozen = _shared_by_all(parts)
        for (seen, found), (_, files) in zip(whole, weights, strict=True):
            owner = _other_owner(seen, found, owners, equal)
            message = f"its weights are those of '{owner.name}' (step {owner.step})" if owner is not None else None
            for name, digest in () if owner is not None else _names_of_parts(files):
                other = _other_owner(seen, [digest], part_owners, equal)
                if other is not None and digest not in frozen[seen.run.name]:
                    message = f"its file '{name}' is that of '{other.name}' (step {other.step})"
                    break
            if message is not None:
                fix = "publish the right weights, or list both names in 'equal' of the series"
                yield self.finding(release.place_of_checkpoint(seen, "tensors"), seen.name, message, fix)


Digests = list[tuple[SeenCheckpoint, list[str]]]


def _owners(digests: Digests) -> dict[str, SeenCheckpoint]:
    """The checkpoint that each digest is taken to belong to."""
    owners: dict[str, SeenCheckpoint] = {}
    for seen, found in digests:
        for digest in found:
            if digest not in owners or (_has_alias(seen) and not _has_alias(owners[digest])):
                owners[digest] = seen
    return owners


def _other_owner(
    seen: SeenCheckpoint, found: list[str], owners: Mapping[str, SeenCheckpoint], equal: list[set[str]]
) -> SeenCheckpoint | None:
    others = (owners[digest] for digest in found if owners[digest] is not seen)
    return next((other for other in others if not _is_meant(seen, other, equal)), None)


def _shared_by_all(parts: Digests) -> dict[str, set[str]]:
    """For each run the digests of files that all its checkpoints with weights hold."""
    shared: dict[str, set[str]] = {}
    for seen, found in parts:
        if found:
            shared[seen.run.name] = shared.get(seen.run.name, set(found)) & set(found)
    return shared


def _has_alias(seen: SeenCheckpoint) -> bool:
    """Whether a checkpoint is also known as `main` or so: its weights are then the ones that are most likely right."""
    return seen.run.series is not None and seen.name in seen.run.series.aliases.values()


def _is_meant(seen: SeenCheckpoint, owner: SeenCheckpoint, equal: list[set[str]]) -> bool:
    """Whether two checkpoints are equal on purpose: declared so, or one is where a run starts."""
    starts = seen.run.name != owner.run.name and 0 in (seen.step, owner.step)
    return starts or any({owner.name, seen.name} <= group for group in equal)


def _weight_digests(checkpoint: SeenCheckpoint, files: list[dict[str, str]]) -> set[str]:
    """Digests that only equal weights share: that of the tensors, and those of all files together."""
    found = {checkpoint.record.tensors.weights} if checkpoint.record is not None else set()
    return found | {"+".join(sorted(digests.values())) for digests in files}


def _file_digests(release: ReleaseView, checkpoint: SeenCheckpoint) -> list[dict[str, str]]:
    """Digests of the files that hold the weights: of the manifest or the revision; of the listing; of the bytes.

    Each is there where it knows all of the files. Where there are safetensors files, pickles beside them do not count.
    """
    names = _chosen_files(checkpoint.files)
    listed = {name: checkpoint.files[name] for name in names}
    sources = [{name: file.sha256 or file.git_id for name, file in listed.items()}]
    if checkpoint.record is not None:
        paths = {name: checkpoint.path(name) for name in names}
        sources.append({name: release.listing[path].sha256 for name, path in paths.items() if path in release.listing})
        if release.level.includes(EvidenceLevel.HASHED):
            known = release.digests
            sources.append({name: known[path].sha256 for name, path in paths.items() if path in known})
    told = ({name: digest for name, digest in source.items() if digest is not None} for source in sources)
    return [digests for digests in told if digests and len(digests) == len(names)]


def _names_of_parts(files: list[dict[str, str]]) -> list[tuple[str, str]]:
    """`(file, digest)` of each of several files that hold the weights together."""
    return list(dict.fromkeys(item for found in files if len(found) > 1 for item in sorted(found.items())))


def _chosen_files(files: Mapping[str, RemoteFile]) -> list[str]:
    """The files that a loader takes the weights from: those in safetensors, else the pickles; none that are empty."""
    names = [name for name in all_weight_files(files) if files[name].bytes]
    return [name for name in names if name.endswith(".safetensors")] or names


def all_weight_files(files: Iterable[str]) -> list[str]:
    """Files at the top of a checkpoint that hold weights, in whatever format."""
    names = list(files)
    pickles = [name for name in names if "/" not in name and name.endswith(PICKLE_SUFFIXES) and not is_state(name)]
    return [*weight_files(names), *sorted(pickles)]


class PickleWeights(Rule):
    """A checkpoint is stored as a pickle.

    ## What it does
    Looks for files such as `pytorch_model.bin`, `.pt`, `.ckpt` among the files of checkpoints and behind their other
    names (`main`), and for series of the format `pickle`.

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
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints, and other names of them."""
        return len(release.named_checkpoints)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each series, else for each checkpoint or alias."""
        told: set[str] = set()
        for checkpoint in release.named_checkpoints:
            run = checkpoint.run
            if run.series is not None and run.series.storage(checkpoint.declared_name)[0] == "pickle":
                if run.name not in told:
                    told.add(run.name)
                    place = release.place(f"{release.run_pointer(run.name)}/series/format")
                    message = f"the checkpoints of run '{run.name}' are pickles"
                    yield self.finding(place, run.name, message, "publish them as safetensors too")
                continue
            pickles = sorted(name for name in _files_of(release, checkpoint) if name.endswith(PICKLE_SUFFIXES))
            if pickles:
                message = f"'{checkpoint.name}' holds pickles: {', '.join(pickles[:5])}"
                yield self.finding(checkpoint.path(pickles[0]), checkpoint.name, message, "save them as safetensors")


def _files_of(release: ReleaseView, checkpoint: SeenCheckpoint) -> set[str]:
    """Files of a checkpoint that the manifest names or the target shows."""
    known = set(checkpoint.files)
    if checkpoint.record is not None:
        known |= release.listed_below(checkpoint.root)
    return known


class StorageChanges(Rule):
    """A checkpoint is stored otherwise than its siblings.

    ## What it does
    Compares format (safetensors or pickle), number of weight files and their bytes in all checkpoints of a run, from
    the listing. What most of them have is the rule; one whose bytes differ by more than 2 % holds another type or
    shape. Checkpoints of `stored_otherwise` are compared among themselves.

    ## Why is this bad?
    Differences between checkpoints then measure rounding instead of training, and scripts that walk along the series
    break in the middle.

    ## Example
    Ten branches with float32 weights of 27 GB in three files, and one with bfloat16 of 13 GB in two.

    ## Remedy
    Publish them all in one form, or declare the others in `stored_otherwise`.

    ## Seen in practice
    Amber's main branch was uploaded again in bfloat16, while its other branches stayed as they were.
    """

    code = "CKP017"
    name = "storage-changes"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint that is stored otherwise than most."""
        for checkpoints in release.checkpoints_by_run():
            groups: dict[tuple[str | None, str | None], list[tuple[SeenCheckpoint, Form]]] = defaultdict(list)
            for checkpoint in checkpoints:
                form = _form_of(checkpoint)
                series = checkpoint.run.series
                if form is not None and series is not None:
                    groups[series.storage(checkpoint.name)].append((checkpoint, form))
            for group in groups.values():
                yield from self._compare(release, group)

    def _compare(self, release: ReleaseView, group: list[tuple[SeenCheckpoint, Form]]) -> Iterator[Finding]:
        usual, _ = Counter((form.format, form.files) for _, form in group).most_common(1)[0]
        sizes = sorted(form.bytes for _, form in group if (form.format, form.files) == usual)
        middle = sizes[len(sizes) // 2]
        for checkpoint, form in group:
            wrong = []
            if form.format != usual[0]:
                wrong.append(f"its weights are {form.format}, those of most checkpoints {usual[0]}")
            elif form.files != usual[1]:
                wrong.append(f"its weights are in {form.files} files, those of most checkpoints in {usual[1]}")
            elif abs(form.bytes - middle) > max(LARGEST_DIFFERENCE * middle, HEADER_BYTES):
                wrong.append(f"its weights have {form.bytes} bytes, those of most checkpoints {middle}")
            if wrong:
                fix = "publish it in the form of the others, or declare it in 'stored_otherwise' of the series"
                yield self.finding(release.place_of_checkpoint(checkpoint), checkpoint.name, wrong[0], fix)


class Form(NamedTuple):
    """How weights are stored."""

    format: str
    files: int
    bytes: int


def _form_of(checkpoint: SeenCheckpoint) -> Form | None:
    chosen = _chosen_files(checkpoint.files)
    if not chosen or any(not checkpoint.files[name].bytes for name in all_weight_files(checkpoint.files)):
        return None  # empty files are missing parts, which another rule tells
    form = "safetensors" if chosen[0].endswith(".safetensors") else "pickles"
    return Form(form, len(chosen), sum(checkpoint.files[name].bytes for name in chosen))
