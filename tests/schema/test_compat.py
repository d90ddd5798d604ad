"""Documents of every version of the spec stay readable, and say what they said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from open360.schema.manifest import Manifest
from open360.schema.schedule import checkpoints
from open360.schema.serialization import dump_json, dump_yaml, load_manifest, load_spec
from open360.schema.spec import ReleaseSpec

COMPAT = Path(__file__).parent.parent / "golden" / "compat"
VERSIONS = sorted(path.name for path in COMPAT.iterdir())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_kept_spec_reads_as_what_it_was(version: str) -> None:
    """`release.json` is the canonical form at the time of keeping; only an additive change may leave it as it is."""
    spec = load_spec((COMPAT / version / "release.yaml").read_bytes())
    assert dump_json(spec) == (COMPAT / version / "release.json").read_bytes()
    assert load_spec(dump_yaml(spec)) == spec


@pytest.mark.parametrize("version", VERSIONS)
def test_a_kept_manifest_reads_as_what_it_was(version: str) -> None:
    data = (COMPAT / version / "manifest.json").read_bytes()
    assert dump_json(load_manifest(data)) == data


def test_the_kept_spec_still_means_the_same_checkpoints() -> None:
    spec = load_spec((COMPAT / "v1" / "release.yaml").read_bytes())
    base = spec.run("base")
    assert [(p.name, p.step, p.tokens) for p in checkpoints(base, spec.corpus_of(base))] == [
        ("ckpt_init", 0, 0),
        ("ckpt_001-10-27", 10, 20_480),
        ("ckpt_002-16-47", 20, 40_960),
        ("ckpt_003-23-77", 30, 71_680),
        ("last", 40, 102_400),
    ]


def _used(model: BaseModel, found: dict[type[BaseModel], set[str]]) -> dict[type[BaseModel], set[str]]:
    """Fields of every model below `model` that somewhere differ from their default."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if field.is_required() or value != field.get_default(call_default_factory=True):
            found.setdefault(type(model), set()).add(name)
        for item in _models(value):
            _used(item, found)
    return found


def _models(value: Any) -> list[BaseModel]:
    if isinstance(value, BaseModel):
        return [value]
    return [model for item in value for model in _models(item)] if isinstance(value, tuple) else []


@pytest.mark.parametrize(("file", "root"), [("release.yaml", ReleaseSpec), ("manifest.json", Manifest)])
def test_the_kept_documents_of_version_1_use_every_field(file: str, root: type[BaseModel]) -> None:
    data = (COMPAT / "v1" / file).read_bytes()
    used = _used(load_spec(data) if root is ReleaseSpec else load_manifest(data), {})
    forgotten = {
        f"{model.__name__}.{name}" for model, names in used.items() for name in set(model.model_fields) - names
    }
    assert not forgotten, "add the new field to the kept document of the version that is being written"


def test_the_kept_manifest_holds_fields_of_a_newer_writer() -> None:
    plain = json.loads((COMPAT / "v1" / "manifest.json").read_bytes())
    assert plain["from_a_newer_writer"] == {"list": [1, None, "x"]}
