"""Configuration files that trainers publish (JSON or YAML): values by dotted key, and as numbers."""

from __future__ import annotations

import re
from typing import Any

from open360.schema.errors import SpecError
from open360.schema.serialization import parse_json, parse_yaml

MAX_CONFIGURATION_BYTES = 2 << 20
_NUMBER = re.compile(r"([-+]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*(T|tok|tokens|steps?)?")


class ConfigurationError(Exception):
    """A configuration cannot be read, or does not hold a key."""


def read_configuration(data: bytes, path: str) -> Any:
    """Plain data of a configuration, by the end of its path. Raises ConfigurationError."""
    try:
        if path.lower().endswith(".json"):
            return parse_json(data, path, MAX_CONFIGURATION_BYTES)
        return parse_yaml(data, path, MAX_CONFIGURATION_BYTES)[0]
    except SpecError as error:
        problem = error.problems[0]
        line = f"line {problem.line}: " if problem.line is not None else ""
        raise ConfigurationError(f"{line}{problem.message}") from error


def value_at(plain: Any, key: str) -> Any:
    """The value at a dotted key; keys may hold dots themselves. Raises ConfigurationError."""
    here: Any = plain
    parts = key.split(".")
    while parts:
        count = _longest(here, parts)
        if count == 0:
            raise ConfigurationError(f"it has no key '{key[:200]}'")
        head = ".".join(parts[:count])
        here, parts = here[int(head)] if isinstance(here, list) else here[head], parts[count:]
    return here


def _longest(here: Any, parts: list[str]) -> int:
    """How many of `parts` make the longest key of `here`; 0 when none do."""
    for count in range(len(parts), 0, -1):
        head = ".".join(parts[:count])
        if isinstance(here, dict) and head in here:
            return count
        if isinstance(here, list) and head.isdecimal() and len(head) < 10 and int(head) < len(here):
            return count
    return 0


def number_of(value: Any) -> float | int | None:
    """A number, also from a text such as `4e12` or `2e12T` (tokens); None for everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 40 else None
    if match is None:
        return None
    try:
        return int(match[1].replace("_", ""))
    except ValueError:
        return float(match[1].replace("_", ""))
