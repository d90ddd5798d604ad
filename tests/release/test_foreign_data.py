"""Data of others, found and read on a local Hub and at addresses: bounded, in any form, and never believed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.evidence import data_scan
from open360.release.evidence.data_scan import scans
from open360.release.evidence.foreign_data import files_of
from open360.release.findings import EvidenceLevel, Finding, Sample
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.rules import RULES
from open360.release.validation import validate
from open360.release.view import ReleaseView
from tests.support.foreign_release import ForeignRelease, amber, put_on_hub, pythia, rows_of
from tests.support.hub_folder import HubFolder
from tests.support.page_server import Pages, page_server

DATA = "datasets/EleutherAI/pile-nano-preshuffled"
FILES = 'files: {pattern: "document-{index:05d}-of-00002.bin", count: 3, bytes: 200, last_bytes: 176, total_rows: 32}'
ROW = "row: {row_len: 9, seq_len: 8, dtype: uint16, format: bin, separator: <|endoftext|>}"
GOLDEN = '    golden_batches: "{golden}"\n'
DATA_RULES = [rule for rule in RULES if rule.code.startswith(("DAT", "ORD")) and "SPC003" not in rule.requires]


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where foreign releases lie."""

    url: str
    folder: HubFolder
    pages: Pages
    spec: Path

    def put(self, release: ForeignRelease) -> None:
        self.folder.clear()
        self.spec.write_bytes(put_on_hub(release, self.folder, self.pages))

    def view(self, release: ForeignRelease, sample: Sample = Sample()) -> ReleaseView:  # noqa: B008
        self.put(release)
        name = next(name for name in release.repos if not name.startswith("datasets/"))
        target = open_any_target(name, spec=self.spec, endpoint=self.url)
        return ReleaseView(target, EvidenceLevel.LOADED, None, sample)

    def findings(self, release: ForeignRelease, level: EvidenceLevel = EvidenceLevel.LOADED) -> list[Finding]:
        view = self.view(release)
        return list(validate(view.target, level=level, rules=DATA_RULES).findings)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    with running_hub(tmp_path / "hub") as running, page_server() as pages:
        yield Elsewhere(url=running.url, folder=HubFolder(running.directory), pages=pages, spec=tmp_path / "spec.yaml")


def _replace(release: ForeignRelease, old: str, new: str) -> None:
    assert release.spec.count(old) == 1, old
    release.spec = release.spec.replace(old, new)


def _with_shards(shards: dict[str, bytes], row: str, files: str) -> ForeignRelease:
    """Pythia's small release with other data."""
    release = pythia()
    release.repos[DATA] = {"main": {"README.md": b"---\nlicense: mit\n---\n# Rows\n", **shards}}
    _replace(release, ROW, row)
    _replace(release, FILES, files)
    _replace(release, GOLDEN, "")
    return release


def _parquet(ids: np.ndarray, **how: int) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"uid": range(len(ids)), "token_ids": ids.tolist()}), file, **how)
    return file.getvalue()


PARQUET_ROW = "row: {row_len: 9, seq_len: 8, dtype: uint16, format: parquet}"
PARQUET_FILES = 'files: {pattern: "data/train-{index:06d}.parquet", count: 4, rows: 8, total_rows: 32}'


def _repacked(*rows: int) -> ForeignRelease:
    """Rows as Parquet, one file for each interval, as a third party packed Pythia's."""
    shards = {
        f"data/train-{i:06d}.parquet": _parquet(rows_of(i, n, 9, 0), row_group_size=3) for i, n in enumerate(rows)
    }
    return _with_shards(shards, PARQUET_ROW, PARQUET_FILES)


def test_rows_in_parquet_are_read_by_their_footer_and_first_group(elsewhere: Elsewhere) -> None:
    view = elsewhere.view(_repacked(8, 8, 8, 8))
    (scan,) = scans(view)
    assert [one.rows for one in scan.scans] == [8, 8, 8, 8]
    assert scan.tally.ids == 4 * 3 * 9
    assert scan.tally.seen == {0: 12}
    assert not scan.whole
    assert elsewhere.findings(_repacked(8, 8, 8, 8)) == []


def test_a_parquet_file_with_fewer_rows_is_told_by_its_footer(elsewhere: Elsewhere) -> None:
    (finding,) = elsewhere.findings(_repacked(8, 7, 8, 8), EvidenceLevel.HASHED)
    assert (finding.code, finding.subject) == ("DAT008", "data/train-000001.parquet")
    assert "holds 7 rows, declared are 8" in finding.message


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1" * 9, b"x" * 500 + b"\xff\xff\xff\x7fPAR1", b"x" * 99 + b"\x10\0\0\0PAR1"]
)
def test_what_is_no_parquet_file_is_a_finding(elsewhere: Elsewhere, data: bytes) -> None:
    release = _repacked(8, 8, 8, 8)
    release.repos[DATA]["main"]["data/train-000002.parquet"] = data
    (finding,) = elsewhere.findings(release)
    assert (finding.code, finding.subject) == ("DAT008", "data/train-000002.parquet")


