"""Rules about the set of checkpoints: the declared ones are there, complete, and joined into a chain."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.building import parts_held
from open360.release.findings import Finding, Location
from open360.release.rules.rule import Rule
from open360.release.view import ReleaseView
from open360.schema.layout import MANIFEST_FILE
from open360.schema.manifest import CheckpointRecord, RunRecord
from open360.schema.run import Run
from open360.schema.schedule import CheckpointPlan
from open360.schema.series import Series

BUILD_AGAIN = "run 'dvc repro' to build what is missing, or correct the series"


class SeriesIncomplete(Rule):
    """The checkpoints are not those that the series declares.

    ## What it does
    Works out names, steps and tokens of all checkpoints from the spec and compares them with the manifest, both ways.
    Checkpoints that the series lists as `missing`, with the reason, are not asked for.

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

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint (or run) that is missing, too many or at another place."""
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
    Looks for weights, `config.json` and a tokenizer in every checkpoint, and for optimizer state, RNG state and data
    position where the series says so (`optimizer: always` or `final`). What the manifest says the checkpoint `holds`
    must be among its files.

    ## Why is this bad?
    Without optimizer and RNG state nobody can go on from the checkpoint or repeat the next segment; without the
    tokenizer nobody can use it.

    ## Example
    `series: {optimizer: always}`, and a checkpoint without `training_state/optimizer.safetensors`.

    ## Remedy
    Build the checkpoint again, or declare what is there (`optimizer: final`, `never`).

    ## Seen in practice
    Amber's card says that optimizer states are released; none of its branches holds one.
    """

    code = "CKP002"
    name = "missing-part"

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each part of each checkpoint."""
        for run, record in release.built_runs():
            for checkpoint in record.checkpoints:
                paths = [file.path for file in checkpoint.files]
                held: set[str] = set(parts_held(paths))
                for part in [*_needed_parts(run, record, checkpoint), *checkpoint.holds]:
                    if part not in held:
                        held.add(part)
                        message = f"it holds no {part}, which the release says it does"
                        fix = "build the checkpoint again, or declare what is there"
                        yield self.finding(release.place_of(record, checkpoint), checkpoint.name, message, fix)
                names = {path.rsplit("/", 1)[-1] for path in paths if path.count("/") == 0}
                for what, there in [
                    ("configuration (config.json)", "config.json" in names),
                    ("tokenizer", bool(names & {"tokenizer.json", "tokenizer.model", "vocab.json"})),
                ]:
                    if not there:
                        fix = "build the checkpoint again: it is then usable on its own"
                        place = release.place_of(record, checkpoint)
                        yield self.finding(place, checkpoint.name, f"it holds no {what}", fix)


def _needed_parts(run: Run, record: RunRecord, checkpoint: CheckpointRecord) -> list[str]:
    series = run.series
    if series is None:
        return ["weights"]
    is_last = checkpoint.step == max(c.step for c in record.checkpoints)
    resumable = series.optimizer == "always" or (series.optimizer == "final" and is_last)
    for other in series.stored_otherwise:
        if checkpoint.name in other.checkpoints and other.optimizer is not None:
            resumable = other.optimizer
    return ["weights", "optimizer", "rng", "position"] if resumable else ["weights"]


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
