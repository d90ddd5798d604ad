"""The rule about whose scores a record holds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch

from open360.release.evidence.measurements import Measurement, measurements
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.listed_view import SeenCheckpoint
from open360.release.rules.evaluations import listed
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.names import NAME_PATTERN
from open360.schema.run import Run

REPO_ID = re.compile(f"{NAME_PATTERN}/{NAME_PATTERN}")


class RecordOfAnotherModel(Rule):
    """An evaluation record names another model than the checkpoint that it is published for.

    ## What it does
    Compares the repository and the revision in the record (`model_args`) with those of the checkpoint; aliases and
    former names of the repository are its names, too. A path on somebody's disk says something only when it names
    another checkpoint. A record that names the repository and no revision measured `main`.

    ## Why is this bad?
    The score may be that of another model, another version of it, or another step; nobody can find out which.

    ## Example
    `pretrained=EleutherAI/pythia-v1.1-70m,revision=step0` in a record of `EleutherAI/pythia-70m`.

    ## Remedy
    Measure the released checkpoint again; where the repository was only renamed, list the old name in `hub.former` of
    the run.

    ## Seen in practice
    All records of Pythia name repositories called `pythia-v1.1-…`, which are not the released ones.
    """

    code = "MET006"
    name = "record-of-another-model"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs with a record that names its model."""
        return len({measured.checkpoint.run.name for measured in measurements(release) if _models(measured)})

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each run and each other model."""
        wrong: dict[tuple[str, str], dict[str, Measurement]] = defaultdict(dict)
        for measured in measurements(release):
            for model, revision in _models(measured):
                problem = _another(release, measured.checkpoint, model, revision)
                if problem is not None and measured.place is not None:
                    wrong[measured.checkpoint.run.name, problem].setdefault(measured.place, measured)
        for (run, problem), found in wrong.items():
            first = next(iter(found.values()))
            count = f"{len(found)} records of run '{run}' name" if len(found) > 1 else f"a record of run '{run}' names"
            message = f"{count} {problem}: {listed(list(found))}"
            fix = "measure the released checkpoint; list a former name of the repository in 'hub.former'"
            yield self.finding(release.place(f"/evaluations/{first.number}/results"), run, message, fix)


def _models(measured: Measurement) -> set[tuple[str, str | None]]:
    """Models that the records of a checkpoint name, each with the revision."""
    records = (record for scores in measured.scores.values() for record in scores)
    return {(record.model, record.revision) for record in records if record.model is not None}


def _another(release: ReleaseView, seen: SeenCheckpoint, model: str, revision: str | None) -> str | None:
    """What is wrong with a record of `seen` that names `model` and `revision`; None when it is the checkpoint."""
    run, own = seen.run, _names_of(seen)
    hub = run.hub
    repositories = {name.casefold() for name in (hub.model, *hub.aliases, *hub.former) if name is not None}
    others = {name for plan in release.plans(run) for name in (plan.name, plan.revision)} - own
    parts = set(model.split("/"))
    if REPO_ID.fullmatch(model) is None or parts & (own | others):  # a path on somebody's disk
        named = sorted(parts & others)
        return f"checkpoint '{named[0]}'" if named and not parts & own else None
    if not repositories:
        return None
    if model.casefold() not in repositories and hub.model is not None:
        return f"'{model}', not '{hub.model}'"
    at = revision if revision is not None else "main"
    if at in own or (at not in others and any(fnmatch(at, pattern) for pattern in _former_names(run))):
        return None
    return f"revision '{at}', not '{seen.name}'" if revision is not None else "no revision, so 'main'"


def _names_of(seen: SeenCheckpoint) -> set[str]:
    """Revisions under which a checkpoint is published."""
    series = seen.run.series
    names = {seen.name}
    if series is not None:
        names.add(series.revisions.get(seen.name, seen.name))
        names |= {alias for alias, name in series.aliases.items() if name == seen.name}
        names |= {series.commits[seen.name]} if seen.name in series.commits else set()
    if seen.listed is not None:
        names |= {seen.listed.revision, seen.listed.commit}
    return names


def _former_names(run: Run) -> tuple[str, ...]:
    return run.series.former_names if run.series is not None else ()
