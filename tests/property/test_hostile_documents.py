"""Fuzzing: documents that were good and are changed somewhere. A parser returns, or says what is wrong; no rule breaks.

Bounded in examples; what hypothesis finds it keeps and tries first the next time.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.release.catalogue import load, names
from open360.release.corpus.bounded_parquet import read_whole
from open360.release.corpus.chunk_file import STEP_TABLE_SCHEMA
from open360.release.corpus.parquet_layout import ChunkFileError
from open360.release.corpus.step_table import StepTable
from open360.release.findings import EvidenceLevel
from open360.release.foreign_target import ForeignSpec, ForeignTarget
from open360.release.hub import Hub
from open360.release.local_hub import running_hub
from open360.release.read_cache import ReadCache
from open360.release.survey import Survey
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from open360.schema.errors import Open360Error, SpecError, UnsupportedVersionError
from open360.schema.serialization import dump_yaml, load_manifest, load_spec, parse_json, parse_yaml
from tests.support.foreign_release import RELEASES, put_on_hub
from tests.support.hub_folder import HubFolder
from tests.support.page_server import page_server
from tests.support.tiny_release import RUN, SPEC, build_tiny_release

FUZZ = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
FEW = settings(FUZZ, max_examples=100)
FRAGMENTS = (
    "&a ", "*a", "!!python/object:os.system ", "!!binary ", "<<: *a", "? ", "- - - ", "{", "}", "[", "]", ": ", "|\n",
    ">\n", "\t", "\x00", "\u2028", "\x1b[31m", "\u202e", "\ud800", "null", "~", "-1", "1e999", ".nan", "9" * 50, "0x",
    "2026-13-45", "../../x", "/etc/passwd", '"', "'", "#", "%", "---\n", "...\n", "\r\n", "\ufeff",
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12), st.sampled_from(["../x", "a" * 64, "b" * 40, "\x1b[31m", "ckpt_000", "main", RUN, ""]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("fuzz") / "tiny")


@st.composite
def changed_text(draw: st.DrawFn, text: str) -> str:
    """A text with a few pieces removed, repeated, moved or put in."""
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(text)))
        end = min(begin + draw(st.integers(0, 40)), len(text))
        kind = draw(st.sampled_from(["remove", "repeat", "insert", "replace"]))
        piece = draw(st.sampled_from(FRAGMENTS) | st.text(max_size=6))
        middle = {"remove": "", "repeat": text[begin:end] * 2, "insert": piece + text[begin:end], "replace": piece}
        text = text[:begin] + middle[kind] + text[end:]
    return text


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with a few of them flipped, removed, repeated or put in."""
    for _ in range(draw(st.integers(1, 5))):
        begin = draw(st.integers(0, len(data)))
        end = min(begin + draw(st.integers(0, 16)), len(data))
        other = draw(st.sampled_from([b"", data[begin:end] * 2, b"\xff" * 8, bytes(8)]) | st.binary(max_size=9))
        data = data[:begin] + other + data[end:]
    return data


@st.composite
def changed_tree(draw: st.DrawFn, tree: Any) -> Any:
    """Plain data with a few nodes replaced, removed, renamed or copied elsewhere."""
    copy = json.loads(json.dumps(tree))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        holders = [node for node in _nodes(copy) if isinstance(node, dict | list) and node]
        holder = draw(st.sampled_from(holders))
        key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        kind = draw(st.sampled_from(["replace", "remove", "graft", "add"]))
        if kind == "remove":
            del holder[key]
        elif kind == "add" and isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = draw(VALUES)
        elif kind == "graft":
            holder[key] = json.loads(json.dumps(draw(st.sampled_from(_nodes(copy)))))
        else:
            holder[key] = draw(VALUES)
        if not [node for node in _nodes(copy) if isinstance(node, dict | list) and node]:
            break
    return copy


def _nodes(tree: Any) -> list[Any]:
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return found


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _reads(parse: Callable[[], object]) -> bool:
    """Whether a document is read; False for one that is refused with problems of bounded length."""
    try:
        parse()
    except (SpecError, UnsupportedVersionError) as error:
        assert str(error)
        return False
    return True


# Specs


@FUZZ
@given(changed_text(SPEC))
def test_a_changed_text_of_a_spec_is_read_or_refused(text: str) -> None:
    _reads(lambda: load_spec(_encoded(text)))


@FUZZ
@given(st.data())
def test_a_changed_spec_of_the_catalogue_is_read_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(names())))
    tree, _ = parse_yaml(dump_yaml(load(name)), "spec")
    changed = data.draw(changed_tree(tree))
    _reads(lambda: load_spec(json.dumps(changed).encode()))


