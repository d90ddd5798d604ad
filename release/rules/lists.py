"""The rule about published lists of checkpoints: they say what the schedule says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from open360.release.evidence.addresses import AddressError
from open360.release.evidence.checkpoint_lists import MAX_LIST_BYTES, ListError, ListRow, parse_list
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.foreign_target import MAIN
from open360.release.listed_view import CannotCheckError
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.run import Run
from open360.schema.schedule import ScheduleError, tokens_at
from open360.schema.series import CheckpointList, Series

MAX_SHOWN = 3
CORRECT = "correct the table, and say in the card what was wrong"


class ListDiffers(Rule):
    """A published list of checkpoints is not what the schedule says.

    ## What it does
    Reads the tables that a series names in `lists` and looks for steps that stand there twice, steps that differ from
    the step in their own link, rows out of order, tokens that are not those of the batch schedule (counted in the run,
    or from the first parent on; where no batch is declared they only have to increase), checkpoints that are not
    declared, and declared ones that are not listed: the last one always, all others when the series says that all are
    published.

    ## Why is this bad?
    Such a table is all that most users have. A wrong link gives them the weights of another step, a wrong count shifts
    every curve over tokens, a missing last row hides the checkpoint that most people want.

    ## Example
    `11931,https://…/step11000-unsharded/`

    ## Remedy
    Write the table by a program, from the schedule and a listing; or correct the schedule, if the table is right.

    ## Seen in practice
    The list of OLMo-2-13B holds 40 steps twice and links step 11931 of an ingredient to the weights of step 11000;
    that of the 7B model ends at step 928000 of 928646; those of OLMo 3 count tokens one interval short from the second
    stage on.
    """

    code = "CKP019"
    name = "list-differs"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs with a list that could be read."""
        return len({group.runs[0].name for group in _groups(release) if _read(release, group)[0] is not None})

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each list and kind of defect."""
        groups = _groups(release)
        unread = []
        for group in groups:
            name = group.declared.url or group.declared.path or ""
            data, reason = _read(release, group)
            if data is None:
                unread.append(reason)
                continue
            try:
                rows = parse_list(name.rsplit("/", 1)[-1], data, group.declared)
                defects = [f"'{name}': {defect}" for defect in _defects(release, group, rows)]
            except ListError as error:
                defects = [str(error).rsplit("; ", 1)[0]]
            for defect in defects:
                yield self.finding(release.place(group.pointer), group.runs[0].name, defect, CORRECT)
        if unread and len(unread) == len(groups):
            raise CannotCheckError(f"no list could be read: {unread[0]}")


@dataclass(kw_only=True)
class _Group:
    """A list with the runs that it is of: one table may go on through several runs."""

    declared: CheckpointList
    pointer: str
    runs: list[Run] = field(default_factory=list)


def _groups(release: ReleaseView) -> list[_Group]:
    found: dict[tuple[object, ...], _Group] = {}
    for run in release.spec.all_runs():
        for number, declared in enumerate(run.series.lists if run.series is not None else ()):
            place = declared.url or (run.hub.model, declared.path)
            key = (place, declared.step, declared.link, declared.tokens, tuple(sorted(declared.only.items())))
            pointer = f"{release.run_pointer(run.name)}/series/lists/{number}"
            found.setdefault(key, _Group(declared=declared, pointer=pointer)).runs.append(run)
    return list(found.values())


def _read(release: ReleaseView, group: _Group) -> tuple[bytes | None, str]:
    """The table, or why it cannot be had. An address that is gone is what `HUB003` reports."""
    declared = group.declared
    if declared.url is not None:
        try:
            return release.addresses.read(declared.url, MAX_LIST_BYTES), ""
        except AddressError as error:
            return None, str(error)
    if release.foreign is None:
        return None, "tables inside of a release of open360 are not looked at"
    path = f"{group.runs[0].hub.model}@{MAIN}/{declared.path}"
    data = release.read(path, MAX_LIST_BYTES)
    return (data, "") if data is not None else (None, release.unreadable[path])


def _defects(release: ReleaseView, group: _Group, rows: list[ListRow]) -> Iterator[str]:
    """What is wrong with a table, one text for each kind of defect."""
    if not rows:
        wanted = ", ".join(f"{column} {value}" for column, value in group.declared.only.items())
        yield f"it has no row{f' with {wanted}' if wanted else ''}"
        return
    unread = [row for row in rows if row.step is None]
    if unread:
        yield f"{_rows(unread)} without a number in '{group.declared.step}' ({_lines(unread)})"
    known = [row for row in rows if row.step is not None]
    yield from _defects_of_steps(known)
    yield from _defects_of_links(known)
    yield from _defects_of_schedule(release, group, known)
    if group.declared.tokens is not None:
        yield from _defects_of_tokens(release, group, known)


def _defects_of_steps(rows: list[ListRow]) -> Iterator[str]:
    seen: set[int] = set()
    first: list[ListRow] = []
    repeated: list[ListRow] = []
    for row in rows:
        (repeated if _step(row) in seen else first).append(row)
        seen.add(_step(row))
    if repeated:
        steps = ", ".join(str(row.step) for row in repeated[:MAX_SHOWN])
        yield f"{_rows(repeated)} with a step that stands there already: {steps} ({_lines(repeated)})"
    late = [row for before, row in itertools.pairwise(first) if _step(row) < _step(before)]
    if late:
        yield f"{_rows(late)} out of order: step {late[0].step} comes after a later one ({_lines(late)})"


def _defects_of_links(rows: list[ListRow]) -> Iterator[str]:
    wrong = [row for row in rows if row.linked_steps and row.step not in row.linked_steps]
    if wrong:
        steps = "; ".join(f"{row.step} -> step{row.linked_steps[-1]}" for row in wrong[:MAX_SHOWN])
        yield f"{_rows(wrong)} whose link names another step: {steps} ({_lines(wrong)})"


def _defects_of_schedule(release: ReleaseView, group: _Group, rows: list[ListRow]) -> Iterator[str]:
    listed = {_step(row) for row in rows}
    declared: dict[int, str] = {}
    lasts: list[int] = []
    unlisted: list[int] = []
    for run in group.runs:
        plans, series = release.plans(run), run.series
        if not plans or series is None:
            return  # what the schedule is cannot be said
        labels = {series.step_label.label(plan.step): plan for plan in plans}
        declared |= {label: plan.name for label, plan in labels.items()}
        last = max(labels)
        excused = {label for label, plan in labels.items() if _is_missing(series, plan.step)}
        if last not in listed and last not in excused:
            lasts.append(last)
        if series.published == "all":
            unlisted += sorted(labels.keys() - listed - excused - {last})
    if lasts:
        yield f"the last checkpoint is not listed: step {lasts[-1]} (the table ends at step {max(listed, default=0)})"
    if unlisted:
        shown = ", ".join(str(step) for step in unlisted[:MAX_SHOWN])
        yield f"{len(unlisted)} declared checkpoints are not listed: steps {shown}{', …' * (len(unlisted) > MAX_SHOWN)}"
    strange = [row for row in rows if _step(row) not in declared]
    if strange:
        shown = ", ".join(str(row.step) for row in strange[:MAX_SHOWN])
        yield f"{_rows(strange)} of a step that the series does not declare: {shown} ({_lines(strange)})"


def _defects_of_tokens(release: ReleaseView, group: _Group, rows: list[ListRow]) -> Iterator[str]:
    column = group.declared.tokens
    unread = [row for row in rows if row.tokens is None]
    if unread:
        yield f"{_rows(unread)} without a number in '{column}' ({_lines(unread)})"
    told = [row for row in rows if row.tokens is not None]
    countings, all_known = _countings(release, group)
    wrong = min((_wrong(told, expected) for expected in countings), default=None, key=_badness)
    if wrong is not None and (all_known or not wrong):
        if wrong:
            row, expected = wrong[0]
            rest = f"step {row.step} says {row.tokens}, the schedule {expected} ({_lines([row for row, _ in wrong])})"
            yield f"{_rows([row for row, _ in wrong])} whose tokens are not those of the schedule: {rest}"
        return
    by_step = sorted(told, key=_step)
    late = [
        row
        for before, row in itertools.pairwise(by_step)
        if row.step != before.step and (row.tokens or 0) <= (before.tokens or 0)
    ]
    if late:
        yield f"{_rows(late)} with no more tokens than the step before: step {late[0].step} ({_lines(late)})"


Wrong = list[tuple[ListRow, int]]


def _wrong(rows: list[ListRow], expected: dict[int, int]) -> Wrong:
    """Rows with other tokens than expected, each with the right number."""
    at = ((row, expected.get(_step(row))) for row in rows)
    return [(row, count) for row, count in at if count is not None and row.tokens != count]


def _badness(wrong: Wrong) -> tuple[int, int]:
    return len(wrong), sum(abs((row.tokens or 0) - count) for row, count in wrong)


def _countings(release: ReleaseView, group: _Group) -> tuple[list[dict[int, int]], bool]:
    """Tokens by the label of a step: counted in the run, and from the first parent on.

    Also whether that is all: what a parent has seen cannot always be said. Nothing where no batch is declared.
    """
    inside: dict[int, int] = {}
    whole: dict[int, int] = {}
    befores = {run.name: _tokens_before(release, run) for run in group.runs}
    for run in group.runs:
        for plan in release.plans(run):
            if plan.tokens is None or run.series is None:
                return [], True
            label = run.series.step_label.label(plan.step)
            inside[label] = plan.tokens
            whole[label] = plan.tokens + (befores[run.name] or 0)
    return ([inside] if inside == whole else [inside, whole]), None not in befores.values()


def _tokens_before(release: ReleaseView, run: Run) -> int | None:
    """Tokens that the parents of a run have seen; None when that cannot be said."""
    total, here = 0, run
    while here.parent is not None:
        parent = next(
            (r for r in release.spec.all_runs() if here.parent is not None and r.name == here.parent.run), None
        )
        if parent is None or here.parent.release is not None:
            return None
        step = here.parent.step if here.parent.step is not None else parent.steps
        if here.parent.checkpoint is not None:
            step = next((p.step for p in release.plans(parent) if p.name == here.parent.checkpoint), None)
        if step is None:
            return None
        try:
            total += tokens_at(parent, release.spec.corpus_of(parent), step)
        except ScheduleError:
            return None
        here = parent
    return total


def _is_missing(series: Series, step: int) -> bool:
    return any(gap.first <= step <= gap.last for gap in series.missing)


def _step(row: ListRow) -> int:
    return row.step if row.step is not None else -1


def _rows(rows: list[ListRow]) -> str:
    return f"{len(rows)} row" if len(rows) == 1 else f"{len(rows)} rows"


def _lines(rows: list[ListRow]) -> str:
    shown = ", ".join(str(row.line) for row in rows[:MAX_SHOWN])
    return f"line {shown}" if len(rows) == 1 else f"lines {shown}{', …' * (len(rows) > MAX_SHOWN)}"
