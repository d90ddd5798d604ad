"""SPDX licence expressions, read by `license-expression`; what it cannot read is an answer, not a crash."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import license_expression

_OWN_ID = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
# The library looks into empty brackets for a licence and fails with an IndexError.
_EMPTY_BRACKETS = re.compile(r"\(\s*\)")


@cache
def licensing() -> license_expression.Licensing:
    """The licences of SPDX; its `AND` and `OR` are the node types of a parsed expression."""
    return license_expression.get_spdx_licensing()


def parse_license(expression: str, *, known: bool = False) -> Any | None:
    """The tree of an expression; None when it is malformed or empty, with `known` also when SPDX lacks a name."""
    if _EMPTY_BRACKETS.search(expression):
        return None
    try:
        return licensing().parse(expression, validate=known, simple=known)
    except license_expression.ExpressionError:
        return None


def license_ids(expression: str) -> frozenset[str]:
    """The licences that an expression names; none when it is malformed."""
    parsed = parse_license(expression)
    return frozenset() if parsed is None else frozenset(str(key) for key in licensing().license_keys(parsed))


def unknown_ids(expression: str) -> list[str]:
    """What SPDX does not know in an expression; the whole of it when it is malformed. `LicenseRef-` names are known."""
    if _EMPTY_BRACKETS.search(expression):
        return [expression]
    found = licensing().validate(expression)
    unknown = [symbol for symbol in found.invalid_symbols if symbol and not _OWN_ID.fullmatch(symbol)]
    malformed = bool(found.errors) and not any(found.invalid_symbols)
    return [expression] if malformed else unknown
