"""Rules about scores: inside the range of their unit, and without a jump that no training makes."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator

from open360.release.evidence.evaluation_records import EvaluationRecord
from open360.release.evidence.measurements import declared_records, evaluation_name, measurements
from open360.release.evidence.once import once
from open360.release.evidence.score_jumps import LEAST_WITH_STDERR, LEAST_WITHOUT, Point, judged, jumps
from open360.release.findings import EvidenceLevel, Finding, Part, Severity
from open360.release.listed_view import SeenCheckpoint
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView

RANGES = {
    "fraction": (0.0, 1.0),
    "percent": (0.0, 100.0),
    "nats": (0.0, math.inf),
    "bits": (0.0, math.inf),
    "ratio": (0.0, math.inf),
    "count": (0.0, math.inf),
}
SLACK = 1e-9  # of sums that were rounded


class ScoreOutOfRange(Rule):
    """A score lies outside the range of its unit.

    ## What it does
    Compares every score of the evaluation records with the declared `unit`: a fraction lies in 0 to 1, percent in 0 to
    100, nats, bits, ratios and counts are not negative; nor is a standard error.

    ## Why is this bad?
    A mix of fractions and percent is wrong by a factor of a hundred, and a table made of it does not show which.

    ## Example
    `unit: fraction`, and an accuracy of 57.1.

    ## Remedy
    Declare the unit that the records are in; where they mix units, write them again in one.

    ## Seen in practice
    Analysis360 prints the share of memorized sequences as "Full Match %", and the number is a fraction: 0.016 is 1.6 %.
    """

    code = "MET008"
    name = "score-out-of-range"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.EVALUATION

    def claims(self, release: ReleaseView) -> int:
        """Evaluations with a unit and with scores."""
        return len({m.number for m in measurements(release) if m.evaluation.unit in RANGES and any(m.scores.values())})

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each metric of each evaluation."""
        wrong: dict[tuple[int, str], list[tuple[SeenCheckpoint, EvaluationRecord]]] = defaultdict(list)
        for measured in measurements(release):
            if measured.evaluation.unit in RANGES:
                low, high = RANGES[measured.evaluation.unit]
                for metric, records in measured.scores.items():
                    wrong[measured.number, metric] += [
                        (measured.checkpoint, record)
                        for record in records
                        if not low - SLACK <= record.value <= high + SLACK or (record.stderr or 0.0) < 0
                    ]
        for (number, metric), found in wrong.items():
            if found:
                unit, subject = release.spec.evaluations[number].unit, evaluation_name(release.spec, number)
                place = release.place(f"/evaluations/{number}/unit")
                yield self.finding(place, subject, _told(metric, unit, found), _fix(unit, [r.value for _, r in found]))


def _told(metric: str, unit: str, found: list[tuple[SeenCheckpoint, EvaluationRecord]]) -> str:
    seen, record = found[0]
    low, high = RANGES[unit]
    expected = f"{low:g} to {high:g}" if math.isfinite(high) else "0 or more"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if low <= record.value <= high:
        return f"the standard error of {metric} at '{seen.name}' is {record.stderr:g}{more}; it cannot be negative"
    return f"{metric} at '{seen.name}' is {record.value:g}{more}; the unit is {unit}, which is {expected}"


def _fix(unit: str, values: list[float]) -> str:
    if unit == "fraction" and all(1 < value <= 100 for value in values):
        return "these look like percent: declare 'unit: percent', or write the records as fractions"
    return "correct the record, or declare the unit that it is in"


