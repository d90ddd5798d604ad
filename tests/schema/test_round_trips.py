"""Reading what was written gives what was written, and bytes depend on the content alone."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.schema.manifest import Manifest
from open360.schema.serialization import (
    canonical_json,
    dump_json,
    dump_yaml,
    load_json_model,
    load_manifest,
    load_spec,
    parse_yaml,
)
from open360.schema.spec import ReleaseSpec
from tests.schema.strategies import manifests, specs, texts

SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@SLOW
@given(specs())
def test_a_spec_written_as_yaml_reads_back_equal(spec: ReleaseSpec) -> None:
    assert load_spec(dump_yaml(spec)) == spec
    assert load_spec(dump_yaml(spec, as_written=True)) == spec


@SLOW
@given(specs())
def test_a_spec_written_as_json_reads_back_equal(spec: ReleaseSpec) -> None:
    assert load_json_model(ReleaseSpec, dump_json(spec), "release.json") == spec


@SLOW
@given(specs())
def test_dumping_twice_gives_the_same_bytes(spec: ReleaseSpec) -> None:
    assert dump_json(load_spec(dump_yaml(spec))) == dump_json(spec)
    assert dump_yaml(load_spec(dump_yaml(spec))) == dump_yaml(spec)


def _shuffled(value: Any, draw: st.DataObject) -> Any:
    if isinstance(value, dict):
        keys = draw.draw(st.permutations(sorted(value)))
        return {key: _shuffled(value[key], draw) for key in keys}
    return [_shuffled(item, draw) for item in value] if isinstance(value, list) else value


@SLOW
@given(manifests(), st.data())
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(manifest: Manifest, data: st.DataObject) -> None:
    plain = json.loads(dump_json(manifest))
    other = json.dumps(_shuffled(plain, data)).encode()
    assert dump_json(load_manifest(other)) == dump_json(manifest)


@SLOW
@given(manifests())
def test_a_manifest_reads_back_equal_with_the_fields_of_a_newer_writer(manifest: Manifest) -> None:
    again = load_manifest(dump_json(manifest))
    assert again == manifest
    assert again.model_extra == manifest.model_extra


@given(texts, texts)
def test_any_text_survives_yaml_as_value_and_as_key(key: str, value: str) -> None:
    spec = ReleaseSpec.model_validate(
        {
            "open360": 1,
            "name": "x",
            "description": value,
            "runs": ({"name": "r", "objective": "pretrain", "architecture": {key: value}},),
        }
    )
    again = load_spec(dump_yaml(spec))
    assert again.description == value
    assert again.runs[0].architecture == {key: value}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_canonical_json_to_the_bit(number: float) -> None:
    assert json.loads(canonical_json(number)).hex() == number.hex()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_yaml_to_the_bit(number: float) -> None:
    spec = ReleaseSpec.model_validate(
        {"open360": 1, "name": "x", "runs": ({"name": "r", "objective": "sft", "architecture": {"f": number}},)}
    )
    again = load_spec(dump_yaml(spec)).runs[0].architecture["f"]
    assert isinstance(again, float)
    assert again.hex() == number.hex()


def test_yaml_without_a_value_for_every_default_stays_short() -> None:
    spec = load_spec(b"open360: 1\nname: short\n")
    assert dump_yaml(spec) == b"open360: 1\nname: short\n"
    assert parse_yaml(dump_yaml(spec), "release.yaml")[0] == {"open360": 1, "name": "short"}


def test_a_statement_that_equals_its_default_stays_one_when_a_spec_is_dumped_as_written() -> None:
    spec = load_spec(b"open360: 1\nname: r\ncorpora: [{name: c, counting: trained}]\n")
    assert b"counting" not in dump_yaml(spec)
    assert parse_yaml(dump_yaml(spec, as_written=True), "release.yaml")[0]["corpora"] == [
        {"name": "c", "counting": "trained"}
    ]
