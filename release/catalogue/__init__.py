"""The catalogue: specs of releases that others made, in the words of our own spec.

Every file is a `release.yaml`; `facts_from` says where its facts were read, `evidence` how each is known, and
`unconfirmed` what could not be confirmed.
"""

from __future__ import annotations

import functools
from importlib import resources

from open360.schema.errors import Open360Error
from open360.schema.run import HubRepositories, Parent, Run
from open360.schema.serialization import load_spec
from open360.schema.spec import ReleaseSpec


class UnknownReleaseError(Open360Error):
    """The catalogue has no release of that name."""

    def __init__(self, name: str) -> None:
        self.name = name
        known = ", ".join(names())
        super().__init__(f"the catalogue has no release '{name}' (expected one of: {known}); see 'open360 catalogue'")


def names() -> list[str]:
    """Names of all releases in the catalogue, sorted."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return sorted(file.removesuffix(".yaml") for file in files if file.endswith(".yaml"))


@functools.cache
def load(name: str) -> ReleaseSpec:
    """The spec of the release called `name`. Raises UnknownReleaseError."""
    return load_spec(text(name), f"{name}.yaml")


def text(name: str) -> bytes:
    """The spec of the release called `name` as it was written, comments and all. Raises UnknownReleaseError."""
    if name not in names():
        raise UnknownReleaseError(name)
    data = resources.files(__name__).joinpath(f"{name}.yaml").read_bytes()
    first, rest = data.split(b"\n", 1)
    return rest if first.startswith(b"# yaml-language-server") else data  # a path that holds in the checkout only


def find(repo_id_or_alias: str) -> str | None:
    """Name of the release that is called so, or publishes under that repo id (upper and lower case are one)."""
    return _index().get(repo_id_or_alias.casefold())


def part_of(name: str, repo_id: str) -> ReleaseSpec:
    """The spec of a release, with only those runs that publish under `repo_id`; with all when none or every one does.

    A run whose parent is left out names it as one of another release.
    """
    spec = load(name)
    wanted = repo_id.casefold()
    kept = [run for run in spec.all_runs() if wanted in {known.casefold() for known in repo_ids(run)}]
    merges = tuple(merge for merge in spec.merges if wanted in {known.casefold() for known in _ids(merge.hub)})
    if (not kept and not merges) or len(kept) == len(spec.all_runs()):
        return spec
    names = {run.name for run in kept} | {merge.name for merge in merges}
    runs = tuple(run.model_copy(update={"parent": _seen_from(name, names, run.parent)}) for run in kept)
    parts = tuple(
        merge.model_copy(update={"of": tuple(_seen_from(name, names, part) for part in merge.of)}) for merge in merges
    )
    evaluations = tuple(
        evaluation.model_copy(update={"runs": tuple(run for run in evaluation.runs if run in names)})
        for evaluation in spec.evaluations
        if not evaluation.runs or names & set(evaluation.runs)
    )
    corpora = tuple(corpus for corpus in spec.corpora if corpus.name in {run.corpus for run in runs})
    changes = {"runs": runs, "merges": parts, "evaluations": evaluations, "corpora": corpora}
    return spec.model_copy(update=changes)


def _seen_from(release: str, names: set[str], parent: Parent | None) -> Parent | None:
    if parent is None or parent.release is not None or parent.run in names:
        return parent
    return parent.model_copy(update={"release": release})


def repo_ids(run: Run) -> list[str]:
    """Every id of a Hub repository under which a run was published, former ones included."""
    return _ids(run.hub)


def _ids(hub: HubRepositories) -> list[str]:
    return [repo for repo in (hub.model, hub.optimizer, *hub.aliases, *hub.former) if repo is not None]


def names_in(spec: ReleaseSpec) -> list[str]:
    """Every name that a spec gives its release: its own, and those of its repositories."""
    known = [spec.name, *spec.aliases]
    for run in spec.all_runs():
        known += repo_ids(run)
    for merge in spec.merges:
        known += _ids(merge.hub)
    for corpus in spec.corpora:
        if corpus.repository is not None and corpus.repository.dataset is not None:
            known += [corpus.repository.dataset, *corpus.repository.aliases]
    return list(dict.fromkeys(known))


@functools.cache
def _index() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names():
        for alias in [name, *names_in(load(name))]:
            found.setdefault(alias.casefold(), name)
    return found
