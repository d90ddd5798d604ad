"""The Hub, as open360 needs it: the only module that talks to `huggingface_hub`.

Rules of this module:

* Everything is read at a commit, never at a branch.
* Reads are tried a few times with growing, jittered pauses. Writes are tried once: the caller looks first whether a
  lost answer was a success (`release/publishing.py`).
* Errors of the client leave as `HubError`s, errors of this disk as they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import build_hf_headers, disable_progress_bars, httpx  # type: ignore[attr-defined]

from open360.release.filling import Filling
from open360.release.hub_answers import (
    MAX_INFO_BYTES,
    MAX_PAGE_BYTES,
    MAX_REFS_BYTES,
    WrongAnswerError,
    agrees,
    check_file,
    is_span,
    parse_history,
    parse_info,
    parse_refs,
    parse_tree,
    take,
    take_into,
)
from open360.release.hub_errors import (
    HubAddressError,
    HubAnswerError,
    HubAuthError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    HubRateLimitedError,
    HubUnavailableError,
    error_of_status,
    first_line,
)
from open360.release.hub_objects import Refs, RemoteFile, Repo, Upload
from open360.release.hub_patience import Patience
from open360.release.hub_transport import ClientParts, Opened, SlowAnswerError, Transport
from open360.release.pacing import ANONYMOUS, WITH_TOKEN, Kind, Pacer, Quota
from open360.schema.errors import IntegrityError
from open360.schema.names import NAME_PATTERN

__all__ = [
    "Hub",
    "HubAnswerError",
    "HubAuthError",
    "HubConflictError",
    "HubError",
    "HubNotFoundError",
    "HubRateLimitedError",
    "HubUnavailableError",
]

ANSWERED = re.compile(rf"/api/(?:models|datasets)/({NAME_PATTERN}/{NAME_PATTERN})/refs$")
PUBLIC_HUB = "https://huggingface.co"
MAX_TREE_FILES = 500_000
WORTH_GOING_ON = 1 << 16  # bytes that must have come in a few tries, for more of them
TIMEOUT = httpx.Timeout(120.0, connect=15.0)  # the Hub gives up on a commit after 60 s
_XET_STATUS = re.compile(r"HTTP status [a-z]+ error \((\d{3})")  # the Xet transfer tells statuses as text
_WRONG_SHAPE = (ValueError, KeyError, TypeError, AttributeError)  # how the client meets an answer of another shape
_CLIENT_ERRORS = (
    httpx.HTTPError,
    httpx.InvalidURL,
    OSError,
    RuntimeError,
    SlowAnswerError,
    EntryNotFoundError,
    *_WRONG_SHAPE,
)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class PreparedCommit:
    """Files that the Hub has received, or will with the commit itself."""

    repo: Repo
    branch: str
    additions: tuple[huggingface_hub.CommitOperationAdd, ...]


class Hub:
    """One Hub, as one account sees it. Safe for several threads.

    Every method may raise HubError: of the kinds HubAuthError, HubNotFoundError, HubConflictError,
    HubRateLimitedError, HubUnavailableError, HubAnswerError.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        patience: Patience | None = None,
        pacer: Pacer | None = None,
    ) -> None:
        """`endpoint`: HF_ENDPOINT, else the public Hub, when None. `token`: what the client finds when None.

        `pacer`: one that keeps the quota of the public Hub, or what another Hub tells of its own, when None.
        """
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or PUBLIC_HUB).rstrip("/")
        if re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", self.endpoint) is None:
            raise HubAddressError(self.endpoint)
        self.patience = patience or Patience()
        self._api = huggingface_hub.HfApi(endpoint=self.endpoint, token=token)
        self._token = token
        self.pacer = pacer if pacer is not None else Pacer(self._known_quotas())
        parts = ClientParts(
            session=huggingface_hub.get_session,
            headers=lambda: build_hf_headers(token=token),
            refuse=huggingface_hub.hf_raise_for_status,
            answer=httpx.Response,
            timeout=TIMEOUT,
        )
        self._transport = Transport(self.endpoint, parts, self.pacer, self.patience.answer_seconds)
        disable_progress_bars()

    # Reading

    def refs(self, repo: Repo) -> Refs:
        """Branches and tags. A repository that was renamed answers under its new name, which is told."""
        url = f"{self._api_url(repo)}/refs"

        def get() -> Refs:
            body = self._transport.body(url, MAX_REFS_BYTES)
            answered = ANSWERED.search(urlsplit(body.url).path)
            name = answered[1] if answered is not None else repo.id
            return replace(parse_refs(body.data), renamed=name if name.casefold() != repo.id.casefold() else None)

        return self._reading(str(repo), "api", get)

    def commit_of(self, repo: Repo, revision: str) -> str:
        """The commit that a branch or tag stands for now."""
        url = f"{self._api_url(repo)}/revision/{quote(revision, safe='')}?expand[]=sha"
        thing = f"{repo} at '{revision}'"
        return self._reading(thing, "api", lambda: parse_info(self._transport.body(url, MAX_INFO_BYTES).data))

    def first_commit(self, repo: Repo) -> str:
        """The commit that the repository began with."""
        last = None
        for page in self._pages(f"{repo}, history", f"{self._api_url(repo)}/commits/main", parse_history):
            last = page[-1] if page else last
        if last is None:
            raise HubAnswerError(str(repo), self.endpoint, "expected a history, found none")
        return last

    def tree(self, repo: Repo, commit: str) -> dict[str, RemoteFile]:
        """Every file at a commit by its path: one call a thousand files."""
        thing = f"{repo} at {commit[:12]}"
        url = f"{self._api_url(repo)}/tree/{quote(commit, safe='')}?recursive=true&expand=false"
        found: dict[str, RemoteFile] = {}
        for page in self._pages(thing, url, parse_tree):
            if not found.keys().isdisjoint(page):
                raise HubAnswerError(thing, self.endpoint, "expected every file once, found one on two pages")
            found |= page
            if len(found) > MAX_TREE_FILES:
                raise HubAnswerError(thing, self.endpoint, f"it lists more than {MAX_TREE_FILES} files")
        return found

    def read(self, repo: Repo, commit: str, path: str, max_bytes: int) -> bytes:
        """A whole file of at most `max_bytes`, compared with the digest that the Hub sends along."""
        thing = f"{repo}, file '{path}'"

        def get() -> bytes:
            with self._opened(repo, commit, path, {}) as answer:
                data = take(answer.blocks, 0, max_bytes + 1)
            if len(data) > max_bytes:
                raise HubAnswerError(thing, self.endpoint, f"expected at most {max_bytes} bytes, found more")
            if not agrees(data, answer.headers):
                raise HubUnavailableError(thing, self.endpoint, f"{len(data)} bytes came, which are not the file's")
            return data

        return self._reading(thing, "resolvers", get)

    def read_range(
        self, repo: Repo, commit: str, path: str, begin: int, end: int, file: RemoteFile | None = None
    ) -> bytes:
        """Bytes `[begin, end)` of a file, exactly: an answer that is not that range is an error.

        What breaks off is gone on with. A Hub that ignores the range costs `end` bytes, never the whole file. `file`
        is what the Hub has listed: an answer that tells of another one is an error, too.
        """
        return bytes(self.read_buffer(repo, commit, path, begin, end, file))

    def read_buffer(
        self, repo: Repo, commit: str, path: str, begin: int, end: int, file: RemoteFile | None = None
    ) -> memoryview:
        """What `read_range` gives, without a second copy in memory."""
        thing = f"{repo}, file '{path}', bytes {begin} to {end}"
        kept = Filling(max(end - begin, 0))

        def get() -> None:
            at = begin + kept.filled
            with self._opened(repo, commit, path, {"Range": f"bytes={at}-{end - 1}"}) as answer:
                if file is not None:
                    check_file(file, answer.status, answer.headers)
                if answer.status not in (200, 206):
                    raise HubAnswerError(thing, self.endpoint, f"unexpected status {answer.status}")
                header = answer.headers[-1].get("Content-Range", "")
                if answer.status == 206 and not is_span(header, at, end, file.bytes if file is not None else None):
                    raise HubAnswerError(thing, self.endpoint, f"it answered with another range ({header!r})")
                take_into(kept, answer.blocks, 0 if answer.status == 206 else at)
            if kept.missing:
                raise HubUnavailableError(thing, self.endpoint, f"only {kept.filled} bytes came")

        while kept.missing:
            before = kept.filled
            try:
                self._reading(thing, "resolvers", get)
            except HubUnavailableError:
                if kept.filled - before < WORTH_GOING_ON:
                    raise
        return kept.data

    def download(self, repo: Repo, commit: str, path: str, folder: Path, *, size: int, sha256: str) -> Path:
        """A whole file into `folder` under its path, with the client's own resume and Xet transfer.

        What the Hub says of it must agree with `size` and `sha256` before anything is sent; the bytes that come are
        for the caller to verify. Raises OSError when this disk fails.
        """
        thing = f"{repo}, file '{path}'"
        url = huggingface_hub.hf_hub_url(repo.id, path, repo_type=repo.type, revision=commit, endpoint=self.endpoint)
        known = self._paced(
            thing,
            lambda: huggingface_hub.get_hf_file_metadata(url, token=self._token, endpoint=self.endpoint, timeout=30.0),
        )
        if known.size != size or (known.etag is not None and len(known.etag) == 64 and known.etag != sha256):
            found = f"{known.size} bytes, {known.etag}"
            raise IntegrityError(thing, f"{size} bytes, {sha256}", found, "the publication is damaged; tell its author")
        local = self._paced(
            thing,
            lambda: huggingface_hub.hf_hub_download(
                repo.id,
                path,
                repo_type=repo.type,
                revision=commit,
                local_dir=folder,
                endpoint=self.endpoint,
                token=self._token,
            ),
        )
        return Path(local)

    # Writing

    def create_repo(self, repo: Repo, *, private: bool) -> None:
        """Make a repository; one that exists is left alone."""
        with self._translating(str(repo)):
            self._api.create_repo(repo.id, repo_type=repo.type, private=private, exist_ok=True)

    def create_branch(self, repo: Repo, branch: str, commit: str) -> None:
        """Start a branch at a commit. Raises HubConflictError when it exists."""
        with self._translating(f"{repo}, branch '{branch}'"):
            self._api.create_branch(repo.id, repo_type=repo.type, branch=branch, revision=commit)

    def create_tag(self, repo: Repo, tag: str, commit: str, message: str) -> None:
        """Tag a commit. Raises HubConflictError when the tag exists."""
        with self._translating(f"{repo}, tag '{tag}'"):
            self._api.create_tag(repo.id, repo_type=repo.type, tag=tag, revision=commit, tag_message=message)

    def prepare_commit(self, repo: Repo, branch: str, uploads: Sequence[Upload]) -> PreparedCommit:
        """Send the large files ahead; nothing of it shows before the commit.

        The digest of what was sent is compared with what was promised: raises IntegrityError.
        """
        thing = f"{repo}, branch '{branch}', upload of {len(uploads)} files"
        with self._translating(thing):
            additions = [
                huggingface_hub.CommitOperationAdd(path_in_repo=upload.path, path_or_fileobj=upload.source)
                for upload in uploads
            ]
            self._api.preupload_lfs_files(repo.id, additions, repo_type=repo.type, revision=branch)
        for upload, addition in zip(uploads, additions, strict=True):
            found = addition.upload_info.sha256.hex()
            if found != upload.sha256:
                raise IntegrityError(upload.path, upload.sha256, found, "build the release again: 'dvc repro'")
            if addition._should_ignore:
                raise HubAnswerError(thing, self.endpoint, f"its ignore rules would drop '{upload.path}'")
        return PreparedCommit(repo=repo, branch=branch, additions=tuple(additions))

    def commit(self, prepared: PreparedCommit, *, delete: Sequence[str], message: str, parent: str) -> str:
        """One commit on top of `parent`, all of it or nothing; returns its id.

        Raises HubConflictError when the branch has moved from `parent`.
        """
        repo = prepared.repo
        operations: list[huggingface_hub.CommitOperationAdd | huggingface_hub.CommitOperationDelete] = [
            *prepared.additions,
            *(huggingface_hub.CommitOperationDelete(path_in_repo=path, is_folder=False) for path in delete),
        ]
        with self._translating(f"{repo}, commit on '{prepared.branch}'"):
            made = self._api.create_commit(
                repo.id,
                operations,
                repo_type=repo.type,
                revision=prepared.branch,
                commit_message=message,
                parent_commit=parent,
            )
        return made.oid

    # How errors and pauses are handled

    def _known_quotas(self) -> Mapping[Kind, Quota] | None:
        if self.endpoint != PUBLIC_HUB:
            return None
        return WITH_TOKEN if self._token or huggingface_hub.get_token() else ANONYMOUS

    def _api_url(self, repo: Repo) -> str:
        return f"{self.endpoint}/api/{repo.type}s/{repo.id}"

    def _reading(self, thing: str, kind: Kind, call: Callable[[], ResultT]) -> ResultT:
        def translated() -> ResultT:
            with self._translating(thing):
                return call()

        return self.patience.keep_asking(translated, lambda seconds: self.pacer.hold(kind, seconds))

    def _paced(self, thing: str, call: Callable[[], ResultT]) -> ResultT:
        """A read that the client makes by itself."""

        def paced() -> ResultT:
            with self.pacer.call("resolvers"):
                return call()

        return self._reading(thing, "resolvers", paced)

    def _pages(self, thing: str, url: str, parse: Callable[[bytes], ResultT]) -> Iterator[ResultT]:
        """The pages of a listing, each tried again by itself."""

        def get(at: str) -> tuple[ResultT, str | None]:
            body = self._transport.body(at, MAX_PAGE_BYTES)
            after = body.next_url
            return parse(body.data), self._transport.check_next(body.url, after, seen) if after is not None else None

        seen: set[str] = set()
        at: str | None = url
        while at is not None:
            here = at
            seen.add(here)
            page, at = self._reading(thing, "api", lambda: get(here))  # noqa: B023
            yield page

    @contextlib.contextmanager
    def _opened(self, repo: Repo, commit: str, path: str, headers: dict[str, str]) -> Iterator[Opened]:
        url = huggingface_hub.hf_hub_url(repo.id, path, repo_type=repo.type, revision=commit, endpoint=self.endpoint)
        with self._transport.opened("resolvers", url, headers, abroad=True) as answer:
            told = [header.get("X-Repo-Commit") for header in answer.headers]
            if any(sha not in (None, commit) for sha in told):
                problem = f"expected commit {commit}, answered with {told}"
                raise HubAnswerError(f"{repo}, file '{path}'", self.endpoint, problem)
            yield answer

    @contextlib.contextmanager
    def _translating(self, thing: str) -> Iterator[None]:
        huggingface_hub.get_session().timeout = TIMEOUT  # the client has none, and would wait for ever
        try:
            yield
        except _CLIENT_ERRORS as error:
            disk_error = _disk_error_in(error)
            if disk_error is error:
                raise
            if disk_error is not None:
                raise disk_error from error
            raise self._translate(thing, error) from error

    def _translate(self, thing: str, error: BaseException) -> HubError:
        answer = _http_error_in(error)
        if answer is not None:
            status = 404 if isinstance(answer, RepositoryNotFoundError) else answer.response.status_code
            return error_of_status(thing, self.endpoint, status, answer.response.headers, first_line(answer))
        status_in_text = _XET_STATUS.search(str(error))
        if status_in_text is not None and status_in_text[1] == "404":
            problem = "it takes no files over Xet, and the client wants to send them so; set HF_HUB_DISABLE_XET=1"
            return HubAnswerError(thing, self.endpoint, problem)
        if status_in_text is not None:
            return error_of_status(thing, self.endpoint, int(status_in_text[1]), {}, first_line(error))
        if isinstance(error, WrongAnswerError):
            return HubAnswerError(thing, self.endpoint, str(error))
        if isinstance(error, _WRONG_SHAPE):
            return HubAnswerError(thing, self.endpoint, f"it cannot be understood ({first_line(error)})")
        return HubUnavailableError(thing, self.endpoint, f"no whole answer ({first_line(error)})")


def _http_error_in(error: BaseException | None) -> HfHubHTTPError | None:
    for _ in range(6):
        if error is None or isinstance(error, HfHubHTTPError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _disk_error_in(error: BaseException) -> OSError | None:
    """The error as one of this disk, when it is: of the operating system, and not of a connection."""
    if "No space left on device" in str(error):  # the Xet transfer raises it as text
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    foreign = httpx.HTTPError | ConnectionError | TimeoutError
    return error if isinstance(error, OSError) and error.errno is not None and not isinstance(error, foreign) else None
