"""What can go wrong with a Hub, as one small tree. Every message names the thing and the next step."""

from __future__ import annotations

import re
from collections.abc import Mapping

from open360.schema.errors import Open360Error

_RESET = re.compile(r";\s*t\s*=\s*(\d+)")


class HubError(Open360Error):
    """The Hub, or the way to it, failed. `thing` is what was asked for, `endpoint` the Hub's address."""

    def __init__(self, thing: str, endpoint: str, problem: str, next_step: str) -> None:
        self.thing, self.endpoint, self.problem = thing, endpoint, problem
        super().__init__(f"{thing} on {endpoint}: {problem}; {next_step}")


class HubAddressError(HubError):
    """What was named as the address of a Hub is none."""

    def __init__(self, endpoint: str) -> None:
        problem = "expected an address such as https://huggingface.co, found something else"
        super().__init__("the Hub", endpoint, problem, "correct HF_ENDPOINT or --endpoint")


class HubAuthError(HubError):
    """The Hub does not take the token, or the token may not do this."""

    def __init__(self, thing: str, endpoint: str, status: int) -> None:
        problem = "no valid token was sent (401)" if status == 401 else f"this token may not do that ({status})"
        super().__init__(thing, endpoint, problem, "set HF_TOKEN to a token that may, or run 'hf auth login'")


class HubNotFoundError(HubError):
    """There is no such repository, revision or file, or it is hidden from this token."""

    def __init__(self, thing: str, endpoint: str) -> None:
        super().__init__(thing, endpoint, "found none", "check the name, and HF_TOKEN if it is private")


class HubConflictError(HubError):
    """Somebody else changed it first."""

    def __init__(self, thing: str, endpoint: str, problem: str = "it was changed by somebody else meanwhile") -> None:
        super().__init__(thing, endpoint, problem, "run the same command again when nobody else is writing")


class HubRateLimitedError(HubError):
    """Too many requests. `wait` is the number of seconds that the Hub asks for, None when it does not say."""

    def __init__(self, thing: str, endpoint: str, wait: float | None) -> None:
        self.wait = wait
        when = "later" if wait is None else f"in {wait:.0f} seconds"
        super().__init__(thing, endpoint, "too many requests (429)", f"run the same command again {when}")


class HubUnavailableError(HubError):
    """No answer, half an answer, or a failure of the Hub itself. What was asked for may have happened."""

    def __init__(self, thing: str, endpoint: str, problem: str) -> None:
        super().__init__(
            thing, endpoint, problem, "see that the Hub is up, then run the same command again: it goes on"
        )


class HubAnswerError(HubError):
    """The Hub refused a request as malformed, or gave an answer that cannot be right."""

    def __init__(self, thing: str, endpoint: str, problem: str) -> None:
        super().__init__(thing, endpoint, problem, "check that HF_ENDPOINT is a Hub, and report this if it is")


def error_of_status(thing: str, endpoint: str, status: int, headers: Mapping[str, str], detail: str) -> HubError:
    """The error that a Hub's answer with a status of 400 or more means."""
    if status == 404:
        return HubNotFoundError(thing, endpoint)
    if status in (401, 403):
        return HubAuthError(thing, endpoint, status)
    if status in (409, 412):
        return HubConflictError(thing, endpoint)
    if status == 429:
        return HubRateLimitedError(thing, endpoint, asked_wait(headers))
    if status >= 500 or status == 408:
        return HubUnavailableError(thing, endpoint, f"it failed with status {status}")
    return HubAnswerError(thing, endpoint, f"it was refused with status {status} ({detail})")


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a refusal for too many requests asks to wait, or None.

    `RateLimit` comes with every answer of the Hub: it tells of this refusal only when nothing is left of the limit
    (the limit on commits is another one, and does not show there).
    """
    after = headers.get("Retry-After", "")
    if after.isdecimal():
        return float(after)
    limit = headers.get("RateLimit", "").replace(" ", "")
    found = _RESET.search(limit)
    return float(found[1]) + 1 if found is not None and ";r=0;" in limit else None


def first_line(error: BaseException) -> str:
    """Class and first line of a foreign error, for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
