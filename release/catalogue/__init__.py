"""The catalogue: specs of releases that others made, in the words of our own spec.

Every file is a `release.yaml`; `facts_from` says where its facts were read, `evidence` how each is known, and
`unconfirmed` what could not be confirmed.
"""

from __future__ import annotations

import functools
from importlib import resources

from open360.schema.errors import Open360Error
from open360.schema.run import HubRepositories, Run
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
    if name not in names():
        raise UnknownReleaseError(name)
    data = resources.files(__name__).joinpath(f"{name}.yaml").read_bytes()
    return load_spec(data, f"{name}.yaml")


def find(repo_id_or_alias: str) -> str | None:
    """Name of the release that is called so, or publishes under that repo id (upper and lower case are one)."""
    return _index().get(repo_id_or_alias.casefold())


def repo_ids(run: Run) -> list[str]:
    """Every id of a Hub repository under which a run was published, former ones included."""
    return _ids(run.hub)


def _ids(hub: HubRepositories) -> list[str]:
    return [repo for repo in (hub.model, hub.optimizer, *hub.aliases, *hub.former) if repo is not None]


@functools.cache
def _index() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names():
        spec = load(name)
        known = [name, *spec.aliases]
        for run in spec.all_runs():
            known += repo_ids(run)
        for merge in spec.merges:
            known += _ids(merge.hub)
        for corpus in spec.corpora:
            if corpus.repository is not None and corpus.repository.dataset is not None:
                known += [corpus.repository.dataset, *corpus.repository.aliases]
        for alias in known:
            found.setdefault(alias.casefold(), name)
    return found