@FEW
@given(data=st.data())
def test_rules_stand_any_spec_that_can_be_read(tiny: Path, tmp_path: Path, data: st.DataObject) -> None:
    tree, _ = parse_yaml(SPEC.encode(), "spec")
    folder = tmp_path / "tiny"
    if not folder.exists():
        shutil.copytree(tiny, folder)
    (folder / "release.yaml").write_text(json.dumps(data.draw(changed_tree(tree))))
    validate(FolderTarget(folder), level=EvidenceLevel.HASHED)


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A release of others on a Hub, and its spec."""

    url: str
    spec: Any


@pytest.fixture(scope="module", params=sorted(RELEASES))
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    folder = HubFolder(tmp_path_factory.mktemp("foreign") / "hub")
    with page_server() as pages, running_hub(folder.root) as hub:
        document = put_on_hub(RELEASES[request.param](), folder, pages)
        yield Foreign(url=hub.url, spec=parse_yaml(document, "spec")[0])


@settings(FEW, max_examples=30)
@given(data=st.data())
def test_rules_stand_any_spec_of_a_release_of_others(foreign: Foreign, tmp_path: Path, data: st.DataObject) -> None:
    document = json.dumps(data.draw(changed_tree(foreign.spec))).encode()
    try:
        spec = load_spec(document)
    except (SpecError, UnsupportedVersionError):
        return
    judged = ForeignSpec(origin="file spec.yaml", path="spec.yaml", data=document, spec=spec)
    survey = Survey(Hub(foreign.url, "t"), ReadCache(tmp_path))
    validate(ForeignTarget("release", judged, survey), level=EvidenceLevel.LISTED)


# Manifests


@FUZZ
@given(data=st.data())
def test_a_changed_manifest_is_read_or_refused(tiny: Path, data: st.DataObject) -> None:
    document = (tiny / "manifest.json").read_bytes()
    if data.draw(st.booleans()):
        changed = json.dumps(data.draw(changed_tree(json.loads(document)))).encode()
    else:
        changed = data.draw(changed_bytes(document))
    _reads(lambda: load_manifest(changed))


@FEW
@given(data=st.data())
def test_rules_stand_any_manifest_that_can_be_read(tiny: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "tiny"
    if not folder.exists():
        shutil.copytree(tiny, folder)
    tree = data.draw(changed_tree(json.loads((tiny / "manifest.json").read_bytes())))
    (folder / "manifest.json").write_text(json.dumps(tree))
    validate(FolderTarget(folder), level=EvidenceLevel.HASHED)


@FEW
@given(data=st.data())
def test_rules_stand_any_small_document(tiny: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "tiny"
    if not folder.exists():
        shutil.copytree(tiny, folder)
    small = sorted(p.relative_to(tiny).as_posix() for p in tiny.rglob("*.json*") if p.is_file())
    path = data.draw(st.sampled_from(small))
    original = (tiny / path).read_bytes()
    try:
        tree = json.loads(original)
        changed = json.dumps(data.draw(changed_tree(tree))).encode() if isinstance(tree, dict) and tree else b"[]"
    except ValueError:
        changed = data.draw(changed_bytes(original))
    (folder / path).write_bytes(changed)
    try:
        validate(FolderTarget(folder), level=EvidenceLevel.LISTED)
    finally:
        (folder / path).write_bytes(original)


# JSON


@FUZZ
@given(st.binary(max_size=300) | changed_text('{"a": [1, {"b": "x"}], "c": null}').map(_encoded))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    _reads(lambda: parse_json(data, "document"))


# Parquet


def _step_table(tiny: Path) -> bytes:
    return next(iter(sorted((tiny / "runs" / RUN / "steps").iterdir()))).read_bytes()


@FUZZ
@given(data=st.data())
def test_a_changed_step_table_is_read_or_refused(tiny: Path, data: st.DataObject) -> None:
    changed = data.draw(changed_bytes(_step_table(tiny)))
    try:
        table = StepTable.from_bytes(changed)
    except ChunkFileError as error:
        assert str(error)
    else:
        assert table.first_step < table.end_step


@FUZZ
@given(data=st.data())
def test_a_changed_parquet_file_is_read_or_refused(tiny: Path, data: st.DataObject) -> None:
    chunk = next(iter(sorted((tiny / "runs" / RUN / "chunks").iterdir()))).read_bytes()
    try:
        read_whole("chunk", data.draw(changed_bytes(chunk)))
    except ChunkFileError as error:
        assert str(error)


NUMBERS = st.integers(-3, 40) | st.sampled_from([None, -(1 << 31), (1 << 31) - 1])
LARGE = st.integers(-3, 3_000) | st.sampled_from([None, -(1 << 63), (1 << 63) - 1, 4])
DIGESTS = st.sampled_from(["a" * 64, "b" * 64, "", "A" * 64, None])


@FUZZ
@given(st.lists(st.tuples(NUMBERS, LARGE, LARGE, NUMBERS, LARGE, LARGE, DIGESTS, DIGESTS), max_size=4))
def test_a_step_table_of_any_numbers_is_read_or_refused(rows: list[tuple[Any, ...]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in STEP_TABLE_SCHEMA]
    try:
        table = pa.table(dict(zip(STEP_TABLE_SCHEMA.names, columns, strict=True)), schema=STEP_TABLE_SCHEMA)
    except (pa.ArrowException, ValueError):
        return
    out = io.BytesIO()
    pq.write_table(table, out, compression="none", use_dictionary=False, write_statistics=False)
    try:
        read = StepTable.from_bytes(out.getvalue())
    except Open360Error as error:
        assert str(error)
    else:
        assert [entry.step for entry in read.entries] == list(range(read.first_step, read.end_step))
