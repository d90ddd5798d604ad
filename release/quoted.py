"""Text that may hold what a release says, as it can be written into any file."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

MAX_QUOTED_CHARS = 4000
_ROOM_FOR_COUNT = 40


def quotable(text: str) -> str:
    """`text` as it can be written: half a surrogate pair becomes an escape, and what is very long is cut."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= MAX_QUOTED_CHARS:
        return text
    return f"{text[: MAX_QUOTED_CHARS - _ROOM_FOR_COUNT]}… ({len(text):,} characters)"


Quoted = Annotated[str, AfterValidator(quotable)]
