"""Opening whatever a person names: a folder, a release that open360 published, or one that others made."""

from __future__ import annotations

from pathlib import Path

from open360.release import catalogue
from open360.release.foreign_target import GUESS, ForeignSpec, ForeignTarget
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
    if spec is not None:
        return _by_spec(text, spec, tag, Survey(Hub(endpoint, token)))
    if text and Path(text).is_dir():
        return FolderTarget(Path(text))
    is_repo = REPO_ID.fullmatch(text) is not None
    if not is_repo and catalogue.find(text) is None:
        raise TargetError(
            f"'{text}': expected a folder that exists, ORG/NAME on the Hub or a name of the catalogue, found none; "
            "see 'open360 catalogue'"
        )
    survey = Survey(Hub(endpoint, token))
    published = _published(text, tag, survey) if is_repo else None
    if published is not None:
        return published
    entry = catalogue.find(text)
    if entry is not None:
        return ForeignTarget(text, _from_catalogue(entry, text if is_repo else None), survey)
    from open360.release.drafts import draft_spec

    return ForeignTarget(text, draft_spec(survey, Repo(id=text, type="model")), survey)


def _published(text: str, tag: str | None, survey: Survey) -> Target | None:
    """The release that open360 published there, if it did."""
    try:
        published = open_hub_target(text, tag=tag, survey=survey)
        return published if tag is not None or published.manifest_bytes() is not None else None
    except NotVisibleError:
        if tag is not None:
            raise
    except HubNotFoundError:
        if tag is not None or catalogue.find(text) is None:
            raise  # what the catalogue knows of is judged: that it is not there is a finding
    return None


def _by_spec(text: str, spec: Path, tag: str | None, survey: Survey) -> ForeignTarget:
    if tag is not None:
        raise TargetError(f"'{tag}': a tag is of a release that open360 published; leave it out, or leave out {spec}")
    if text and Path(text).is_dir():
        raise TargetError(f"'{text}' is a folder: it is judged by the spec that lies in it; leave out {spec}")
    return ForeignTarget(text, _checked(text, spec, _from_file(spec)), survey)


def _checked(text: str, file: Path, document: ForeignSpec) -> ForeignSpec:
    """The spec, when it speaks of the release that a person named. Raises TargetError."""
    known = catalogue.names_in(document.spec)
    if text.casefold() not in {name.casefold() for name in known}:
        shown = ", ".join([*known[:5], *(["…"] if len(known) > 5 else [])])
        raise TargetError(f"'{text}' is none of the repositories and names of {file} (expected one of: {shown})")
    return document


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
    spec = load_spec(data, path.name)
    is_guess = GUESS in spec.unconfirmed
    origin = f"file {path.name}, which is a guess still" if is_guess else f"file {path.name}"
    return ForeignSpec(origin=origin, path=path.name, data=data, spec=spec, is_guess=is_guess)
