"""Rules about the set of checkpoints: the declared ones are there, complete, and joined into a chain."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.building import parts_held
from open360.release.evidence.declared_names import read_names
from open360.release.findings import EvidenceLevel, Finding, Location, Part, Severity
from open360.release.hashing import TENSOR_SUFFIX
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.listed_view import NO_MANIFEST, SeenCheckpoint
from open360.release.rules.rule import SPEC_READ, CannotCheckError, Rule
from open360.release.rules.storage import all_weight_files
from open360.release.survey import revision_root
from open360.release.view import ReleaseView
from open360.schema.layout import MANIFEST_FILE
from open360.schema.manifest import CheckpointRecord, RunRecord
from open360.schema.run import Run
from open360.schema.schedule import CheckpointPlan
from open360.schema.series import Series

BUILD_AGAIN = "run 'dvc repro' to build what is missing, or correct the series"
PUBLISH_IT = "publish it, or list it in 'missing' of the series with the reason"
COMPLETE_IT = "build the checkpoint again and publish all of it, or declare what is there"
STATE_SUFFIXES = (TENSOR_SUFFIX, ".pt", ".pth", ".bin", ".ckpt", ".npz", ".npy", ".pkl", ".pickle", ".distcp", ".h5")
LEAST_STATE_BYTES = 64
MAX_SHOWN = 5
HOUSEKEEPING = frozenset({".gitattributes", ".gitignore", "README.md"})


class SeriesIncomplete(Rule):
    """The checkpoints are not those that the series declares.

    ## What it does
    Works out names, steps and tokens of all checkpoints from the spec and compares them, both ways, with the manifest,
    or with the branches and tags on the Hub where there is none. Checkpoints that the series lists as `missing`, with
    the reason, are not asked for. A branch that differs in its token count only is told by another rule. Names that
    look like those of checkpoints and fit no series (`Step8`, `step32-v2`) are noted once for each repository.

    ## Why is this bad?
    Who studies training over time finds holes where checkpoints were promised, or reads steps and tokens off names
    that are wrong.

    ## Example
    `series: {name: "ckpt_{index:03d}", every: 22}` over 264 steps, and a manifest without `ckpt_007`.

    ## Remedy
    Build what is missing, or list it in `missing` with the reason.

    ## Seen in practice
    Stage 2 of an OLMo model was announced with all its checkpoints and published with the last one only; lists of
    checkpoints held duplicates, wrong links and token counts shifted by one interval.
    """

    code = "CKP001"
    name = "series-incomplete"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints that are declared."""
        return sum(len(release.plans(run)) for run in release.spec.all_runs())

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint (or run) that is missing, too many or at another place."""
        if release.foreign is not None:
            for repo in release.foreign.model_repos:
                yield from self._check_branches(release, repo)
            return
        if release.readable_manifest is None:
            raise CannotCheckError(NO_MANIFEST)
        built = {record.name: record for record in release.manifest.runs}
        declared = {run.name: run for run in release.spec.all_runs()}
        for name in sorted(declared.keys() - built.keys()):
            place = release.place(release.run_pointer(name))
            yield self.finding(place, name, f"run '{name}' is declared, but not in the manifest", BUILD_AGAIN)
        for name in sorted(built.keys() - declared.keys()):
            message = f"run '{name}' is in the manifest, but not declared"
            yield self.finding(Location(path=MANIFEST_FILE, pointer="/runs"), name, message, "declare it in the spec")
        for run, record in release.built_runs():
            yield from self._check_run(release, run, record)

    def _check_branches(self, release: ReleaseView, repo: Repo) -> Iterator[Finding]:
        found = read_names(release, repo)
        for run, plan in found.missing:
            if run.series is not None and not _is_excused(run.series, plan):
                place = release.place(f"{release.run_pointer(run.name)}/series")
                message = f"checkpoint '{plan.name}' (step {plan.step}) is declared, but {repo} has no such revision"
                yield self.finding(place, plan.name, message, PUBLISH_IT)
        for run, revision in found.undeclared:
            message = f"it is called like a checkpoint of run '{run.name}', but its series does not declare it"
            fix = "remove it, or declare it in the series"
            yield self.finding(revision_root(repo, revision), revision, message, fix)
        if found.alike:
            names = ", ".join(f"'{name[:80]}'" for name in found.alike[:MAX_SHOWN])
            more = len(found.alike) - MAX_SHOWN
            message = f"a branch is called {names}, which no series declares"
            if len(found.alike) > 1:
                message = (
                    f"branches are called {names}{f' and {more} more' if more > 0 else ''}: no series declares them"
                )
            note = self.finding(str(repo), repo.id, message, "remove what is no checkpoint, or declare it")
            yield note.model_copy(update={"severity": Severity.NOTE})

    def _check_run(self, release: ReleaseView, run: Run, record: RunRecord) -> Iterator[Finding]:
        plans = {plan.name: plan for plan in release.plans(run)}
        found = {checkpoint.name: checkpoint for checkpoint in record.checkpoints}
        for name, plan in plans.items():
            if name not in found and run.series is not None and not _is_excused(run.series, plan):
                place = release.place(f"{release.run_pointer(run.name)}/series")
                message = f"checkpoint '{name}' (step {plan.step}) of run '{run.name}' is declared, but not there"
                yield self.finding(place, name, message, BUILD_AGAIN)
        unplaced = run.series.unplaced if run.series is not None else ()
        for name, checkpoint in found.items():
            if name in plans:
                yield from self._compare(release, record, checkpoint, plans[name])
            elif name not in unplaced:
                message = f"checkpoint '{name}' of run '{run.name}' is there, but its series does not declare it"
                fix = "remove it, or declare it in the series"
                yield self.finding(release.place_of(record, checkpoint), name, message, fix)

    def _compare(
        self, release: ReleaseView, run: RunRecord, checkpoint: CheckpointRecord, plan: CheckpointPlan
    ) -> Iterator[Finding]:
        facts = [("step", plan.step, checkpoint.step), ("tokens", plan.tokens, checkpoint.tokens)]
        for field, expected, found in facts:
            if expected is not None and expected != found:
                message = f"expected {field} {expected} by the series, found {found}"
                place = release.place_of(run, checkpoint, field)
                yield self.finding(place, checkpoint.name, message, "build the manifest again, or correct the series")


def _is_excused(series: Series, plan: CheckpointPlan) -> bool:
    return series.published == "some" or any(gap.first <= plan.step <= gap.last for gap in series.missing)


class MissingPart(Rule):
    """A checkpoint lacks a part that it needs.

    ## What it does
    Looks for weights, `config.json` and a tokenizer in every checkpoint and behind each of its other names (`main`),
    and for optimizer state, RNG state and data position in checkpoints where the series says so (`optimizer: always`
    or `final`). What the manifest says the checkpoint `holds` must be among its files. Empty files count as missing.

    ## Why is this bad?
    Without optimizer and RNG state nobody can go on from the checkpoint or repeat the next segment; without the
    tokenizer nobody can use it.

    ## Example
    `series: {optimizer: always}`, and a checkpoint without `training_state/optimizer.safetensors`.

    ## Remedy
    Build the checkpoint again, or declare what is there (`optimizer: final`, `never`).

    ## Seen in practice
    Amber's card says that optimizer states are released; none of its branches holds one. Branches of pythia-12b and
    pythia-6.9b were empty after uploads that met the Hub's limits, and three seeds of pythia-410m had no weights.
    """

    code = "CKP002"
    name = "missing-part"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints, and other names of them."""
        return len(release.named_checkpoints)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint or alias."""
        for checkpoints in release.checkpoints_by_run(release.named_checkpoints):
            last = max(checkpoint.step for checkpoint in checkpoints)
            if any(checkpoint.record is None for checkpoint in checkpoints):
                for name in {name for checkpoint in checkpoints for name in checkpoint.files if _is_index(name)}:
                    release.fetch(name, checkpoints)
            for checkpoint in checkpoints:
                missing = list(_missing_parts(release, checkpoint, is_last=checkpoint.step == last))
                if missing:
                    empty = not set(checkpoint.files) - HOUSEKEEPING
                    message = f"it holds no {', no '.join(missing)}" if not empty else "it is empty"
                    place = release.place_of_checkpoint(checkpoint)
                    yield self.finding(place, checkpoint.name, message, COMPLETE_IT)


def _missing_parts(release: ReleaseView, checkpoint: SeenCheckpoint, *, is_last: bool) -> Iterator[str]:
    needed = _needed_parts(checkpoint, is_last=is_last)
    if checkpoint.record is not None:
        held: set[str] = set(parts_held(name for name, file in checkpoint.files.items() if file.bytes))
        yield from (part for part in dict.fromkeys([*needed, *checkpoint.record.holds]) if part not in held)
    else:
        weights = all_weight_files(checkpoint.files)
        empty = [name for name in weights if not checkpoint.files[name].bytes]
        if len(empty) == len(weights):
            yield "weights"
        else:
            yield from (f"weights in '{name}', which is empty" for name in empty)
        yield from (f"'{name}', which its index lists" for name in _missing_shards(release, checkpoint))
        if "optimizer" in needed and not any(_is_optimizer(name, file) for name, file in checkpoint.files.items()):
            yield "optimizer state, which the release says it does"
    names = {path for path in checkpoint.files if "/" not in path}
    if "config.json" not in names:
        yield "configuration (config.json)"
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        yield "tokenizer"


def _is_optimizer(name: str, file: RemoteFile) -> bool:
    """Whether a file, by its name and size, holds optimizer state: tensors, not a note about them."""
    return "optim" in name.lower() and name.endswith(STATE_SUFFIXES) and file.bytes >= LEAST_STATE_BYTES


def _is_index(name: str) -> bool:
    return name.endswith((".safetensors.index.json", ".bin.index.json")) and "/" not in name


def _missing_shards(release: ReleaseView, checkpoint: SeenCheckpoint) -> list[str]:
    """Files that an index of the weights lists and the revision lacks."""
    missing: set[str] = set()
    for name in checkpoint.files:
        if _is_index(name):
            index = release.document(checkpoint.path(name))
            places = index.get("weight_map") if isinstance(index, dict) else None
            files = {str(file)[:200] for file in places.values()} if isinstance(places, dict) else set()
            missing |= files - checkpoint.files.keys()
    return sorted(missing)


def _needed_parts(checkpoint: SeenCheckpoint, *, is_last: bool) -> list[str]:
    series = checkpoint.run.series
    if series is None or checkpoint.alias_of is not None:
        return ["weights"]
    resumable = series.optimizer == "always" or (series.optimizer == "final" and is_last)
    if checkpoint.record is None and checkpoint.run.hub.optimizer is not None:
        resumable = False  # they are in a repository of their own
    for other in series.stored_otherwise:
        if checkpoint.name in other.checkpoints and other.optimizer is not None:
            resumable = other.optimizer
    return ["weights", "optimizer", "rng", "position"] if resumable else ["weights"]


class LabelDiffers(Rule):
    """The token count in a checkpoint's name is not what the schedule gives.

    ## What it does
    Reads the step in the names of branches and tags, works out the tokens seen by then from batch, sequence length and
    rounding of the spec, and compares them with the count in the name.

    ## Why is this bad?
    Whoever plots against the tokens in the names is wrong, by a rounding or by a factor; and if the names are right,
    the declared batch is not the one that was trained.

    ## Example
    `stage2-ingredient1-step11931-tokens50B` in a family whose other names round up (`tokens51B`).

    ## Remedy
    Store tokens by formula, not by name: correct `tokens` of the series, or the batch, or the name.

    ## Seen in practice
    OLMo 2 rounds up in its first stage, down in the second stage of two sizes and up in that of two others, which was
    reported as an error; the names of OLMo-7B fit a batch of 2,160 only, where its configuration says 2,048.
    """

    code = "CKP016"
    name = "label-differs"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints whose names have a token count."""
        return sum(seen.run.series is not None and "{tokens" in seen.run.series.name for seen in release.checkpoints)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each name."""
        for repo in release.foreign.model_repos if release.foreign is not None else ():
            for plan, revision in read_names(release, repo).relabelled:
                message = f"step {plan.step} has seen {plan.tokens} tokens, which gives the name '{plan.name}'"
                fix = "correct 'tokens' or 'batch' of the run, or the name"
                yield self.finding(revision_root(repo, revision), revision, message, fix)


class BrokenChain(Rule):
    """The checkpoints of a run do not join.

    ## What it does
    Follows the parents in the manifest: each checkpoint's parent is the one before it, steps and tokens increase, and
    its rows begin where those of its parent end. The rows agree with the batch of the spec.

    ## Why is this bad?
    A segment between two checkpoints is then not determined: data was skipped, seen twice, or a checkpoint belongs to
    another branch of the training.

    ## Example
    `ckpt_003` with the parent `ckpt_001`.

    ## Remedy
    Build the manifest again; when the training really went this way, declare it as `restarts`, `skipped`, or as a run
    of its own.

    ## Seen in practice
    Training of OLMo was resumed with the epoch and the position in the data not restored, so that rows were repeated
    or left out; the published record did not show it.
    """

    code = "CKP005"
    name = "broken-chain"
    part = Part.CHECKPOINT

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each link that does not hold."""
        for run, record in release.built_runs():
            before: CheckpointRecord | None = None
            for checkpoint in record.checkpoints:
                for field, message in _broken_links(release, run, record, before, checkpoint):
                    fix = "build the manifest again, or declare how the training went"
                    yield self.finding(release.place_of(record, checkpoint, field), checkpoint.name, message, fix)
                before = checkpoint


def _broken_links(
    release: ReleaseView, run: Run, record: RunRecord, before: CheckpointRecord | None, here: CheckpointRecord
) -> Iterator[tuple[str, str]]:
    if before is not None and here.step <= before.step:
        yield "step", f"step {here.step} does not come after step {before.step} of '{before.name}'"
        return
    inherits = before is None and (here.step == 0 or run.parent is not None)
    expected = before.name if before is not None else None
    if here.parent != expected and not inherits:
        yield "parent", f"expected the parent '{expected}', found '{here.parent}'"
    begin = before.end_row if before is not None else 0
    if here.first_row != begin:
        yield "first_row", f"its rows begin at {here.first_row}, expected {begin}"
    end = release.rows_at(run, here.step)
    if end is not None and here.end_row != end:
        yield "end_row", f"its rows end at {here.end_row}, expected {end} after {here.step} steps"
    names = {chunk.name for chunk in record.chunks}
    if here.chunk is not None and here.chunk not in names:
        yield "chunk", f"its chunk '{here.chunk}' is not in the manifest"
