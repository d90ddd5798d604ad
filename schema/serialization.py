"""Bytes <-> models. YAML and JSON in, canonical JSON (and readable YAML) out.

Rules of this module:

* YAML is read by the YAML 1.2 core schema: `no`, `008` and `12:30` stay what they look like, `3e-4` is a number.
* YAML goes to JSON and then through pydantic's strict JSON mode (strict mode refuses tuples from YAML's lists).
* Every problem of a document is reported at once, each with file, line and column.
* Input is bounded in bytes, nodes and depth; aliases cannot explode.
* `load(dump(x)) == x`, and the bytes of a dump depend on the content alone.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from open360.schema.errors import SpecError, SpecProblem, UnsupportedVersionError
from open360.schema.manifest import MAX_MANIFEST_BYTES, Manifest
from open360.schema.spec import SPEC_VERSION, SUPPORTED_VERSIONS, ReleaseSpec

MAX_SPEC_BYTES = 4 << 20
MAX_NODES = 400_000
MAX_DEPTH = 60
MAX_JSON_OBJECTS = 500_000  # of a JSON document; one of 64 MiB with real paths and digests has fewer
MAX_JSON_COMMAS = 2_000_000
MAX_POSITION_BYTES = 2 << 20  # line numbers of larger JSON documents are not worth their time
MAX_POSITION_COMMAS = 100_000

ModelT = TypeVar("ModelT", bound=BaseModel)
Positions = dict[str, tuple[int, int]]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = re.compile(r"^(~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^([-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400})$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?$")


def _plain_scalar(text: str) -> Any:
    """The value of an unquoted scalar by the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema)."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.match(text) else text


class _Reader:
    """Turns a YAML node tree into plain data, and remembers where each value stood."""

    def __init__(self, file: str) -> None:
        self.file, self.nodes = file, 0
        self.positions: Positions = {}

    def read(self, node: yaml.Node, pointer: str = "", depth: int = 0) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise SpecError(
                (self._problem(node, pointer, "too_large", "the document is nested or repeated beyond all use"),)
            )
        self.positions[pointer] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            raise SpecError((self._problem(node, pointer, "yaml_tag", f"the tag '{node.tag}' is not read"),))
        if isinstance(node, yaml.ScalarNode):
            value = _plain_scalar(node.value) if not node.style else node.value
            if isinstance(value, float) and math.isinf(value):
                raise SpecError((self._problem(node, pointer, "too_large", "a number beyond all use"),))
            return value
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, f"{pointer}/{i}", depth + 1) for i, item in enumerate(node.value)]
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key in data:
                what = "a key must be a plain word" if key is None else f"the key '{key}' stands here twice"
                raise SpecError((self._problem(key_node, pointer, "bad_key", what),))
            child = f"{pointer}/{_escape(key)}"
            data[key] = self.read(value_node, child, depth + 1)
            # A wrong key is best shown at the key, a wrong value at the value.
            self.positions[child + "#key"] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        return data

    def _problem(self, node: yaml.Node, pointer: str, code: str, message: str) -> SpecProblem:
        mark = node.start_mark
        return SpecProblem(
            file=self.file,
            line=mark.line + 1,
            column=mark.column + 1,
            pointer=pointer,
            code=code,
            message=message,
        )


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def parse_yaml(data: bytes, file: str, max_bytes: int = MAX_SPEC_BYTES) -> tuple[Any, Positions]:
    """Plain data of a YAML document, with the line and column of every value by JSON pointer. Raises SpecError."""
    _check_size(data, file, max_bytes)
    try:
        text = data.decode("utf-8")
        _check_depth(text, file)
        node = yaml.compose(text, Loader=_LOADER)
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text ({error.reason} at byte {error.start})"
        raise SpecError((_at(file, _place_of_byte(data, error.start), "encoding", what),)) from error
    except yaml.reader.ReaderError as error:
        what = f"a character that may not stand in YAML (U+{error.character:04X}); write it as an escape in quotes"
        raise SpecError((_at(file, _place_of_byte(data, error.position), "yaml_syntax", what),)) from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = (mark.line + 1, mark.column + 1) if mark is not None else None
        text = getattr(error, "problem", None) or str(error)
        raise SpecError((_at(file, place, "yaml_syntax", f"not valid YAML: {text}"),)) from error
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value and not node.style):
        raise SpecError((_at(file, (1, 1), "empty", "the document is empty"),))
    reader = _Reader(file)
    return reader.read(node), reader.positions


