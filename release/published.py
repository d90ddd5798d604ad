"""The two forms of a manifest: built, and published with the commits of everything."""

from __future__ import annotations

from collections.abc import Iterable

from open360.release.hub_objects import Repo
from open360.release.placement import MAIN, Homes
from open360.release.source_code import SourceCode
from open360.schema.manifest import Manifest, Publication, PublishedRelease, RunRecord

Place = tuple[str, str, str]  # repo, its type, revision


def built_form(manifest: Manifest) -> Manifest:
    """A manifest without what only publishing knows."""
    runs = tuple(
        run.model_copy(
            update={
                "chunks": tuple(chunk.model_copy(update={"published": None}) for chunk in run.chunks),
                "checkpoints": tuple(c.model_copy(update={"published": None}) for c in run.checkpoints),
            }
        )
        for run in manifest.runs
    )
    return manifest.model_copy(update={"form": "built", "published": None, "runs": runs})


def published_form(
    manifest: Manifest, places: Iterable[Publication], homes: Homes, tag: str, code: SourceCode
) -> Manifest:
    """A built manifest with the commit of every chunk, checkpoint and repository.

    `places` has every revision of the release. The commit given for `main` of the primary repository is the one that
    the manifest was added to; the tag is at the commit that added it.
    """
    by_place: dict[Place, Publication] = {(place.repo, place.repo_type, place.revision): place for place in places}
    published = PublishedRelease(
        code_commit=code.commit,
        code_swhid=code.swhid,
        dirty=code.dirty,
        primary=homes.primary.id,
        tag=tag,
        repositories=tuple(place for key, place in sorted(by_place.items()) if place.revision == MAIN),
    )
    runs = tuple(_published_run(run, by_place, homes) for run in manifest.runs)
    return manifest.model_copy(update={"form": "published", "published": published, "runs": runs})


def _published_run(run: RunRecord, places: dict[Place, Publication], homes: Homes) -> RunRecord:
    model, revisions = homes.model(run.name), homes.revisions(run.name)
    checkpoints = tuple(
        checkpoint.model_copy(
            update={"published": places[model.id, "model", revisions.get(checkpoint.name, checkpoint.name)]}
        )
        for checkpoint in run.checkpoints
    )
    chunks = run.chunks
    if chunks:
        place = places[homes.data(run.name).id, "dataset", MAIN]
        chunks = tuple(chunk.model_copy(update={"published": place}) for chunk in chunks)
    return run.model_copy(update={"checkpoints": checkpoints, "chunks": chunks})


def revisions_of(manifest: Manifest, primary: Repo, commit: str) -> dict[tuple[Repo, str], str]:
    """The commit of every revision that a published manifest names; `commit` is where the manifest itself is."""
    found: dict[tuple[Repo, str], str] = {}
    if manifest.published is not None:
        for place in manifest.published.repositories:
            found[Repo(id=place.repo, type=place.repo_type), place.revision] = place.commit
    for run in manifest.runs:
        parts = [*(chunk.published for chunk in run.chunks), *(point.published for point in run.checkpoints)]
        for published in parts:
            if published is not None:
                found[Repo(id=published.repo, type=published.repo_type), published.revision] = published.commit
    found[primary, MAIN] = commit
    return found
