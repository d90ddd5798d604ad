"""How the local Hub says no: one exception, told apart by clients through its error code."""

from __future__ import annotations

from open360.schema.errors import Open360Error


class RefusalError(Open360Error):
    """A request that is answered with an HTTP error.

    `code` is the Hub's `X-Error-Code` (`RepoNotFound`, `RevisionNotFound`, `EntryNotFound`): clients read it, not
    the status. `extra` is added to the JSON body, `headers` to the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        extra: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status, self.message, self.code = status, message, code
        self.extra, self.headers = extra or {}, headers or {}
        super().__init__(message)


class MovedError(RefusalError):
    """The repository has another name now: clients are sent there."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new
        super().__init__(307, f"Repository {old} is now {new}")


def no_repository(name: str) -> RefusalError:
    """The repository does not exist on this Hub."""
    return RefusalError(404, f"Repository not found: {name}", code="RepoNotFound")


def no_revision(revision: str) -> RefusalError:
    """The revision is no branch, tag or commit of the repository."""
    return RefusalError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def no_entry(path: str, commit: str) -> RefusalError:
    """The path is no file of the commit."""
    message = f"Entry not found: {path} does not exist at {commit}"
    return RefusalError(404, message, code="EntryNotFound", headers={"X-Repo-Commit": commit})
