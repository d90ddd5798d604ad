"""What looking at a release on a Hub will cost in calls, known before it is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

from open360.release.foreign_target import ForeignTarget
from open360.release.hub_target import HubTarget
from open360.release.pacing import Quota
from open360.release.targets import Target, TargetError
from open360.schema.errors import SpecError, UnsupportedVersionError


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Calls that listing takes: one for the refs of each repository, one for each commit that was not listed before.

    `quota` is that of the Hub's API as far as it is known.
    """

    repositories: int
    revisions: int
    cached: int
    quota: Quota | None

    @property
    def calls(self) -> int:
        """Calls in all, those for refs included, which are made by the time that a budget is known."""
        return self.repositories + self.revisions - self.cached

    @property
    def seconds(self) -> float | None:
        """An upper bound of the time that the quota makes it take; None without one."""
        return None if self.quota is None else max(math.ceil(self.calls / self.quota.calls), 1) * self.quota.seconds

    def __str__(self) -> str:
        time = ""
        if self.quota is not None and self.seconds is not None:
            time = f", under {_span(self.seconds)} at the Hub's quota of {self.quota}"
        repositories = f"{self.repositories:,} {'repository' if self.repositories == 1 else 'repositories'}"
        revisions = f"{self.revisions:,} {'revision' if self.revisions == 1 else 'revisions'}"
        calls = f"about {self.calls:,} {'call' if self.calls == 1 else 'calls'}"
        return f"{repositories}, {revisions}: {calls}{time}; cached: {self.cached:,}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def known_budget(target: Target) -> Budget | None:
    """The budget of a target; None for a folder, and for a manifest that cannot be read, which a rule reports."""
    if not isinstance(target, ForeignTarget | HubTarget):
        return None
    try:
        return budget_of(target)
    except (TargetError, SpecError, UnsupportedVersionError):
        return None


def budget_of(target: ForeignTarget | HubTarget) -> Budget:
    """What listing a target will cost.

    Asks for refs (of a foreign release) or for the manifest (of one that open360 published), each once.

    Raises HubError; TargetError and SpecError for a manifest that cannot be read.
    """
    survey = target.survey
    if isinstance(target, HubTarget):
        places = target.places()
        repositories = 1  # commits are in the manifest, so only the tags of the primary one are asked for
    else:
        commits = survey.commits(target.wanted())
        places = list({(repo, commit) for (repo, _), commit in commits.items() if commit is not None})
        repositories = len({repo for repo, _ in commits})
    return Budget(
        repositories=repositories,
        revisions=len(places),
        cached=survey.known(places),
        quota=survey.hub.pacer.quota("api"),
    )
