"""Every error of a document has its file, line, column and pointer, and all errors come at once."""

from __future__ import annotations

import json

import pytest

from open360.schema.errors import SpecError, SpecProblem
from open360.schema.serialization import load_manifest, load_spec, load_spec_with_positions
from tests.schema.test_manifest import built_manifest

SPEC = """\
open360: 1
name: places
corpora:
  - name: words
    sources:
      - {name: one, pypi: django==5.2.8}
      - name: two
        http: https://example.org/two.txt
    row: {row_len: 9, seq_len: 8}
runs:
  - name: base
    objective: pretrain
    corpus: words
    batch: 2
    steps: 6
    optimizer: {betas: [0.9, 0.95]}
    series: {name: "ckpt_{index}", every: 2}
  - name: child
    objective: sft
    parent: {run: base, step: 6}
evaluations:
  - {task: held_out, metrics: [loss], runs: [base]}
"""


def _problems(text: str) -> list[SpecProblem]:
    with pytest.raises(SpecError) as caught:
        load_spec(text.encode(), "some/release.yaml")
    return list(caught.value.problems)


def _changed(old: str, new: str) -> str:
    assert SPEC.count(old) == 1
    return SPEC.replace(old, new)


def test_the_document_that_the_errors_are_made_from_is_valid() -> None:
    assert load_spec(SPEC.encode()).name == "places"


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "pointer", "code"),
    [
        ("    steps: 6", "    stepz: 6", 15, 5, "/runs/0/stepz", "extra_forbidden"),
        ("betas: [0.9, 0.95]", "betas: [0.9, high]", 16, 30, "/runs/0/optimizer/betas/1", "float_type"),
        ("objective: pretrain", "objective: pretraining", 12, 16, "/runs/0/objective", "literal_error"),
        ("    objective: sft\n", "", 18, 5, "/runs/1/objective", "missing"),
        ("corpus: words", "corpus: wordz", 13, 13, "/runs/0/corpus", "unknown_corpus"),
        ("name: two", "name: one", 7, 15, "/corpora/0/sources/1/name", "duplicate_name"),
        ("name: child", "name: base", 18, 11, "/runs/1/name", "duplicate_name"),
        ("{run: base, step: 6}", "{run: nobody, step: 6}", 20, 19, "/runs/1/parent/run", "unknown_parent"),
        ("{run: base, step: 6}", "{run: base, step: 7}", 20, 31, "/runs/1/parent/step", "step_outside_run"),
        ("{run: base, step: 6}", "{run: base}", 20, 13, "/runs/1/parent", "parent_point"),
        ("step: 6}", "checkpoint: ckpt_9}", 20, 37, "/runs/1/parent/checkpoint", "unknown_checkpoint"),
        ("{run: base, step: 6}", "{run: child, final: true}", 20, 13, "/runs/1/parent", "parent_cycle"),
        ("runs: [base]", "runs: [bass]", 22, 46, "/evaluations/0/runs/0", "unknown_run"),
        ("row_len: 9", "row_len: 12", 9, 20, "/corpora/0/row/row_len", "row_len"),
        ("every: 2", "at: [2, 9]", 17, 44, "/runs/0/series/at/1", "step_outside_run"),
        ("django==5.2.8", "django>=5", 6, 27, "/corpora/0/sources/0/pypi", "string_pattern_mismatch"),
        ("batch: 2", "batch: [[1, 2]]", 14, 12, "/runs/0/batch", "step_function"),
        ("batch: 2", "batch: 0", 14, 12, "/runs/0/batch", "batch"),
    ],
)
def test_an_error_stands_where_a_reader_would_point(
    old: str, new: str, line: int, column: int, pointer: str, code: str
) -> None:
    problems = _problems(_changed(old, new))
    found = [(p.file, p.line, p.column, p.pointer, p.code) for p in problems]
    assert found == [("some/release.yaml", line, column, pointer, code)]
    assert str(problems[0]).startswith(f"some/release.yaml:{line}:{column}: ")


