"""Looking at the Hub: what is there of a release. The only journal that publishing has.

The Hub knows the sha256 of large files only. A small file is equal when the git blob id of the local bytes, which
have the right sha256, is the one that the Hub shows; its sha256 is then filled in.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TypeVar

from open360.release.hub import Hub, HubNotFoundError
from open360.release.hub_objects import Refs, RemoteFile, Repo, git_id_of
from open360.release.placement import Placement
from open360.release.plan import RemoteListing, RemoteRepo, RemoteRevision
from open360.schema.errors import IntegrityError

CALLS_AT_A_TIME = 16
MAX_SMALL_BYTES = 64 << 20

ReadLocal = Callable[[Placement], bytes]
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def at_once(
    call: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    *,
    done: Callable[[ItemT], None] | None = None,
    give_up: Callable[[], None] | None = None,
) -> list[ResultT]:
    """`call` of every item, sixteen at a time, in order. Raises the first error, and then calls no more.

    `done` is called in this thread with each item that is finished; `give_up`, when one fails, so that others which
    only wait can end.
    """
    executor = ThreadPoolExecutor(CALLS_AT_A_TIME)
    futures = {executor.submit(call, item): item for item in items}
    try:
        for future in as_completed(futures):
            future.result()
            if done is not None:
                done(futures[future])
    except BaseException:
        if give_up is not None:
            give_up()
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    return [future.result() for future in futures]


def look(hub: Hub, placements: Sequence[Placement], read_local: ReadLocal) -> RemoteListing:
    """Every repository of a release that exists, with those of its branches that the release uses.

    One call for the refs of a repository, one for its history, and one tree call a revision.
    """
    wanted: dict[Repo, dict[str, list[Placement]]] = defaultdict(lambda: defaultdict(list))
    for file in placements:
        wanted[file.repo][file.revision].append(file)
    repos = sorted(wanted)
    there = {repo: refs for repo, refs in zip(repos, at_once(lambda r: _refs(hub, r), repos), strict=True) if refs}
    first = dict(zip(there, at_once(hub.first_commit, there), strict=True))
    heads = [
        (repo, revision, refs.branches[revision])
        for repo, refs in there.items()
        for revision in wanted[repo]
        if revision in refs.branches
    ]
    trees = at_once(lambda head: look_at(hub, head[0], head[2], wanted[head[0]][head[1]], read_local), heads)
    revisions: dict[Repo, dict[str, RemoteRevision]] = defaultdict(dict)
    for (repo, revision, _), tree in zip(heads, trees, strict=True):
        revisions[repo][revision] = tree
    return {
        repo: RemoteRepo(first_commit=first[repo], revisions=revisions[repo], tags=refs.tags)
        for repo, refs in there.items()
    }


def look_at(hub: Hub, repo: Repo, commit: str, wanted: Sequence[Placement], read_local: ReadLocal) -> RemoteRevision:
    """One commit, with the digests of those small files filled in that are equal to the wanted ones.

    Raises IntegrityError when a local file is not what the manifest says.
    """
    return RemoteRevision(commit=commit, files=_with_digests(hub.tree(repo, commit), wanted, read_local))


def _refs(hub: Hub, repo: Repo) -> Refs | None:
    try:
        return hub.refs(repo)
    except HubNotFoundError:
        return None


def _with_digests(
    files: Mapping[str, RemoteFile], wanted: Sequence[Placement], read_local: ReadLocal
) -> Mapping[str, RemoteFile]:
    found = dict(files)
    for file in wanted:
        remote = found.get(file.path)
        if remote is None or remote.sha256 is not None or remote.bytes != file.bytes or file.bytes > MAX_SMALL_BYTES:
            continue
        data = read_local(file)
        digest = hashlib.sha256(data).hexdigest()
        if digest != file.sha256:
            raise IntegrityError(file.source, f"sha256 {file.sha256}", digest, "build the release again: 'dvc repro'")
        if git_id_of(data) == remote.git_id:
            found[file.path] = replace(remote, sha256=file.sha256)
    return found
