"""Names of branches and tags, compared with the checkpoints that the series of a repository declare."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from open360.release.hub_objects import Repo
from open360.release.view import ReleaseView
from open360.schema.run import Run
from open360.schema.schedule import CheckpointPlan
from open360.schema.series import TEMPLATE

MAX_NAME, LEAST_LETTERS = 1000, 3
VERSION = re.compile(r"[vV][0-9]")
CHECKPOINT_WORD = re.compile(r"(step|ckpt|checkpoint|stage|iter|iteration|epoch|tokens?)s?[-_. ]?[0-9]")
# Small letters of Cyrillic and Greek that look like Latin ones.
LOOKALIKES = str.maketrans("асерѕтохукмнніјαεικοπρτυν", "acepstoxykmhhijaeikonptuv")


@dataclass(frozen=True, kw_only=True)
class RevisionNames:
    """What the names of a repository's revisions say.

    `relabelled` are declared checkpoints that are there under a name with another token count; they are neither
    missing nor undeclared. `alike` are names that fit no series, but look like those of checkpoints.
    """

    missing: list[tuple[Run, CheckpointPlan]] = field(default_factory=list)
    undeclared: list[tuple[Run, str]] = field(default_factory=list)
    relabelled: list[tuple[CheckpointPlan, str]] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)


def read_names(release: ReleaseView, repo: Repo) -> RevisionNames:
    """Compare the refs of a model repository with what the runs in it declare; nothing when it is not there.

    Raises CannotCheckError for a folder.
    """
    refs = release.survey.refs(repo)
    found = RevisionNames()
    if refs is None or release.foreign is None:
        return found
    there = {**refs.branches, **refs.tags}
    runs = release.foreign.model_repos.get(repo, [])
    known = {"main"} | {name for merge in release.spec.merges if (name := merge.revision) is not None}
    for run in runs:
        series = run.series
        known |= {plan.revision for plan in release.plans(run)}
        if series is not None:
            known |= {*series.aliases, *series.unplaced, *series.revisions.values()}
    unknown = [name for name in there if name not in known]
    for run in runs:
        unknown = _compare(release, run, there, unknown, found)
    templates = [run.series.name for run in runs if run.series is not None]
    found.alike.extend(name for name in unknown if _looks_like_a_checkpoint(name, templates))
    return found


def _looks_like_a_checkpoint(name: str, templates: list[str]) -> bool:
    """Whether a reader takes a name for that of a checkpoint: `Step8`, `step32-v2`, or with letters that look so."""
    if len(name) > MAX_NAME or name.startswith("refs/") or VERSION.match(name):
        return False
    seen = unicodedata.normalize("NFKC", name).casefold().translate(LOOKALIKES)
    begins = [TEMPLATE.split(template, maxsplit=1)[0].casefold() for template in templates if template]
    words = [word for begin in begins if len(word := begin.rstrip("-_.0123456789")) >= LEAST_LETTERS]
    return CHECKPOINT_WORD.search(seen) is not None or any(
        seen.startswith(word) and any(character.isdecimal() for character in seen[len(word) :]) for word in words
    )


def _compare(
    release: ReleaseView, run: Run, there: dict[str, str], unknown: list[str], found: RevisionNames
) -> list[str]:
    """Sort the names of one run into `found`; returns the unknown names that are not of this run."""
    plans = release.plans(run)
    missing = {plan.revision: plan for plan in plans if plan.revision not in there}
    series = run.series
    if series is None or not series.name:
        found.missing.extend((run, plan) for plan in missing.values())
        return unknown
    by_label = {series.step_label.label(plan.step): plan for plan in missing.values()}
    pattern = name_pattern(series.name)
    left = []
    for name in unknown:
        match = pattern.fullmatch(name)
        if match is None:
            left.append(name)
            continue
        groups = match.groupdict()
        plan = by_label.get(int(groups["step"])) if groups.get("step") and groups.get("tokens") else None
        if plan is not None and plan.revision in missing:
            found.relabelled.append((plan, name))
            del missing[plan.revision]
        else:
            found.undeclared.append((run, name))
    found.missing.extend((run, plan) for plan in missing.values())
    return left


def name_pattern(template: str) -> re.Pattern[str]:
    """What names made by a series' template look like; groups `step`, `index`, `tokens` hold the numbers."""
    out, at = "", 0
    for match in TEMPLATE.finditer(template):
        out += re.escape(template[at : match.start()]) + f"(?P<{match['field']}>[0-9]{{1,18}})"
        at = match.end()
    return re.compile(out + re.escape(template[at:]))