def test_a_cycle_over_several_runs_is_found() -> None:
    text = "open360: 1\nname: x\nruns:\n" + "".join(
        f"  - {{name: r{i}, objective: sft, parent: {{run: r{(i + 1) % 3}, final: true}}}}\n" for i in range(3)
    )
    assert [(p.code, p.line) for p in _problems(text)] == [("parent_cycle", 4)]


def test_a_cycle_through_a_merge_is_found() -> None:
    text = """\
open360: 1
name: x
runs:
  - {name: a, objective: sft, parent: {run: soup, final: true}}
  - {name: b, objective: sft}
merges:
  - {name: soup, of: [{run: a, final: true}, {run: b, final: true}]}
"""
    assert [p.code for p in _problems(text)] == ["parent_cycle"]
    fixed = text.replace("{name: a, objective: sft, parent: {run: soup, final: true}}", "{name: a, objective: sft}")
    assert load_spec(fixed.encode()).merges[0].name == "soup"


def test_an_error_in_a_variant_points_into_the_variant() -> None:
    text = """\
open360: 1
name: x
runs:
  - name: sizes
    objective: pretrain
    steps: 10
    variants:
      - {name: small}
      - name: large
        series: {name: "s{step}", at: [5, 11]}
"""
    problem = _problems(text)[0]
    assert (problem.line, problem.column, problem.pointer) == (10, 43, "/runs/0/variants/1/series/at/1")


def test_two_variants_of_one_name_are_found_at_the_second() -> None:
    text = """\
open360: 1
name: x
runs:
  - {name: first, objective: sft}
  - name: sizes
    objective: pretrain
    variants:
      - {name: small}
      - {name: first}
"""
    problem = _problems(text)[0]
    assert (problem.line, problem.pointer) == (9, "/runs/1/variants/1/name")


def test_all_problems_come_at_once() -> None:
    text = (
        SPEC.replace("    steps: 6", "    stepz: 6").replace("objective: sft", "objective: none").replace("==5", ">5")
    )
    assert {(p.line, p.code) for p in _problems(text)} == {
        (6, "string_pattern_mismatch"), (15, "extra_forbidden"), (19, "literal_error"),
    }  # fmt: skip


def test_a_wrong_order_kind_is_one_problem_and_names_the_kinds() -> None:
    text = SPEC + "  - {task: x, metrics: [y]}\n"
    text = text.replace("    batch: 2", "    order: {kind: random}")
    problems = _problems(text)
    assert [(p.line, p.code) for p in problems] == [(14, "union_tag_invalid")]
    assert "permutation-file" in problems[0].message


def test_a_key_with_a_slash_keeps_its_place() -> None:
    problems = _problems(SPEC + "a/b~c: 1\n")
    assert (problems[0].pointer, problems[0].line, problems[0].column) == ("/a~1b~0c", 23, 1)


def test_problems_of_a_json_manifest_have_lines_too() -> None:
    plain = json.loads(built_manifest())
    plain["runs"][0]["checkpoints"][0]["step"] = -1
    plain["files"][0]["sha256"] = "abc"
    del plain["version"]
    text = json.dumps(plain, indent=1)
    with pytest.raises(SpecError) as caught:
        load_manifest(text.encode(), "manifest.json")
    found = {(p.pointer, p.line) for p in caught.value.problems}
    lines = text.splitlines()
    assert found == {
        ("/runs/0/checkpoints/0/step", next(i for i, line in enumerate(lines, 1) if '"step": -1' in line)),
        ("/files/0/sha256", next(i for i, line in enumerate(lines, 1) if '"sha256": "abc"' in line)),
        ("/version", 1),
    }


def test_json_that_yaml_cannot_read_keeps_its_problems() -> None:
    plain = {**json.loads(built_manifest()), "version": "one", "\x7f": 1}
    data = json.dumps(plain, ensure_ascii=False).encode()
    with pytest.raises(SpecError) as caught:
        load_manifest(data)
    assert [(p.pointer, p.line) for p in caught.value.problems] == [("/version", None)]


def test_positions_tell_where_every_value_stands() -> None:
    _, positions = load_spec_with_positions(SPEC.encode())
    assert positions["/runs/0/steps"] == (15, 12)
    assert positions["/runs/0/steps#key"] == (15, 5)
    assert positions[""] == (1, 1)
