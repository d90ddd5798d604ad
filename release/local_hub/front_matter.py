"""The check of a card's front matter, which clients ask for before they commit a `README.md`."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from open360.release.local_hub.requests import read_json, text
from open360.schema.errors import SpecError
from open360.schema.serialization import parse_yaml

MAX_BYTES = 1 << 20


def split_front_matter(card: str) -> str | None:
    """The YAML between the two lines of dashes at the beginning of a card, or None when it has none."""
    lines = card.splitlines()
    if not lines or lines[0].rstrip() != "---":
        return None
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:number])
    return None


def find_errors(card: str) -> list[str]:
    """Why a card's front matter cannot be read, with line and column; none when it can, or when there is none."""
    front_matter = split_front_matter(card)
    if front_matter is None or not front_matter.strip():
        return []
    try:
        # The line of dashes is put back, so that the lines of an error are those of the card.
        data, _ = parse_yaml(f"---\n{front_matter}\n".encode(), "README.md", MAX_BYTES)
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    if not isinstance(data, dict):
        return [f"README.md: the front matter must be a mapping, found {type(data).__name__}"]
    return []


async def validate_yaml(request: Request) -> Response:
    """Say whether a card's front matter can be read; 400 when it cannot."""
    errors = await run_in_threadpool(find_errors, text(await read_json(request), "content"))
    answer = {"errors": [{"message": message} for message in errors], "warnings": []}
    return JSONResponse(answer, 400 if errors else 200)
