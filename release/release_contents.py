"""What a release holds, as its target lists it and its manifest tells it: checkpoints, chunks and files, for comparing.

Nothing is downloaded but spec and manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from open360.release.foreign_target import ForeignTarget
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.targets import MissingFileError, Target, TargetError
from open360.schema.layout import MANIFEST_FILE
from open360.schema.manifest import CheckpointRecord, ChunkRecord, Manifest
from open360.schema.schedule import ScheduleError, checkpoints
from open360.schema.serialization import load_manifest, load_spec
from open360.schema.spec import ReleaseSpec

Kind = Literal["checkpoint", "chunk", "file"]
MAX_REVISIONS = 50_000


@dataclass(frozen=True, kw_only=True)
class ReleasePart:
    """A checkpoint or a chunk: its name in its `group` (a run, or a repository), its files, and what is told of it."""

    group: str
    name: str
    files: Mapping[str, RemoteFile]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReleaseContents:
    """A release in parts. `fields` is its spec by field; `unsaid` what could not be looked at, each with the reason."""

    label: str
    fields: Mapping[str, Any]
    checkpoints: tuple[ReleasePart, ...]
    chunks: tuple[ReleasePart, ...]
    files: Mapping[str, RemoteFile]
    unsaid: tuple[str, ...] = ()


def contents_of(target: Target) -> ReleaseContents:
    """The parts of a release, whoever made it. Raises TargetError, SpecError, HubError."""
    return _foreign(target) if isinstance(target, ForeignTarget) else _own(target)


def _own(target: Target) -> ReleaseContents:
    data = target.manifest_bytes()
    manifest = load_manifest(data, f"{target.label}/{MANIFEST_FILE}") if data is not None else None
    recorded = {record.path: record for record in manifest.all_files()} if manifest is not None else {}
    there: dict[str, RemoteFile] = {}
    for path, listed in target.listing().items():
        record = recorded.get(path)
        told = record.sha256 if record is not None and record.bytes == listed.bytes else None
        there[path] = RemoteFile(bytes=listed.bytes, sha256=listed.sha256 or told, git_id=None)
    unsaid = () if manifest is not None else (f"{target.label} has no manifest: digests of its files are not known",)
    try:
        fields = fields_of(load_spec(target.spec_bytes(), target.spec_path))
    except MissingFileError:
        fields, unsaid = {}, (*unsaid, f"{target.label} has no spec")
    found = dict(there)
    if manifest is not None:  # what it says is compared, not how: publishing adds commits to it
        found.pop(MANIFEST_FILE, None)
        rest = manifest.model_dump(mode="json", include={"environment_sha256", "code", "corpora"})
        fields |= _leaves(rest, "manifest")
    parts = list(_recorded_parts(manifest, found)) if manifest is not None else []
    return ReleaseContents(
        label=target.label,
        fields=fields,
        checkpoints=tuple(part for kind, part in parts if kind == "checkpoint"),
        chunks=tuple(part for kind, part in parts if kind == "chunk"),
        files=found,
        unsaid=unsaid,
    )


def _recorded_parts(manifest: Manifest, found: dict[str, RemoteFile]) -> Iterator[tuple[Kind, ReleasePart]]:
    """Checkpoints and chunks of a manifest as far as they are there; their files are taken out of `found`."""
    inside = _by_folder(found, {checkpoint.folder for run in manifest.runs for checkpoint in run.checkpoints})
    for run in manifest.runs:
        for chunk in run.chunks:
            named = {"chunk": chunk.file.path, "step table": chunk.step_table.path}
            files = {name: found.pop(path) for name, path in named.items() if path in found}
            if files:
                yield "chunk", ReleasePart(group=run.name, name=chunk.name, files=files, facts=_facts(chunk))
        for checkpoint in run.checkpoints:
            files = {path[len(checkpoint.folder) + 1 :]: found.pop(path) for path in inside[checkpoint.folder]}
            if files:
                part = ReleasePart(group=run.name, name=checkpoint.name, files=files, facts=_facts(checkpoint))
                yield "checkpoint", part


def _by_folder(paths: Iterable[str], folders: set[str]) -> dict[str, list[str]]:
    """Paths below each of the folders; a path below two of them is of the outer one."""
    found: dict[str, list[str]] = {folder: [] for folder in folders}
    for path in paths:
        parts = path.split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        folder = next((folder for folder in above if folder in folders), None)
        if folder is not None:
            found[folder].append(path)
    return found


def _facts(record: ChunkRecord | CheckpointRecord) -> dict[str, Any]:
    if isinstance(record, ChunkRecord):
        kept = {"first_step", "end_step", "first_row", "end_row", "row_len", "rows_sha256"}
    else:
        kept = {"step", "tokens", "learning_rate", "parent", "first_row", "end_row"}
    return record.model_dump(mode="json", include=kept)


def _foreign(target: ForeignTarget) -> ReleaseContents:
    """All branches and tags of its model repositories are its checkpoints, whether its spec declares them or not."""
    spec, guess = target.document.spec, target.document.is_guess
    known = _plans(spec)
    parts: list[ReleasePart] = []
    files: dict[str, RemoteFile] = {}
    pairs = [(repo, name) for repo in target.model_repos for name in _revisions(target, repo)]
    for (repo, revision), listed in target.survey.revisions(pairs).items():
        if listed is not None:
            facts = known.get((repo.id, revision), {}) if not guess else {}
            parts.append(ReleasePart(group=repo.id.split("/")[1], name=revision, files=listed.files, facts=facts))
    for (repo, _), listed in target.survey.revisions(target.data_repos).items():
        if listed is not None:
            name = repo.id.split("/")[1]
            files.update((f"datasets/{name}/{path}", file) for path, file in listed.files.items())
    return ReleaseContents(
        label=target.label,
        fields={} if guess else fields_of(spec),
        checkpoints=tuple(parts),
        chunks=(),
        files=files,
        unsaid=(f"the spec of {target.label} is a guess, so its fields are not compared",) if guess else (),
    )


def _revisions(target: ForeignTarget, repo: Repo) -> list[str]:
    refs = target.survey.refs(repo)
    names = sorted({**refs.branches, **refs.tags}) if refs is not None else []
    if len(names) > MAX_REVISIONS:
        raise TargetError(f"{repo.id}: {len(names)} branches and tags, expected at most {MAX_REVISIONS}")
    return names


def _plans(spec: ReleaseSpec) -> dict[tuple[str, str], dict[str, Any]]:
    """Step and tokens of declared revisions, by repository and revision."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in spec.all_runs():
        try:
            plans = checkpoints(run, spec.corpus_of(run)) if run.hub.model is not None else []
        except ScheduleError:
            plans = []
        for plan in plans:
            found[run.hub.model or "", plan.revision] = {"step": plan.step, "tokens": plan.tokens}
    return found


def fields_of(spec: ReleaseSpec) -> dict[str, Any]:
    """Every value that a spec states, by its place: `runs/amber/batch`. Named things of a list go by their name."""
    return dict(_leaves(spec.model_dump(mode="json", exclude_defaults=True), ""))


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}/{key}" if place else key)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        names = [item.get("name") for item in value]
        named = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        for index, item in enumerate(value):
            rest = {key: inner for key, inner in item.items() if key != "name"} if named else item
            yield from _leaves(rest, f"{place}/{names[index] if named else index}")
    else:
        yield place, value
