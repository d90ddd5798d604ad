"""Globs of `include` and `exclude`: `*` and `?` stay inside a folder, `**` crosses folders, `[…]` is a set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^]/]*\]|.", re.DOTALL)


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    """`a/**/b` matches `a/b` and `a/x/y/b`; a trailing `**` matches everything below."""
    fixed = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = []
    for token in _TOKEN.findall(glob):
        if token in fixed:
            parts.append(fixed[token])
        elif token.startswith("[") and len(token) > 1:
            inner = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            negated = inner.startswith("!")
            parts.append(
                f"(?!/)[{'^' if negated else ''}{inner[1:] if negated else inner.replace('^', chr(92) + '^')}]"
            )
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts), re.DOTALL)


def matches(path: str, include: Iterable[str], exclude: Iterable[str] = ()) -> bool:
    """Whether one of `include` and none of `exclude` matches the whole POSIX path."""
    if not any(_pattern(glob).fullmatch(path) for glob in include):
        return False
    return not any(_pattern(glob).fullmatch(path) for glob in exclude)
