"""Bringing the Hub to a wanted state, one branch at a time, whatever happens on the way.

A write is never repeated blindly: after a lost answer, a conflict or a restart the remote listing is looked at, and
only what it lacks is done. So a step that happened is never done twice, and one that did not is not forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from open360.release.hub import Hub, PreparedCommit
from open360.release.hub_errors import HubConflictError, HubError, HubRateLimitedError, HubUnavailableError
from open360.release.hub_limits import COMMITS_PER_HOUR, PublishRefusedError, batches
from open360.release.hub_objects import Repo, Upload
from open360.release.hub_patience import Patience
from open360.release.placement import MAIN, Placement
from open360.release.plan import Difference, RemoteRevision, difference
from open360.release.remote_listing import look_at
from open360.release.targets import FolderTarget
from open360.schema.errors import IntegrityError

MAX_IN_MEMORY = 10 << 20  # the Hub keeps text up to this size in git; larger files go ahead of the commit
MAX_CONFLICTS = 20

Tell = Callable[[int, str], None]


class Settler:
    """Writes to a Hub for one publication.

    Args:
        patience: tries of a write that fails; `longest_pause` bounds the seconds waited in all for one branch when
            the Hub says that there were too many commits.
        tell: told the bytes that were just settled, and what is going on.
    """

    def __init__(self, hub: Hub, folder: FolderTarget, patience: Patience, tell: Tell) -> None:
        self.hub, self.folder, self.patience, self.tell = hub, folder, patience, tell

    def read_local(self, file: Placement) -> bytes:
        """The bytes of a file of the release, or of a generated one."""
        return file.content if file.content is not None else self.folder.read(file.source, file.bytes)

    def create_repo(self, repo: Repo, *, private: bool) -> None:
        """Make a repository, or find it there."""
        self._insist(str(repo), lambda: self.hub.create_repo(repo, private=private))

    def create_branch(self, repo: Repo, branch: str, start: str) -> bool:
        """Start a branch at a commit; False when it is there already."""
        try:
            self._insist(f"{repo}, branch '{branch}'", lambda: self.hub.create_branch(repo, branch, start))
        except HubConflictError:
            return False  # made by an earlier run, or by the try whose answer was lost
        return True

    def create_tag(self, repo: Repo, tag: str, commit: str, wanted: Sequence[Placement], message: str) -> str:
        """Tag a commit; returns the commit that the tag is at.

        A tag that exists is left when its commit holds the `wanted` files. Raises PublishRefusedError otherwise.
        """
        thing = f"{repo}, tag '{tag}'"
        try:
            self._insist(thing, lambda: self.hub.create_tag(repo, tag, commit, message))
        except HubConflictError:
            found = self.hub.refs(repo).tags.get(tag)
            if found is None:
                raise
            if found != commit and difference(wanted, self.look_at(repo, found, wanted).files, whole=False).upload:
                raise PublishRefusedError(
                    [f"{thing} exists already, with other content"], "raise 'version' in release.yaml, and publish that"
                ) from None
            return found
        return commit

    def look_at(self, repo: Repo, commit: str, wanted: Sequence[Placement]) -> RemoteRevision:
        """A commit as the Hub lists it."""
        return look_at(self.hub, repo, commit, wanted, self.read_local)

    def head(self, repo: Repo, revision: str, wanted: Sequence[Placement]) -> RemoteRevision:
        """The newest commit of a branch."""
        return self.look_at(repo, self.hub.commit_of(repo, revision), wanted)

    def settle(self, repo: Repo, revision: str, wanted: Sequence[Placement], state: RemoteRevision) -> RemoteRevision:
        """Commit to a branch until the Hub lists all `wanted` files with their digests; returns that commit.

        A checkpoint's branch changes in one commit, `main` in commits of bounded size.

        Raises:
            HubError: it failed too often, somebody else keeps writing, or the wait would be too long.
            IntegrityError: local bytes are not what the manifest says, or the Hub does not keep what it was sent.
        """
        failures = conflicts = 0
        waited = 0.0
        prepared: tuple[Difference, PreparedCommit] | None = None
        while True:
            part = _next_part(difference(wanted, state.files, whole=revision != MAIN), whole=revision != MAIN)
            if part.empty:
                return state
            try:
                if prepared is None or prepared[0] != part:
                    prepared = (part, self._prepare(repo, revision, part))
                commit = self.hub.commit(
                    prepared[1], delete=part.delete, message=_message(revision, part), parent=state.commit
                )
                state = self.look_at(repo, commit, wanted)
                _check_kept(repo, revision, part, state)
                self.tell(sum(file.bytes for file in part.upload), f"{repo.id}@{revision}")
                prepared, failures = None, 0
            except HubConflictError:
                conflicts, prepared = conflicts + 1, None
                if conflicts > MAX_CONFLICTS:
                    raise
                state = self.head(repo, revision, wanted)
            except HubRateLimitedError as error:
                waited += self._wait(error, waited)
            except HubUnavailableError as error:
                failures += 1
                self._pause(error, failures)
                state = self.head(repo, revision, wanted)

    def _prepare(self, repo: Repo, revision: str, part: Difference) -> PreparedCommit:
        return self.hub.prepare_commit(repo, revision, [self._upload(file) for file in part.upload])

    def _upload(self, file: Placement) -> Upload:
        if file.content is not None or file.bytes <= MAX_IN_MEMORY:
            # What is read here is both hashed and sent, so a file that changes meanwhile is found out.
            return Upload(path=file.path, source=self.read_local(file), sha256=file.sha256)
        return Upload(path=file.path, source=self.folder.local_path(file.source), sha256=file.sha256)

    def _insist(self, thing: str, write: Callable[[], None]) -> None:
        failures, waited = 0, 0.0
        while True:
            try:
                return write()
            except HubRateLimitedError as error:
                waited += self._wait(error, waited)
            except HubUnavailableError as error:
                failures += 1
                self.tell(0, f"{thing}: trying again")
                self._pause(error, failures)

    def _wait(self, error: HubRateLimitedError, waited: float) -> float:
        """Sleep as long as the Hub asks, or ever longer when it does not say; raise when that is too long in all."""
        seconds = error.wait if error.wait is not None else max(60.0, waited)
        if waited + seconds > self.patience.longest_pause:
            raise error
        self.tell(0, f"waiting {seconds:.0f} s: the Hub takes about {COMMITS_PER_HOUR} commits an hour")
        time.sleep(seconds)
        return seconds

    def _pause(self, error: HubError, failures: int) -> None:
        if failures >= self.patience.tries:
            raise error
        time.sleep(min(self.patience.pause(failures - 1), 60.0))


def _next_part(left: Difference, *, whole: bool) -> Difference:
    """As much of a difference as one commit takes: all of it on a checkpoint's branch; deletions come last."""
    if whole:
        return left
    upload = next(iter(batches(left.upload)), ())
    return Difference(upload=upload, leave=(), delete=left.delete if len(upload) == len(left.upload) else ())


def _check_kept(repo: Repo, revision: str, part: Difference, state: RemoteRevision) -> None:
    left = difference(part.upload, state.files, whole=False).upload
    if left:
        found = state.files.get(left[0].path)
        raise IntegrityError(
            f"{repo} at '{revision}', file '{left[0].path}', just committed",
            f"{left[0].bytes} bytes, sha256 {left[0].sha256}",
            f"{found.bytes} bytes, sha256 {found.sha256}" if found is not None else "no such file",
            "publish again; if it stays, the Hub does not keep what it is sent",
        )


def _message(revision: str, part: Difference) -> str:
    if revision != MAIN:
        return f"Publish {revision}"
    return f"Publish {len(part.upload)} files" if part.upload else f"Remove {len(part.delete)} files"
