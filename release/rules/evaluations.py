"""Rules about evaluations: each declared one has a record that can be read, of the right model, by a known harness."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from open360.release.evidence.evaluation_records import EvaluationRecord
from open360.release.evidence.measurements import (
    OWN_HARNESS,
    Measurement,
    declared_records,
    evaluated,
    evaluation_name,
    is_address,
    measurements,
)
from open360.release.findings import EvidenceLevel, Finding, Location, Part
from open360.release.listed_view import SeenCheckpoint
from open360.release.rules.rule import SPEC_READ, CannotCheckError, Rule
from open360.release.view import ReleaseView

MAX_SHOWN = 3


class EvaluationMissing(Rule):
    """A declared evaluation has no result.

    ## What it does
    Looks for every metric of every evaluation made here (harness `open360`) at every checkpoint that it is declared
    for; evaluations by other harnesses must say where their `results` are.

    ## Why is this bad?
    A curve with holes; or a score that nobody can tie to the checkpoint it was measured on.

    ## Example
    `{task: held_out, metrics: [loss], at: all}`, and no record for `ckpt_006`.

    ## Remedy
    Evaluate the checkpoint (`dvc repro`), or declare fewer (`at: final`).

    ## Seen in practice
    Scores are mostly published as images or tables in a paper, for a few checkpoints, with the commit of the harness
    left open.
    """

    code = "MET003"
    name = "evaluation-missing"
    requires = frozenset({SPEC_READ})
    part = Part.EVALUATION

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint and evaluation."""
        for index, evaluation in enumerate(release.spec.evaluations):
            place = release.place(f"/evaluations/{index}")
            subject = evaluation_name(release.spec, index)
            if evaluation.harness != OWN_HARNESS or (release.foreign is not None and evaluation.results is None):
                if evaluation.results is None:
                    message = f"the results of '{subject}' by {evaluation.harness} are nowhere"
                    yield self.finding(place, subject, message, "add 'results': a file pattern or a URL")
                continue
            if release.foreign is not None:
                continue
            for checkpoints in _by_run(release.checkpoints):
                run = checkpoints[0].run.name
                if evaluation.runs and run not in evaluation.runs:
                    continue
                for checkpoint in evaluated(evaluation, checkpoints):
                    there = checkpoint.record.metrics if checkpoint.record is not None else {}
                    missing = [metric for metric in evaluation.metrics if metric not in there]
                    if missing:
                        message = f"'{checkpoint.name}' has no {', '.join(missing)} of '{subject}'"
                        yield self.finding(place, checkpoint.name, message, "run 'dvc repro' to evaluate it")


def _by_run(checkpoints: list[SeenCheckpoint]) -> list[list[SeenCheckpoint]]:
    found: dict[str, list[SeenCheckpoint]] = defaultdict(list)
    for checkpoint in checkpoints:
        found[checkpoint.run.name].append(checkpoint)
    return list(found.values())


