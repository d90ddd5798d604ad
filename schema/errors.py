"""The root of all errors that open360 raises on purpose.

Rules of this module:

* An error carries its data as attributes; its message is made from them.
* A message names the thing, what was expected, what was found, and what to do next.
* Exit codes are no business of an error: the command line maps classes to codes.
"""

from __future__ import annotations

from dataclasses import dataclass


class Open360Error(Exception):
    """Base of every error that a caller of open360 may want to catch."""


@dataclass(frozen=True, kw_only=True)
class SpecProblem:
    """One thing that is wrong in a document, with its place (line and column count from 1)."""

    file: str
    line: int | None
    column: int | None
    pointer: str
    code: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        where = f" at {self.pointer}" if self.pointer else ""
        return f"{place}: {self.message}{where}"


class SpecError(Open360Error):
    """A spec, manifest or other document cannot be read; `problems` lists every reason at once."""

    def __init__(self, problems: tuple[SpecProblem, ...]) -> None:
        self.problems = problems
        lines = [str(problem) for problem in problems]
        super().__init__("\n".join([*lines, "correct the lines above and run 'open360 validate' again"]))


class UnsupportedVersionError(Open360Error):
    """A document is written in a version of the spec that this open360 does not know."""

    def __init__(self, file: str, found: object, supported: tuple[int, ...]) -> None:
        self.file, self.found, self.supported = file, found, supported
        known = ", ".join(str(version) for version in supported)
        super().__init__(
            f"{file}: 'open360: {found}' is not a spec version that this open360 reads "
            f"(expected one of: {known}); install a newer open360"
        )


class IntegrityError(Open360Error):
    """Bytes, rows or tensors are not what the manifest says they are."""

    def __init__(self, thing: str, expected: str, found: str, next_step: str) -> None:
        self.thing, self.expected, self.found = thing, expected, found
        super().__init__(f"{thing}: expected {expected}, found {found}; {next_step}")