class ScoreJumps(Rule):
    """A checkpoint scores far from both of its neighbours.

    ## What it does
    Orders the scores of each metric by step and looks for one that lies far outside the interval between the score
    before and the score after it: farther than its standard error explains, than the curve strays elsewhere, and than
    a share of its whole span. The formula is in `open360.release.evidence.score_jumps`; short curves, first and last
    points and monotone stretches are not judged.

    ## Why is this bad?
    A training does not leap and come back. Most often the checkpoint holds the weights of another step, or the record
    is that of another checkpoint.

    ## Example
    Accuracies of 0.41, 0.43, 0.66, 0.46 at four steps in a row.

    ## Remedy
    Compare the digest of the weights with those of other steps (CKP003), and measure the checkpoint again.

    ## Seen in practice
    `step32000` of pythia-12b-deduped scored like the last checkpoint, and it was a user who noticed.
    """

    code = "MET009"
    name = "score-jumps"
    severity = Severity.WARNING
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CHECKPOINT

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints between others on a curve that is long enough when all of its records are read."""
        return len(_claimed(release))

    def unseen(self, release: ReleaseView) -> int:
        """Those of them with a score that was not judged: a record is not in the sample, or not there."""
        done = {
            (*key, curve[index][0].name)
            for key, curve in _curves(release).items()
            for index in judged([point for _, point in curve])
        }
        return sum(not scores <= done for scores in _claimed(release).values())

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint."""
        found: dict[str, list[str]] = defaultdict(list)
        where: dict[str, SeenCheckpoint] = {}
        for (_, number, metric), curve in _curves(release).items():
            points = [point for _, point in curve]
            for index in jumps(points):
                seen, point = curve[index]
                before, after = points[index - 1].value, points[index + 1].value
                task = evaluation_name(release.spec, number)
                told = f"{metric} of '{task}' is {point.value:.4g} between {before:.4g} and {after:.4g}"
                where[seen.root] = seen
                found[seen.root].append(told)
        for root, jumped in found.items():
            seen = where[root]
            more = f" (and {len(jumped) - 1} more scores)" if len(jumped) > 1 else ""
            fix = "compare its weights with those of other steps, and measure it again"
            yield self.finding(release.place_of_checkpoint(seen), seen.name, f"{jumped[0]}{more}", fix)


@once
def _claimed(release: ReleaseView) -> dict[tuple[str, str], set[tuple[str, int, str, str]]]:
    """Scores that can be judged when all records are read: by run and checkpoint, as (run, evaluation, metric, name).

    The first and the last of a curve have one neighbour; of a curve of which nothing is read nobody knows whether its
    records have standard errors, without which it has to be longer.
    """
    declared: dict[tuple[str, int], dict[str, SeenCheckpoint]] = defaultdict(dict)
    for number, seen, _ in declared_records(release):
        declared[seen.run.name, number][seen.name] = seen
    curves = _curves(release)
    found: dict[tuple[str, str], set[tuple[str, int, str, str]]] = defaultdict(set)
    for (run, number), checkpoints in declared.items():
        for metric in release.spec.evaluations[number].metrics:
            points = [point for _, point in curves.get((run, number, metric), ())]
            stated = not points or any(point.stderr is not None for point in points)
            if len(checkpoints) >= (LEAST_WITH_STDERR if stated else LEAST_WITHOUT):
                for seen in sorted(checkpoints.values(), key=lambda seen: seen.step)[1:-1]:
                    found[run, seen.name].add((run, number, metric, seen.name))
    return found


@once
def _curves(release: ReleaseView) -> dict[tuple[str, int, str], list[tuple[SeenCheckpoint, Point]]]:
    """Points by step, for each run, evaluation and metric."""
    curves: dict[tuple[str, int, str], list[tuple[SeenCheckpoint, Point]]] = defaultdict(list)
    for measured in measurements(release):
        seen = measured.checkpoint
        for metric, records in measured.scores.items():
            if records:
                curves[seen.run.name, measured.number, metric].append((seen, _point(seen.step, records)))
    return {key: sorted(curve, key=lambda entry: entry[1].step) for key, curve in curves.items()}


def _point(step: int, records: tuple[EvaluationRecord, ...]) -> Point:
    """The score of a checkpoint: the mean over the parts of the task."""
    errors = [record.stderr for record in records if record.stderr is not None]
    whole = len(errors) == len(records)
    stderr = math.hypot(*errors) / len(records) if whole else None
    return Point(step=step, value=statistics.fmean(record.value for record in records), stderr=stderr)
