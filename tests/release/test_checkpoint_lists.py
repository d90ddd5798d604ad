"""Tables of checkpoints: read as they are written, and refused without harm when they are something else."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.evidence.checkpoint_lists import ListError, ListRow, parse_list
from open360.schema.series import CheckpointList

PLAIN = CheckpointList(url="https://example.org/list.csv", link="Checkpoint Directory")
STAGES = CheckpointList(
    url="https://example.org/list.csv", tokens="Tokens Seen", link="Checkpoint Directory", only={"Stage": "stage2"}
)


def test_the_lists_of_olmo_2_are_read() -> None:
    data = b"Step,Checkpoint Directory\r\n0,https://x/step0-unsharded/\r\n1000,https://x/step1000-unsharded/\r\n"
    assert parse_list("list.csv", data, PLAIN) == [
        ListRow(line=2, step=0, link="https://x/step0-unsharded/"),
        ListRow(line=3, step=1000, link="https://x/step1000-unsharded/"),
    ]


def test_one_stage_is_taken_out_of_a_table_of_several() -> None:
    data = b'\xef\xbb\xbfStage,Step,Tokens Seen,Checkpoint Directory\nstage1,5,10,a\nstage2,5,"1,000",b\nstage2,x,,\n'
    assert parse_list("list.csv", data, STAGES) == [
        ListRow(line=3, step=5, tokens=1000, link="b"),
        ListRow(line=4, step=None, tokens=None, link=""),
    ]


@pytest.mark.parametrize(
    ("link", "steps"),
    [
        ("https://x/peteish13/step11000-unsharded/", (11000,)),
        ("https://x/global_step0004/", (4,)),
        ("https://x/Step_12/", (12,)),
        ("https://x/stage2/step3", (3,)),
        ("https://x/step10000-step11000-step11921/", (10000, 11000, 11921)),
        ("https://x/footstep7/", ()),
        ("https://x/steps7/", ()),
        ("", ()),
    ],
)
def test_the_steps_that_a_link_names(link: str, steps: tuple[int, ...]) -> None:
    assert ListRow(line=2, step=1, link=link).linked_steps == steps


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "expected one column 'Step', found 0"),
        (b"Step,Step,Checkpoint Directory\n1,1,a\n", "found 2"),
        (b"Step;Checkpoint Directory\n1;a\n", "found 0"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'Step,Checkpoint Directory\n1,"a\n', "no CSV"),
        (b"Step,Checkpoint Directory\n" + b"1," + b"a" * 200_000 + b"\n", "no CSV"),
    ],
)
def test_what_is_no_such_table_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(ListError, match=told):
        parse_list("list.csv", data, PLAIN)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for whole in (data, b"Stage,Step,Tokens Seen,Checkpoint Directory\n" + data):
        try:
            rows = parse_list("list.csv", whole, STAGES)
        except ListError:
            continue
        assert all(row.step is None or row.step >= 0 for row in rows)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6).map(str.strip)


@given(st.lists(st.tuples(st.sampled_from(["stage1", "stage2"]), st.integers(0, 10**9), st.integers(0, 10**15), CELL)))
def test_what_a_program_writes_is_read_back(rows: list[tuple[str, int, int, str]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["Stage", "Step", "Tokens Seen", "Checkpoint Directory"])
    writer.writerows(rows)
    found = parse_list("list.csv", file.getvalue().encode(), STAGES)
    assert [(row.step, row.tokens, row.link) for row in found] == [row[1:] for row in rows if row[0] == "stage2"]