class HarnessUnpinned(Rule):
    """Nobody can tell which version of a harness or of a task gave a score.

    ## What it does
    For every evaluation by another harness, looks for the commit or the version of the harness and for the version of
    the task: in the spec, else in every record of it that can be read.

    ## Why is this bad?
    Prompts, normalisation and metrics change between versions under the same name of a task, and scores with them:
    two numbers cannot be compared, and none can be measured again.

    ## Example
    `{task: piqa, harness: lm-evaluation-harness, metrics: [acc], results: …}`

    ## Remedy
    Add `harness_commit` (or `harness_version`) and `task_version` to the evaluation.

    ## Seen in practice
    The README of Pythia says that all evaluations were run using the "to-do commit" of the harness. DCLM's CORE metric
    was wrong until 2025, and now exists in two versions under one name.
    """

    code = "MET005"
    name = "harness-unpinned"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.EVALUATION

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each evaluation."""
        records: dict[int, list[EvaluationRecord]] = defaultdict(list)
        for measured in measurements(release):
            for scores in measured.scores.values():
                records[measured.number] += scores
        for index, evaluation in enumerate(release.spec.evaluations):
            if evaluation.harness == OWN_HARNESS:
                continue
            told, missing = records[index], []
            pinned = [record.harness_commit or record.harness_version for record in told]
            if not (evaluation.harness_commit or evaluation.harness_version or (pinned and all(pinned))):
                missing.append(f"the commit or version of {evaluation.harness}")
            versions = [record.task_version for record in told]
            if not (evaluation.task_version or (versions and all(versions))):
                missing.append("the version of the task")
            if missing:
                subject = evaluation_name(release.spec, index)
                message = f"neither the spec nor its records tell {' and '.join(missing)} of '{subject}'"
                fix = "add 'harness_commit' (or 'harness_version') and 'task_version'"
                yield self.finding(release.place(f"/evaluations/{index}"), subject, message, fix)


class RecordUnreadable(Rule):
    """A declared evaluation record is not there, or cannot be read.

    ## What it does
    Reads every record that an evaluation's `results` lead to, and looks in it for the declared metrics of the task.
    Formats: JSON of lm-evaluation-harness, old and new, for one checkpoint or for many.

    ## Why is this bad?
    A crashed evaluation that is published as a result looks like one until somebody opens the file.

    ## Example
    `eval_arc.json` that holds the text `running...`.

    ## Remedy
    Evaluate these checkpoints again and publish the records; or declare fewer (`at`).

    ## Seen in practice
    The script that evaluated Amber first writes `running...` into each record, and overwrites it at the end: when it
    crashed, the word stayed.
    """

    code = "MET007"
    name = "record-unreadable"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Places of records that the spec declares."""
        return len({place for _, _, place in declared_records(release) if place is not None})

    def unseen(self, release: ReleaseView) -> int:
        """Those of them outside the sample, or at an address that could not be read."""
        return self.claims(release) - len(_by_place(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each record; a single one where a run has none at all."""
        by_place = _by_place(release)
        if not by_place and any(is_address(evaluation.results or "") for evaluation in release.spec.evaluations):
            raise CannotCheckError("none of the addresses of evaluation records could be read")
        there: dict[tuple[str, str], bool] = defaultdict(bool)
        for found in by_place.values():
            there[_group(found[0])] |= found[0].file is not None
        told = set()
        for place, found in by_place.items():
            first, group = found[0], _group(found[0])
            if first.file is not None:
                problems = first.file.problems or tuple(_left_out(release, found))
                if problems:
                    more = f" (and {len(problems) - MAX_SHOWN} more)" if len(problems) > MAX_SHOWN else ""
                    message = "; ".join(problems[:MAX_SHOWN]) + more
                    yield self.finding(place, place, message, "evaluate the checkpoint again")
            elif there[group]:
                message = f"there is no record of '{first.checkpoint.name}'"
                yield self.finding(_place_of(release, first), place, message, "publish it, or declare fewer in 'at'")
            elif group not in told:
                told.add(group)
                missing = [other for other in by_place if _group(by_place[other][0]) == group]
                message = f"run '{group[1]}' has none of its {len(missing)} declared records: {listed(missing)}"
                yield self.finding(_place_of(release, first), place, message, "publish them, or correct 'results'")


def _group(measured: Measurement) -> tuple[str, str]:
    return (measured.evaluation.results or "", measured.checkpoint.run.name)


def _by_place(release: ReleaseView) -> dict[str, list[Measurement]]:
    """What was measured, by its record; addresses that could not be read are left to the rule about addresses."""
    found: dict[str, list[Measurement]] = defaultdict(list)
    for measured in measurements(release):
        if measured.place is not None and (measured.file is not None or not is_address(measured.place)):
            found[measured.place].append(measured)
    return found


def _left_out(release: ReleaseView, found: list[Measurement]) -> Iterator[str]:
    for measured in found:
        missing = [metric for metric, scores in measured.scores.items() if not scores]
        if missing:
            task = evaluation_name(release.spec, measured.number)
            yield f"it holds no {', '.join(missing)} of '{task}' for '{measured.checkpoint.name}'"


def _place_of(release: ReleaseView, measured: Measurement) -> Location:
    return release.place(f"/evaluations/{measured.number}/results")


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"{', '.join(names[:MAX_SHOWN])}{more}"
