"""Opening whatever a person names: a folder, a release that open360 published, or one that others made."""

from __future__ import annotations

from pathlib import Path

from open360.release import catalogue
from open360.release.foreign_target import ForeignSpec, ForeignTarget
from open360.release.hub import Hub
from open360.release.hub_errors import HubNotFoundError
from open360.release.hub_objects import Repo
from open360.release.hub_target import NotVisibleError, open_hub_target
from open360.release.survey import Survey
from open360.release.targets import REPO_ID, FolderTarget, Target, TargetError
from open360.schema.serialization import MAX_SPEC_BYTES, dump_yaml, load_spec


def open_any_target(
    text: str,
    *,
    tag: str | None = None,
    spec: Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> Target:
    """The target that a person means by `text`, whoever made the release.

    A folder that exists; else `ORG/NAME` on the Hub: a release that open360 published there, else what `spec`, the
    catalogue or, with neither, a guess says of it; else a name of the catalogue.

    Args:
        tag: tag to start from, of a release that open360 published; the newest version when None.
        spec: a spec to read the repositories by.
    Raises:
        TargetError: `text` is none of these, or `spec` cannot be read.
        HubError: the Hub does not answer.
        SpecError: `spec` is no spec.
    """
    if text and Path(text).is_dir() and spec is None:
        return FolderTarget(Path(text))
    entry = catalogue.find(text)
    if REPO_ID.fullmatch(text) is None and spec is None and entry is None:
        raise TargetError(
            f"'{text}': expected a folder that exists, ORG/NAME on the Hub or a name of the catalogue, found none; "
            "see 'open360 catalogue'"
        )
    hub = Hub(endpoint, token)
    survey = Survey(hub)
    if spec is not None:
        return ForeignTarget(text, _from_file(spec), survey)
    if REPO_ID.fullmatch(text) is None:
        assert entry is not None  # noqa: S101
        return ForeignTarget(text, _from_catalogue(entry, None), survey)
    try:
        published = open_hub_target(text, tag=tag, survey=survey)
        if tag is not None or published.manifest_bytes() is not None:
            return published
    except NotVisibleError:
        if tag is not None:
            raise
    except HubNotFoundError:
        if tag is not None or entry is None:
            raise  # what the catalogue knows of is judged: that it is not there is a finding
    if entry is not None:
        return ForeignTarget(text, _from_catalogue(entry, text), survey)
    from open360.release.drafts import draft_spec

    return ForeignTarget(text, draft_spec(survey, Repo(id=text, type="model")), survey)


def _from_catalogue(name: str, repo_id: str | None) -> ForeignSpec:
    spec = catalogue.load(name) if repo_id is None else catalogue.part_of(name, repo_id)
    data = dump_yaml(spec, as_written=True)
    return ForeignSpec(origin=f"catalogue entry '{name}'", path=f"catalogue/{name}.yaml", data=data, spec=spec)


def _from_file(path: Path) -> ForeignSpec:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise TargetError(f"{path}: expected a spec, found none ({error.strerror}); see 'open360 catalogue'") from error
    return ForeignSpec(origin=f"file {path.name}", path=path.name, data=data, spec=load_spec(data, path.name))