def _check_depth(text: str, file: str) -> None:
    """Refuse what is too much before a tree is composed: libyaml's composer would overflow the C stack by depth."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_LOADER):
        nodes += isinstance(event, yaml.NodeEvent)
        if nodes > MAX_NODES:
            raise SpecError((_at(file, None, "too_large", "the document is nested or repeated beyond all use"),))
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                mark = event.start_mark
                place = (mark.line + 1, mark.column + 1) if mark is not None else None
                raise SpecError((_at(file, place, "too_large", "the document is nested beyond all use"),))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def parse_json(data: bytes, file: str, max_bytes: int = MAX_MANIFEST_BYTES) -> Any:
    """Plain data of a JSON document; a key that stands twice in one object is an error. Raises SpecError."""
    _check_size(data, file, max_bytes)
    if data.count(b"{") + data.count(b"[") > MAX_JSON_OBJECTS or data.count(b",") > MAX_JSON_COMMAS:
        # A few bytes each in the text, hundreds in memory, and again in every error about what holds them.
        raise SpecError((_at(file, None, "too_large", "more objects and lists than any document of a release has"),))
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = (error.lineno, error.colno)
        raise SpecError((_at(file, place, "json_syntax", f"not valid JSON: {error.msg}"),)) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise SpecError((_at(file, None, "json_syntax", f"not valid JSON: {error}"),)) from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key '{key}' stands twice in one object")
    return found


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a number")


def _place_of_byte(data: bytes, offset: int) -> tuple[int, int]:
    start = data.rfind(b"\n", 0, offset) + 1
    return data.count(b"\n", 0, offset) + 1, len(data[start:offset].decode("utf-8", "replace")) + 1


def _check_size(data: bytes, file: str, limit: int) -> None:
    if len(data) > limit:
        raise SpecError((_at(file, None, "too_large", f"{len(data)} bytes, expected at most {limit}"),))


def _at(file: str, place: tuple[int, int] | None, code: str, message: str) -> SpecProblem:
    line, column = place if place is not None else (None, None)
    return SpecProblem(file=file, line=line, column=column, pointer="", code=code, message=message)


def load_spec(data: bytes, file: str = "release.yaml") -> ReleaseSpec:
    """Read a spec. Raises SpecError with every problem, UnsupportedVersionError for another version."""
    plain, positions = parse_yaml(data, file)
    plain = migrate(plain, file)
    return _validate(ReleaseSpec, plain, file, positions)


def load_spec_with_positions(data: bytes, file: str = "release.yaml") -> tuple[ReleaseSpec, Positions]:
    """Read a spec and where each of its values stands (for findings that point into the file)."""
    plain, positions = parse_yaml(data, file)
    return _validate(ReleaseSpec, migrate(plain, file), file, positions), positions


def load_manifest(data: bytes, file: str = "manifest.json") -> Manifest:
    """Read a manifest. Raises SpecError with every problem, UnsupportedVersionError for another version."""
    parsed = parse_json(data, file)
    plain = migrate(parsed, file)
    return load_json_model(Manifest, data if plain is parsed else json.dumps(plain).encode(), file, plain)


def load_json_model(model: type[ModelT], data: bytes, file: str, plain: Any = None) -> ModelT:
    """Read any model from JSON bytes; `plain` is their content, where it is known already. Raises SpecError."""
    plain = parse_json(data, file) if plain is None else plain
    try:
        return _validate(model, plain, file, {}, data)
    except SpecError:
        if len(data) > MAX_POSITION_BYTES or data.count(b",") > MAX_POSITION_COMMAS:
            raise
        try:  # JSON that is no YAML as well keeps its problems, without their lines
            _, positions = parse_yaml(data, file, MAX_POSITION_BYTES)
        except SpecError:
            positions = {}
        return _validate(model, plain, file, positions, data)


def migrate(plain: Any, file: str) -> Any:
    """Bring the data of an older spec version to the newest. Version 1 is the first, so only the check is needed."""
    found = plain.get("open360", SPEC_VERSION) if isinstance(plain, dict) else SPEC_VERSION
    if type(found) is not int or found not in SUPPORTED_VERSIONS:
        raise UnsupportedVersionError(file, found, SUPPORTED_VERSIONS)
    return plain


def _validate(model: type[ModelT], plain: Any, file: str, positions: Positions, data: bytes | None = None) -> ModelT:
    """The model of plain data; `data` is the same as JSON, where it is there."""
    try:
        return model.model_validate_json(data if data is not None else json.dumps(plain))
    except ValidationError as error:
        # Without inputs: an error about a missing key would hold a copy of the whole document.
        found = error.errors(include_url=False, include_input=False)
        problems = [_problem_of(details, plain, file, positions) for details in found]
        raise SpecError(tuple(dict.fromkeys(problems))) from error


def _problem_of(details: ErrorDetails, plain: Any, file: str, positions: Positions) -> SpecProblem:
    pointer, value = _pointer(details["loc"], plain)
    extra = details.get("ctx", {}).get("pointer")
    if extra:
        pointer += str(extra)
    message = details["msg"]
    key = pointer.rsplit("/", 1)[-1].replace("~1", "/").replace("~0", "~")
    if details["type"] == "extra_forbidden":
        message = f"unknown key '{key}'; check its spelling against the JSON Schema"
    elif details["type"] == "missing":
        message = f"the key '{details['loc'][-1]}' is missing"
    elif details["type"] == "string_pattern_mismatch":
        message = f"'{str(value)[:120]}' does not have the expected form ({details['ctx']['pattern']})"
    elif not extra and isinstance(value, str | int | float | bool):
        message = f"{message}, found {json.dumps(value)[:120]}"
    place = _nearest(pointer, positions, at_key=details["type"] == "extra_forbidden")
    line, column = place if place is not None else (None, None)
    return SpecProblem(file=file, line=line, column=column, pointer=pointer, code=details["type"], message=message)


def _pointer(loc: tuple[int | str, ...], plain: Any) -> tuple[str, Any]:
    """JSON pointer of an error, and the value there: parts of `loc` that name union members, not keys, are left out."""
    pointer = ""
    here: Any = plain
    for index, part in enumerate(loc):
        keys: Any = here if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        if part in keys:
            here = here[part]
        elif part == "[key]" and index > 0:  # the error is about a key, not about its value
            here = loc[index - 1]
            continue
        elif index != len(loc) - 1 or not isinstance(here, dict):
            continue
        else:
            here = None
        pointer += f"/{_escape(str(part))}"
    return pointer, here


def _nearest(pointer: str, positions: Positions, *, at_key: bool) -> tuple[int, int] | None:
    if at_key and pointer + "#key" in positions:
        return positions[pointer + "#key"]
    while pointer not in positions and pointer:
        pointer = pointer.rsplit("/", 1)[0]
    return positions.get(pointer)


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, two spaces, UTF-8, a newline at the end, no NaN."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def dump_json(model: BaseModel) -> bytes:
    """Canonical JSON of a model; fields at their default are left out."""
    return canonical_json(model.model_dump(mode="json", exclude_defaults=True))


class _Dumper(yaml.SafeDumper):
    """Quotes every string that our reader would not read back as that string."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = isinstance(_plain_scalar(text), str) and text.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def dump_yaml(model: BaseModel, *, as_written: bool = False) -> bytes:
    """Readable YAML of a spec; `load_spec(dump_yaml(x)) == x`.

    A value that equals its default is left out, unless it is to be `as_written`: a statement of the author stays one.
    """
    plain = model.model_dump(mode="json", exclude_defaults=not as_written, exclude_unset=as_written)
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text.encode()
