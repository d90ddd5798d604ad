"""The check of a card's front matter, which clients ask for before they commit a `README.md`."""

from __future__ import annotations

from open360.release.local_hub.requests import read_json, text
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


def split_front_matter(card: str) -> str | None:
    """The YAML between the two lines of dashes at the beginning of a card, or None when it has none."""
    lines = card.splitlines()
    if not lines or lines[0].rstrip() != "---":
        return None
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:number])
    return None


async def validate_yaml(request: Request) -> Response:
    """Say whether a card's front matter can be read."""
    split_front_matter(text(await read_json(request), "content"))
    return JSONResponse({"errors": [], "warnings": []})