def test_ids_of_a_real_numpy_file_are_read_after_its_header(elsewhere: Elsewhere) -> None:
    shards = {}
    for number in range(2):
        file = io.BytesIO()
        np.save(file, rows_of(number, 4, 9, 0).astype("<u2"))
        shards[f"part-{number}.npy"] = file.getvalue()
    row = "row: {row_len: 9, seq_len: 8, dtype: uint16, format: npy}"
    view = elsewhere.view(_with_shards(shards, row, 'files: {pattern: "part-{index}.npy", count: 2}'))
    (scan,) = scans(view)
    assert (scan.tally.ids, scan.tally.highest < 32, scan.whole) == (72, True, True)


def test_data_at_plain_addresses_is_judged_like_that_on_the_hub(elsewhere: Elsewhere) -> None:
    release = pythia()
    shards = release.repos.pop(DATA)["main"]
    _replace(
        release,
        "repository: {dataset: EleutherAI/pile-nano-preshuffled, revision",
        'repository: {url: "{pages}/data/", revision',
    )
    _replace(release, f'"{{commit:{DATA}@main}}"', '"' + "0" * 40 + '"')
    _replace(release, ", data: EleutherAI/pile-nano-preshuffled", "")
    for path, data in shards.items():
        assert isinstance(data, bytes)
        release.pages[f"/data/{path}"] = data
    assert elsewhere.findings(release) == []

    release.pages["/data/document-00001-of-00002.bin"] = bytes(100)
    (finding,) = elsewhere.findings(release)
    assert finding.code == "DAT005"
    assert "has 100 bytes, declared are 200" in finding.message


def test_a_sample_reads_a_share_of_the_files_that_its_seed_chooses(elsewhere: Elsewhere) -> None:
    chosen = set()
    for seed in range(6):
        (scan,) = scans(elsewhere.view(amber(), Sample(share=0.5, seed=seed)))
        names = tuple(one.file.name for one in scan.scans)
        assert len(names) == 2
        assert not scan.whole
        chosen.add(names)
    assert len(chosen) > 1


def test_of_large_files_only_a_part_is_read(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_scan, "MAX_PART_BYTES", 400)
    release = amber()
    chunk = release.repos["datasets/LLM360/AmberTinyDatasets"]["main"]["train/train_000.jsonl"]
    assert isinstance(chunk, bytes)
    first = next(len(line) for line in [chunk.split(b"\n")[0]])
    assert first < 100
    (scan,) = scans(elsewhere.view(release))
    for one in scan.scans:
        assert one.rows is None
        assert not one.whole
        assert one.first[:1] == ["arxiv"]
        assert one.last[:1] == ["c4"]
        assert one.problem is None
        assert 0 < one.tally.ids < 90


@given(st.integers(0, 500), st.integers(0, 3000), st.integers(1, 800), st.sampled_from([1, 2, 4]))
def test_parts_of_a_file_are_bounded_aligned_and_hold_its_ends(begin: int, size: int, budget: int, unit: int) -> None:
    parts = data_scan._parts(begin, begin + size, budget, unit)
    units = size // unit
    assert sum(end - first for first, end in parts) <= max(budget, unit * data_scan.PARTS)
    assert all((first - begin) % unit == (end - begin) % unit == 0 for first, end in parts)
    assert all(begin <= first < end <= begin + units * unit for first, end in parts)
    if units:
        assert parts[0][0] == begin
        assert parts[-1][1] == begin + units * unit


@pytest.mark.parametrize("line", [b"running...", b'{"token_ids": "a"}', b"[" * 5000, b'{"source": "c4"}', b"\xff" * 40])
def test_a_line_that_is_no_row_is_a_finding(elsewhere: Elsewhere, line: bytes) -> None:
    release = amber()
    chunks = release.repos["datasets/LLM360/AmberTinyDatasets"]["main"]
    data = chunks["train/train_001.jsonl"]
    assert isinstance(data, bytes)
    lines = data.split(b"\n")
    lines[5] = line[: len(lines[5])]
    chunks["train/train_001.jsonl"] = b"\n".join(lines)
    (finding,) = elsewhere.findings(release)
    assert (finding.code, finding.subject) == ("DAT008", "train/train_001.jsonl")


def test_files_are_found_by_their_number_whatever_its_width(elsewhere: Elsewhere) -> None:
    release = amber()
    chunks = release.repos["datasets/LLM360/AmberTinyDatasets"]["main"]
    chunks["train/train_4.jsonl"] = chunks["train/train_003.jsonl"]
    chunks["train/train_1004.jsonl"] = chunks["train/train_003.jsonl"]
    chunks["other/train_005.jsonl"] = b"x"
    view = elsewhere.view(release)
    found = files_of(view, view.spec.corpora[0])
    assert found is not None
    assert [file.name[-9:] for file in found.files] == [f"_{k:03d}.jsonl"[-9:] for k in range(4)]
    assert found.extra == ("train/train_1004.jsonl",)
