"""Publishing: from a built release folder to a release on the Hub that is visible all at once, or not at all.

The Hub has no transactions, so visibility is one tag: readers start from the tag of the primary repository, which is
set when everything else is there and has been compared with the manifest. The order is: data and checkpoints, each
revision verified by listing; the files of `main`; the published manifest, card and report in one commit; the tags of
the other repositories; the tag of the primary one. Running again goes on where the last run stopped.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from open360.release.cards import data_card, model_card
from open360.release.hub import Hub
from open360.release.hub_limits import PublishRefusedError
from open360.release.hub_objects import Repo
from open360.release.hub_patience import Patience
from open360.release.placement import MAIN, Homes, Placement, place
from open360.release.plan import CARD_FILE, Plan, RemoteListing, RemoteRepo, RemoteRevision, make_plan
from open360.release.published import built_form, published_form, revisions_of
from open360.release.remote_listing import at_once, look, look_at
from open360.release.settling import Settler
from open360.release.source_code import source_code_of
from open360.release.targets import FolderTarget
from open360.schema.errors import IntegrityError, SpecError
from open360.schema.layout import MANIFEST_FILE, REPORT_FILE, SPEC_FILE
from open360.schema.manifest import MAX_MANIFEST_BYTES, Manifest, Publication
from open360.schema.serialization import dump_json, load_manifest, load_spec
from open360.schema.spec import ReleaseSpec

__all__ = ["PATIENCE", "PublishRefusedError", "PublishResult", "publish"]

Progress = Callable[[int, int, str], None]
PATIENCE = Patience(tries=6, first_pause=1.0, longest_pause=3_700.0)
RECORDS_FOLDER = "records"
MAX_ATTACHMENT_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """What a call of `publish` did. `manifest` is the published one, None after a dry run."""

    plan: Plan
    manifest: Manifest | None
    changed: bool


@dataclass(frozen=True, kw_only=True)
class _Release:
    """A release folder that was read and may be published."""

    folder: FolderTarget
    spec: ReleaseSpec
    manifest: Manifest
    homes: Homes
    extra: tuple[Placement, ...]

    @property
    def tag(self) -> str:
        return f"v{self.spec.version}"


def publish(
    root: Path,
    hub: Hub,
    *,
    to: str | None = None,
    dry_run: bool = False,
    private: bool = False,
    delete: bool = True,
    report_errors: int = 0,
    progress: Progress | None = None,
    patience: Patience = PATIENCE,
) -> PublishResult:
    """Publish the release folder `root` to `hub`, or go on with what an earlier call began.

    Args:
        to: namespace that replaces that of every repository.
        dry_run: make the plan, and change nothing.
        private: make new repositories private.
        delete: delete files in the repositories that are no part of the release; False: refuse when there are any.
        report_errors: number of errors that a validation of this folder has found; any refuses the publication.
        progress: called with (bytes done, bytes in all, what is going on).
        patience: tries of a write, and the longest wait in all for one branch when there were too many commits.
    Raises:
        PublishRefusedError: the release has errors, is not what its manifest says, or the version exists otherwise.
        IntegrityError: a file is not what the manifest says, or the Hub does not keep what it was sent.
        HubError: the Hub failed for good; the same call goes on.
    """
    release = _read_release(root, to, report_errors)
    done = 0

    def tell(size: int, text: str) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, max(total, done), text)

    total = 0
    settler = Settler(hub, release.folder, patience, tell)
    placements = [*place(release.spec, release.manifest, to), *release.extra]
    remote = look(hub, placements, settler.read_local)
    primary = remote.get(release.homes.primary)
    if primary is not None and release.tag in primary.tags:
        return _published_already(release, settler, primary.tags[release.tag], to)
    plan = make_plan(release.spec, release.manifest, remote, to, release.extra)
    if dry_run:
        return PublishResult(plan=plan, manifest=None, changed=False)
    strange = [
        f"{r.repo} {r.revision}: '{path}' would be deleted" for r in plan.revisions for path in r.difference.delete
    ]
    if strange and not delete:
        raise PublishRefusedError(strange, "see that the repositories are the right ones, then publish with '--delete'")
    total = plan.bytes
    return PublishResult(plan=plan, manifest=_execute(release, plan, remote, settler, private), changed=True)


def _execute(release: _Release, plan: Plan, remote: RemoteListing, settler: Settler, private: bool) -> Manifest:
    for repo in plan.create:
        settler.create_repo(repo, private=private)
    states: dict[tuple[Repo, str], RemoteRevision] = {}
    starts = _Starts(settler.hub, remote)
    for revision in plan.revisions:
        repo, name, wanted = revision.repo, revision.revision, revision.wanted
        state = remote[repo].revisions.get(name) if repo in remote else None
        if state is None and name != MAIN and settler.create_branch(repo, name, starts.of(repo).commit):
            state = starts.of(repo)
        states[repo, name] = settler.settle(repo, name, wanted, state or settler.head(repo, name, wanted))
    main = (plan.primary, MAIN)
    if main not in states:
        states[main] = settler.head(plan.primary, MAIN, ())
    content, manifest = _published_manifest(release, states, settler.hub)
    own = next((revision.wanted for revision in plan.revisions if (revision.repo, revision.revision) == main), ())
    wanted = (*own, *plan.last, _generated(plan.primary, MANIFEST_FILE, content))
    state = settler.look_at(plan.primary, states[main].commit, wanted)
    states[main] = settler.settle(plan.primary, MAIN, wanted, state)
    message = f"{release.spec.name} {release.spec.version}"
    for repo in plan.repositories:  # the primary one is last: this is what makes the release visible
        files = wanted if repo == plan.primary else _wanted_on_main(plan, repo)
        settler.create_tag(repo, plan.tag, states[repo, MAIN].commit, files, message)
    return manifest


class _Starts:
    """The first commit of repositories, where branches of checkpoints begin; looked at once."""

    def __init__(self, hub: Hub, remote: RemoteListing) -> None:
        self._hub, self._remote = hub, remote
        self._known: dict[Repo, RemoteRevision] = {}

    def of(self, repo: Repo) -> RemoteRevision:
        """The first commit of a repository, and its files."""
        if repo not in self._known:
            there = self._remote.get(repo)
            commit = there.first_commit if there is not None else self._hub.first_commit(repo)
            self._known[repo] = RemoteRevision(commit=commit, files=self._hub.tree(repo, commit))
        return self._known[repo]


def _wanted_on_main(plan: Plan, repo: Repo) -> tuple[Placement, ...]:
    return next(r.wanted for r in plan.revisions if r.repo == repo and r.revision == MAIN)


def _read_release(root: Path, to: str | None, report_errors: int) -> _Release:
    folder = FolderTarget(root)
    if report_errors:
        raise PublishRefusedError(
            [f"validation has found {report_errors} errors"], f"see 'open360 validate {root}', and correct them"
        )
    spec_bytes = folder.spec_bytes()
    spec = load_spec(spec_bytes, SPEC_FILE)
    data = folder.manifest_bytes()
    if data is None:
        raise PublishRefusedError([f"{folder.label} has no {MANIFEST_FILE}"], "build it: 'dvc repro'")
    manifest = built_form(load_manifest(data, MANIFEST_FILE))
    if hashlib.sha256(spec_bytes).hexdigest() != manifest.spec_sha256:
        raise PublishRefusedError(
            [f"{SPEC_FILE} has changed since {MANIFEST_FILE} was built"], "build it again: 'dvc repro'"
        )
    homes = Homes(spec, to)
    extra = (*_cards(spec, manifest, homes), *_attachments(folder, homes.primary))
    _check_sizes(folder, place(spec, manifest, to))
    return _Release(folder=folder, spec=spec, manifest=manifest, homes=homes, extra=extra)


def _check_sizes(folder: FolderTarget, placements: Iterable[Placement]) -> None:
    """Refuse at once what a look at sizes tells; digests are compared as the bytes are sent."""
    listed = folder.listing()
    problems = []
    for source, size in sorted({(file.source, file.bytes) for file in placements}):
        found = listed.get(source)
        if found is None or found.bytes != size:
            there = f"{found.bytes} bytes" if found is not None else "no file, or a link that leaves the folder"
            problems.append(f"{source}: expected {size} bytes, found {there}")
    if problems:
        raise PublishRefusedError(problems, "build what the manifest says ('dvc repro'), or build the manifest again")


def _cards(spec: ReleaseSpec, manifest: Manifest, homes: Homes) -> Iterator[Placement]:
    done: set[Repo] = set()
    for run in manifest.runs:
        if homes.model(run.name) not in done:
            done.add(homes.model(run.name))
            yield _generated(homes.model(run.name), CARD_FILE, model_card(spec, manifest, run.name, homes))
        data = homes.data(run.name)
        if run.chunks and data not in done:
            done.add(data)
            yield _generated(data, CARD_FILE, data_card(spec, manifest, data, homes))


def _attachments(folder: FolderTarget, primary: Repo) -> Iterator[Placement]:
    """The report, and the records of what was observed: published with the release, no part of its identity."""
    paths = [REPORT_FILE] if (folder.root / REPORT_FILE).is_file() else []
    paths += sorted(
        path.relative_to(folder.root).as_posix()
        for path in (folder.root / RECORDS_FOLDER).rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder.root).parts)
    )
    for path in paths:
        yield _generated(primary, path, folder.read(path, MAX_ATTACHMENT_BYTES))


def _generated(repo: Repo, path: str, content: bytes) -> Placement:
    digest = hashlib.sha256(content).hexdigest()
    return Placement(
        repo=repo, revision=MAIN, path=path, source=path, bytes=len(content), sha256=digest, content=content
    )


def _published_manifest(
    release: _Release, states: dict[tuple[Repo, str], RemoteRevision], hub: Hub
) -> tuple[bytes, Manifest]:
    """The published manifest; the one that an interrupted run left on `main`, where it says the same."""
    places = [
        Publication(repo=repo.id, repo_type=repo.type, revision=revision, commit=state.commit)
        for (repo, revision), state in sorted(states.items())
    ]
    primary = release.homes.primary
    fresh = published_form(release.manifest, places, release.homes, release.tag, source_code_of(release.folder.root))
    state = states[primary, MAIN]
    if MANIFEST_FILE in state.files:
        content = hub.read(primary, state.commit, MANIFEST_FILE, MAX_MANIFEST_BYTES)
        if _same_but_for_own_commit(content, fresh, primary):
            return content, load_manifest(content)
    return dump_json(fresh), fresh


def _same_but_for_own_commit(content: bytes, fresh: Manifest, primary: Repo) -> bool:
    """Whether a manifest differs from `fresh` at most in the commit of `main` that it was made on."""
    try:
        old = load_manifest(content)
    except SpecError:
        return False
    if old.published is None or fresh.published is None:
        return False
    own = [p.commit for p in old.published.repositories if (p.repo, p.repo_type) == (primary.id, primary.type)]
    places = tuple(
        p.model_copy(update={"commit": own[0]}) if own and (p.repo, p.repo_type) == (primary.id, primary.type) else p
        for p in fresh.published.repositories
    )
    renamed = fresh.model_copy(update={"published": fresh.published.model_copy(update={"repositories": places})})
    return dump_json(renamed) == content


def _published_already(release: _Release, settler: Settler, commit: str, to: str | None) -> PublishResult:
    """Compare a version that is visible already with the local release: equal, or refused."""
    primary, hub = release.homes.primary, settler.hub
    content = hub.read(primary, commit, MANIFEST_FILE, MAX_MANIFEST_BYTES)
    manifest = load_manifest(content, f"{primary.id}@{release.tag}/{MANIFEST_FILE}")
    if dump_json(built_form(manifest)) != dump_json(release.manifest):
        raise PublishRefusedError(
            [f"{primary} has {release.tag} already, with other content"],
            "a version is never rewritten: raise 'version' in release.yaml, build, and publish that",
        )
    named = revisions_of(manifest, primary, commit)
    wanted: dict[tuple[Repo, str], list[Placement]] = defaultdict(list)
    for file in place(release.spec, release.manifest, to):
        wanted[file.repo, file.revision].append(file)
    known = sorted(at for at in wanted if at in named)
    states = at_once(lambda at: look_at(hub, at[0], named[at], wanted[at], settler.read_local), known)
    revisions: dict[Repo, dict[str, RemoteRevision]] = defaultdict(dict)
    for (repo, revision), state in zip(known, states, strict=True):
        revisions[repo][revision] = state
    remote = {repo: RemoteRepo(first_commit="", revisions=found, tags={}) for repo, found in revisions.items()}
    plan = make_plan(release.spec, release.manifest, remote, to)
    missing = [f"{r.repo} at '{r.revision}': {f.path}" for r in plan.revisions for f in r.difference.upload]
    if missing:
        raise IntegrityError(
            f"{primary} at {release.tag}",
            "every file of its manifest",
            f"none or others for {', '.join(missing[:5])}",
            "raise 'version' in release.yaml, build, and publish that",
        )
    return PublishResult(plan=replace(plan, complete=True), manifest=manifest, changed=False)
