"""Rules about where weights come from: the parents of runs and the parts of merges are published."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.hub_objects import Repo
from open360.release.listed_view import SeenCheckpoint
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.rules.storage import all_weight_files
from open360.release.view import ReleaseView
from open360.schema.run import Merge, Parent, Run


class ParentUnpublished(Rule):
    """A run starts from a checkpoint that is not published.

    ## What it does
    Looks for the parent of every run among the checkpoints that its series declares, and, where the series excuses a
    gap (`missing`, `published: some`), among those that are there. (Declared checkpoints that are not there are
    reported by CKP001.)

    ## Why is this bad?
    The run cannot be repeated, and nobody can compare the weights before and after it.

    ## Example
    A stage that starts from step 1,249,000, where the series before publishes every 5,000th step.

    ## Remedy
    Publish the checkpoint, by name in `named` of the series; or correct the parent.

    ## Seen in practice
    The stages of K2-V2 do not start from the last checkpoint of the stage before, but from one some thousand steps
    earlier, which nobody expects and few look for.
    """

    code = "RUN002"
    name = "parent-unpublished"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs with a parent in this release."""
        return sum(run.parent is not None and run.parent.release is None for run in release.spec.all_runs())

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each run."""
        told: set[tuple[str, str]] = set()
        for run in release.spec.all_runs():
            problem = unpublished(release, run.parent) if run.parent is not None else None
            pointer = f"{release.run_pointer(run.name)}/parent"
            if problem is not None and (pointer, problem) not in told:
                told.add((pointer, problem))
                message = f"run '{run.name}' starts from {problem}"
                fix = "publish that checkpoint ('named' of the series adds one), or correct the parent"
                yield self.finding(release.place(pointer), run.name, message, fix)


class MergePartMissing(Rule):
    """A merge, or a checkpoint that it was made of, is not published.

    ## What it does
    Looks for the merged weights at their revision on the Hub, and for every part of every merge among the checkpoints
    that its run's series declares, and, where the series excuses a gap, among those that are there.

    ## Why is this bad?
    Averaging the parts again is the only check of a merge, and it needs all of them.

    ## Example
    A merge of three ingredients, of which two are on the Hub.

    ## Remedy
    Publish the parts; or correct `of`.

    ## Seen in practice
    The final weights of OLMo 2 and 3 are merges of the ends of several runs, or of several checkpoints of one; stage 2
    of one model was published with its last checkpoint alone.
    """

    code = "RUN005"
    name = "merge-part-missing"
    part = Part.STATEMENT
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})

    def claims(self, release: ReleaseView) -> int:
        """Merges."""
        return len(release.spec.merges)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each part, and for merged weights that are not there."""
        for index, merge in enumerate(release.spec.merges):
            if _is_absent(release, merge):
                place = release.place(f"/merges/{index}/revision")
                message = f"the weights of '{merge.name}' are said to be at '{merge.revision}', where there are none"
                yield self.finding(place, merge.name, message, "publish them, or correct 'revision'")
            for number, part in enumerate(merge.of):
                problem = unpublished(release, part)
                if problem is not None:
                    place = release.place(f"/merges/{index}/of/{number}")
                    message = f"'{merge.name}' was made of {problem}"
                    yield self.finding(place, merge.name, message, "publish that checkpoint, or correct 'of'")


def _is_absent(release: ReleaseView, merge: Merge) -> bool:
    """Whether the Hub shows no weights where the merged ones should be, though it has the repository."""
    if release.foreign is None or merge.hub.model is None or merge.revision is None:
        return False
    repo = Repo(id=merge.hub.model, type="model")
    if release.survey.refs(repo) is None:
        return False  # that a repository is missing is a finding of its own
    listed = release.survey.revision(repo, merge.revision)
    return listed is None or not all_weight_files(listed.files)


def unpublished(release: ReleaseView, parent: Parent) -> str | None:
    """What is wrong with a parent of this release; None when it is published, or in another release."""
    if parent.release is not None:
        return None
    merge = next((merge for merge in release.spec.merges if merge.name == parent.run), None)
    if merge is not None:
        there = merge.hub.model is not None or merge.revision is not None
        return None if there else f"the merge '{merge.name}', which is not published"
    run = release.spec.run(parent.run)
    if run.series is None:
        return None  # that no series is declared is a finding of its own
    name = _declared_name(release, run, parent)
    if name is None:
        which = f"step {parent.step}" if parent.step is not None else "the last weights"
        return f"{which} of run '{run.name}', which is no checkpoint of its series"
    seen = _seen_names(release, run)
    if seen and name not in seen and _is_excused(run, name, release):
        return f"'{name}' of run '{run.name}', which is not there"
    return None


def _declared_name(release: ReleaseView, run: Run, parent: Parent) -> str | None:
    """Name of the checkpoint that a parent stands for, as the series declares it."""
    plans = release.plans(run)
    assert run.series is not None  # noqa: S101
    if parent.checkpoint is not None:
        known = {plan.revision: plan.name for plan in plans} | run.series.aliases
        return known.get(parent.checkpoint, parent.checkpoint)
    if parent.step is not None:
        return next((plan.name for plan in plans if plan.step == parent.step), None)
    last = max(plans, key=lambda plan: plan.step, default=None)
    if last is not None and run.steps in (None, last.step):
        return last.name
    return run.series.unplaced[-1] if run.series.unplaced else run.series.aliases.get("main")


def _seen_names(release: ReleaseView, run: Run) -> set[str]:
    checkpoints: list[SeenCheckpoint] = release.checkpoints
    return {seen.name for seen in checkpoints if seen.run.name == run.name}


def _is_excused(run: Run, name: str, release: ReleaseView) -> bool:
    """Whether the series says itself that the checkpoint may be missing."""
    series = run.series
    step = next((plan.step for plan in release.plans(run) if plan.name == name), None)
    if series is None or step is None:
        return False
    return series.published == "some" or any(gap.first <= step <= gap.last for gap in series.missing)
