"""Pulling from a real Hub: verified, whole or absent, and no byte more than needed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models

from open360.release.hub import HubUnavailableError
from open360.release.hub_target import HubTarget, open_hub_target
from open360.release.local_hub import running_hub
from open360.release.publishing import publish
from open360.release.pull_selection import SelectionError
from open360.release.pulling import (
    pull_between,
    pull_checkpoint_data,
    pull_documents,
    pull_metrics,
    pull_rows,
    pull_steps,
    pull_weights,
)
from open360.release.row_files import RowForm
from open360.release.row_text import TokenizerError
from open360.release.shown_rows import shown_steps
from open360.release.staging import OutputError
from open360.release.targets import FolderTarget, Target
from open360.schema.errors import IntegrityError
from open360.schema.manifest import FileRecord, Manifest
from open360.schema.serialization import load_manifest
from tests.release.conftest import PublishedRelease
from tests.support.hub_control import PUBLISHER, QUICK, HubControl


@pytest.fixture
def target(published: PublishedRelease) -> HubTarget:
    return open_hub_target(published.repo, hub=published.hub.client())


@pytest.fixture(params=["hub", "folder"])
def any_target(request: pytest.FixtureRequest, published: PublishedRelease) -> Target:
    if request.param == "hub":
        return open_hub_target(published.repo, hub=published.hub.client())
    return FolderTarget(published.root)


@pytest.fixture
def manifest(published: PublishedRelease) -> Manifest:
    return load_manifest((published.root / "manifest.json").read_bytes())


def provenance(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return found


def trace(root: Path, checkpoint: str) -> dict[str, str]:
    lines = (root / f"runs/tiny/traces/{checkpoint}.jsonl").read_text().splitlines()
    return {str(entry["step"]): entry["batch_sha256"] for entry in map(json.loads, lines)}


def ids_of(root: Path, steps: range) -> np.ndarray[Any, Any]:
    """Ids of batches, read straight from the chunks of the release folder."""
    tables = [pq.read_table(path) for path in sorted((root / "runs/tiny/chunks").glob("*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist() if row["step"] in steps]
    return np.array([row["token_ids"] for row in rows], dtype=np.uint16)


# The data of a checkpoint


def test_the_data_of_a_checkpoint_are_its_chunk_as_published(
    any_target: Target, published: PublishedRelease, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    assert pull_checkpoint_data(any_target, "ckpt_001", out).out == out
    for inside in ("chunks/chunk_001.parquet", "steps/chunk_001.parquet"):
        assert (out / inside).read_bytes() == (published.root / "runs/tiny" / inside).read_bytes()
    assert {p.name for p in out.iterdir()} == {"chunks", "steps", "provenance.json"}
    assert provenance(out)["batches"] == trace(published.root, "ckpt_001")


def test_a_checkpoint_at_step_s_has_seen_batches_below_s_and_no_other(
    target: HubTarget, manifest: Manifest, tmp_path: Path
) -> None:
    seen: list[int] = []
    for checkpoint in manifest.runs[0].checkpoints[1:]:
        pull_checkpoint_data(target, checkpoint.name, tmp_path / checkpoint.name)
        seen += [int(step) for step in provenance(tmp_path / checkpoint.name)["batches"]]
        assert sorted(seen) == list(range(checkpoint.step))
    assert sorted(seen) == list(range(6))


def test_the_initial_checkpoint_has_seen_nothing(target: HubTarget, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="has seen no data"):
        pull_checkpoint_data(target, "ckpt_init", tmp_path / "x")


@pytest.mark.parametrize("form", ["jsonl", "npy"])
def test_other_forms_hold_the_same_ids(
    any_target: Target, published: PublishedRelease, tmp_path: Path, form: RowForm
) -> None:
    out = tmp_path / "data"
    pull_checkpoint_data(any_target, "ckpt_001", out, form=form)
    expected = ids_of(published.root, range(2, 4))
    if form == "npy":
        found = np.load(out / "token_ids.npy", allow_pickle=False)
        assert found.dtype == np.uint16
    else:
        rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
        assert [row["row"] for row in rows] == [4, 5, 6, 7]
        assert rows[0]["documents"]
        found = np.array([row["token_ids"] for row in rows])
    assert np.array_equal(found, expected)


def test_provenance_tells_commits_digests_rows_and_files_and_no_time(
    target: HubTarget, manifest: Manifest, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        pull_checkpoint_data(target, "ckpt_001", tmp_path / name)
    assert (tmp_path / "one/provenance.json").read_bytes() == (tmp_path / "two/provenance.json").read_bytes()
    record, chunk = provenance(tmp_path / "one"), manifest.runs[0].chunks[1]
    assert (record["target"], record["tag"], record["commit"]) == ("lab/tiny", "v1.0.0", target.commit)
    assert record["chunks"] == {"chunk_001": chunk.rows_sha256}
    assert record["rows"] == {"first": chunk.first_row, "end": chunk.end_row}
    sources = {source["path"]: source for source in record["sources"]}
    published_chunk = target.manifest.runs[0].chunks[1].published
    assert published_chunk is not None
    assert sources[chunk.file.path]["sha256"] == chunk.file.sha256
    assert sources[chunk.file.path]["commit"] == published_chunk.commit
    for file in record["files"]:
        data = (tmp_path / "one" / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])


def test_a_checkpoint_that_does_not_exist_is_told_with_those_that_do(target: HubTarget, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="ckpt_init … ckpt_002"):
        pull_checkpoint_data(target, "ckpt_999", tmp_path / "x")
    with pytest.raises(SelectionError, match="no run 'other'"):
        pull_checkpoint_data(target, "ckpt_001", tmp_path / "x", run="other")


# Single batches


@pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 1), (2, 2), (5, 5), (1, 2), (0, 5), (3, 4)])
def test_batches_are_the_stored_ones_on_every_border(
    any_target: Target, published: PublishedRelease, tmp_path: Path, first: int, last: int
) -> None:
    out = tmp_path / "batches"
    pull_steps(any_target, first, last, out)
    table = pq.read_table(out / "rows.parquet")
    assert sorted(set(table.column("step").to_pylist())) == list(range(first, last + 1))
    found = np.array(table.column("token_ids").to_pylist())
    assert np.array_equal(found, ids_of(published.root, range(first, last + 1)))
    batches = provenance(out)["batches"]
    logged = {k: v for name in ("ckpt_000", "ckpt_001", "ckpt_002") for k, v in trace(published.root, name).items()}
    assert batches == {str(step): logged[str(step)] for step in range(first, last + 1)}


@pytest.mark.parametrize(("first", "last"), [(6, 6), (5, 6), (-1, 0), (3, 2), (10**9, 10**9)])
def test_batches_outside_the_run_are_refused(target: HubTarget, tmp_path: Path, first: int, last: int) -> None:
    with pytest.raises(SelectionError, match="expected: 0 to 5"):
        pull_steps(target, first, last, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_batch_costs_five_reads_cold_and_one_range_warm(published: PublishedRelease, tmp_path: Path) -> None:
    chunk = load_manifest((published.root / "manifest.json").read_bytes()).runs[0].chunks[1]

    def reads_of(step: int, tag: str | None) -> list[dict[str, Any]]:
        published.hub.count_from_now()
        pull_steps(
            open_hub_target(published.repo, tag=tag, hub=published.hub.client()), step, step, tmp_path / f"{step}{tag}"
        )
        return published.hub.traffic()

    cold = reads_of(2, None)
    assert sum(read["count"] for read in cold) == 5  # refs, manifest, step table, footer, row group
    ranges = [read for read in cold if read["status"] == 206]
    whole = {read["path"].rsplit("/", 1)[1]: read["bytes_out"] for read in cold if "/resolve/" in read["path"]}
    assert whole["manifest.json"] > 0
    assert sum(read["bytes_out"] for read in ranges) <= chunk.file.bytes
    commit = (
        published.hub.client().refs(open_hub_target(published.repo, hub=published.hub.client()).repo).tags["v1.0.0"]
    )
    warm = reads_of(3, commit)
    assert [(read["count"], read["status"]) for read in warm] == [(1, 206)]


def test_a_dry_run_tells_ranges_and_bytes_and_writes_nothing(target: HubTarget, tmp_path: Path) -> None:
    pull = pull_steps(target, 2, 3, tmp_path / "x", dry_run=True)
    assert pull.out is None
    assert not (tmp_path / "x").exists()
    reads = pull.as_json()["reads"]
    assert pull.bytes == sum(read["end"] - read["begin"] for read in reads)
    assert {read["path"] for read in reads} == {
        "runs/tiny/chunks/chunk_001.parquet",
        "runs/tiny/steps/chunk_001.parquet",
    }
    whole = pull_checkpoint_data(target, "ckpt_001", tmp_path / "x", dry_run=True)
    assert [read.begin for read in whole.reads] == [0, 0]
    assert pull_weights(target, "ckpt_001", tmp_path / "x", dry_run=True).bytes > 0
    assert pull_documents(target, tmp_path / "x", dry_run=True).bytes > 0
    assert not (tmp_path / "x").exists()


def test_a_damaged_cache_is_read_again(
    target: HubTarget, published: PublishedRelease, tmp_path: Path, own_cache: Path
) -> None:
    pull_steps(target, 2, 2, tmp_path / "a")
    for entry in (own_cache / "reads").rglob("*"):
        if entry.is_file():
            entry.write_bytes(entry.read_bytes()[:-1] + b"?")
    again = open_hub_target(published.repo, hub=published.hub.client())
    pull_steps(again, 2, 2, tmp_path / "b")
    assert (tmp_path / "a/rows.parquet").read_bytes() == (tmp_path / "b/rows.parquet").read_bytes()


def test_a_cache_that_cannot_be_written_does_no_harm(
    published: PublishedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OPEN360_CACHE", str(tmp_path / "file"))
    pull_steps(open_hub_target(published.repo, hub=published.hub.client()), 2, 2, tmp_path / "out")
    assert (tmp_path / "out/rows.parquet").is_file()


# Weights and documents


@pytest.mark.parametrize("what", ["weights", "checkpoint"])
def test_a_checkpoint_is_pulled_with_what_was_asked_for(
    any_target: Target, published: PublishedRelease, tmp_path: Path, what: Any
) -> None:
    out = tmp_path / "checkpoint"
    pull_weights(any_target, "ckpt_002", out, what=what)
    source = published.root / "runs/tiny/checkpoints/ckpt_002"
    expected = {
        p.relative_to(source).as_posix()
        for p in source.rglob("*")
        if p.is_file() and (what == "checkpoint" or p.parent == source)
    }
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} - {"provenance.json"}
    assert found == expected
    assert all((out / path).read_bytes() == (source / path).read_bytes() for path in expected)
    assert provenance(out)["tensors"]


def test_the_documents_are_those_of_the_tag(any_target: Target, published: PublishedRelease, tmp_path: Path) -> None:
    pull_documents(any_target, tmp_path / "documents")
    assert (tmp_path / "documents/release.yaml").read_bytes() == (published.root / "release.yaml").read_bytes()
    assert load_manifest((tmp_path / "documents/manifest.json").read_bytes()).version == "1.0.0"


# The output folder


def test_a_folder_that_exists_is_only_replaced_when_asked_and_made_by_a_pull(target: HubTarget, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pull_documents(target, out)
    with pytest.raises(OutputError, match="--force"):
        pull_weights(target, "ckpt_001", out)
    pull_weights(target, "ckpt_001", out, force=True)
    assert not (out / "release.yaml").exists()
    assert (out / "model.safetensors").exists()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(OutputError):
            pull_documents(target, precious, force=force)
    assert (precious / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    pull_documents(target, tmp_path / "empty")
    assert (tmp_path / "empty/release.yaml").exists()


def test_nothing_is_left_beside_a_finished_pull(target: HubTarget, tmp_path: Path) -> None:
    pull_weights(target, "ckpt_001", tmp_path / "outputs" / "out")
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["out"]


def test_an_output_may_be_named_by_any_path(target: HubTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("out", "../beside", "deep/er/out", "x/../y"):
        pull_documents(target, Path(name))
    found = {p.parent.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("provenance.json")}
    assert found == {"here/out", "beside", "here/deep/er/out", "here/y"}


class FullDisk(FolderTarget):
    """A folder whose third download meets a full disk."""

    downloads = 0

    def download(self, record: FileRecord, folder: Path) -> Path:
        self.downloads += 1
        if self.downloads >= 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        return super().download(record, folder)


def test_a_full_disk_is_told_and_leaves_nothing(published: PublishedRelease, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    with pytest.raises(OSError, match=r"the disk is full: .* bytes are needed") as caught:
        pull_weights(FullDisk(published.root), "ckpt_001", outputs / "out")
    assert caught.value.errno == errno.ENOSPC
    assert not list(outputs.iterdir())


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    target: HubTarget, published: PublishedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert target.manifest
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    published.hub.count_from_now()
    with pytest.raises(OSError, match="the disk is full"):
        pull_weights(target, "ckpt_001", tmp_path / "outputs" / "out")
    assert not published.hub.traffic()


# Bytes that are not the right ones, and Hubs that fail


@pytest.fixture
def own_hub(tiny: Path, tmp_path: Path) -> Iterator[HubControl]:
    """A published release whose store a test may spoil; served without Xet, so that every byte goes over HTTP."""
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1"}
    with running_hub(tmp_path / "store", ["--no-xet", "--allow-faults"]) as running:
        control = HubControl(running=running)
        command = [sys.executable, "-P", "-c", PUBLISHER, str(tiny), running.url, "lab", "0.01"]
        subprocess.run(command, env=environment, check=True, timeout=120)
        yield control


def spoil(store: Path, data: bytes, at: int) -> None:
    """Flip one byte of what the Hub has stored for a file with this content."""
    for path in store.rglob("*"):
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            path.chmod(0o644)
            changed = bytearray(data)
            changed[at] ^= 1
            path.write_bytes(changed)
            return
    raise AssertionError("the Hub has no such file")


def test_flipped_bytes_on_the_hub_are_found_and_nothing_is_put_out(
    own_hub: HubControl, tiny: Path, tmp_path: Path
) -> None:
    target = open_hub_target("lab/tiny", hub=own_hub.client())
    out = tmp_path / "outputs" / "out"
    for path, at in (
        ("checkpoints/ckpt_001/model.safetensors", 1_000),
        ("chunks/chunk_001.parquet", 100),  # in the row group
        ("chunks/chunk_002.parquet", 800),  # in the footer
        ("steps/chunk_000.parquet", 100),
    ):
        spoil(tmp_path / "store", (tiny / "runs/tiny" / path).read_bytes(), at)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        pull_weights(target, "ckpt_001", out)
    for checkpoint, step, name in (("ckpt_001", 2, "chunk_001"), ("ckpt_002", 4, "chunk_002")):
        with pytest.raises(IntegrityError, match=name):
            pull_checkpoint_data(target, checkpoint, out)
        with pytest.raises(IntegrityError, match=name):
            pull_steps(target, step, step, out)
    with pytest.raises((IntegrityError, HubUnavailableError), match="chunk_000"):
        pull_steps(target, 0, 0, out)
    assert not out.exists()
    pull_weights(target, "ckpt_000", out)  # what is whole can still be had


@pytest.mark.parametrize("action", ["status", "cut"])
def test_failures_on_the_way_are_survived(own_hub: HubControl, tiny: Path, tmp_path: Path, action: str) -> None:
    for place in ("/refs", "manifest.json", "steps/", "chunks/chunk_001"):
        own_hub.fault(action, place, method="GET", status=503)
    target = open_hub_target("lab/tiny", hub=own_hub.client())
    pull_steps(target, 2, 2, tmp_path / "out")
    assert own_hub.waiting_faults() == 0
    found = np.array(pq.read_table(tmp_path / "out/rows.parquet").column("token_ids").to_pylist())
    assert np.array_equal(found, ids_of(tiny, range(2, 3)))


def test_an_interrupted_pull_goes_on_with_what_it_has(own_hub: HubControl, tiny: Path, tmp_path: Path) -> None:
    target = open_hub_target("lab/tiny", hub=own_hub.client())
    out = tmp_path / "outputs" / "out"
    own_hub.fault("status", r"ckpt|optimizer\.safetensors", method="HEAD", status=503, times=100)
    with pytest.raises(HubUnavailableError):
        pull_weights(target, "ckpt_001", out, what="checkpoint")
    own_hub.clear_faults()
    assert not out.exists()
    own_hub.count_from_now()
    pull_weights(target, "ckpt_001", out, what="checkpoint")
    fetched = {t["path"].rsplit("/", 1)[1] for t in own_hub.traffic() if t["method"] == "GET" and t["bytes_out"]}
    assert "optimizer.safetensors" in fetched
    assert "model.safetensors" not in fetched
    assert (out / "model.safetensors").is_file()
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["out"]


def test_another_request_does_not_use_what_an_interrupted_one_left(
    own_hub: HubControl, tiny: Path, tmp_path: Path
) -> None:
    target = open_hub_target("lab/tiny", hub=own_hub.client())
    out = tmp_path / "outputs" / "out"
    own_hub.fault("status", r"optimizer\.safetensors", method="HEAD", status=503, times=100)
    with pytest.raises(HubUnavailableError):
        pull_weights(target, "ckpt_001", out, what="checkpoint")
    own_hub.clear_faults()
    pull_weights(target, "ckpt_002", out)
    source = tiny / "runs/tiny/checkpoints/ckpt_002/model.safetensors"
    assert (out / "model.safetensors").read_bytes() == source.read_bytes()


def test_a_hub_that_goes_away_is_an_error_that_says_so(tiny: Path, tmp_path: Path) -> None:
    with running_hub(tmp_path / "store") as running:
        client = HubControl(running=running).client()
        publish(tiny, client, to="lab", patience=QUICK)
        target = open_hub_target("lab/tiny", hub=client)
        assert target.manifest
    with pytest.raises(HubUnavailableError, match="see that the Hub is up"):
        pull_steps(target, 2, 2, tmp_path / "out")
    with pytest.raises(HubUnavailableError):
        pull_weights(target, "ckpt_001", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Manifests that nobody should believe


def hostile(target: HubTarget, edit: Any) -> HubTarget:
    data = json.loads(target.manifest_bytes() or b"")
    edit(data)
    target.__dict__["manifest"] = load_manifest(json.dumps(data).encode())
    return target


def test_a_manifest_that_promises_more_rows_than_there_are_is_not_believed(target: HubTarget, tmp_path: Path) -> None:
    def edit(data: Any) -> None:
        data["runs"][0]["chunks"][1]["end_row"] = 8_000

    with pytest.raises(IntegrityError):
        pull_checkpoint_data(hostile(target, edit), "ckpt_001", tmp_path / "out")
    with pytest.raises(IntegrityError):
        pull_steps(hostile(target, edit), 2, 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_size_that_no_disk_has_is_refused_at_once(target: HubTarget, tmp_path: Path) -> None:
    def edit(data: Any) -> None:
        data["runs"][0]["checkpoints"][1]["files"][2]["bytes"] = 1 << 50

    with pytest.raises(OSError, match="disk is full"):
        pull_weights(hostile(target, edit), "ckpt_000", tmp_path / "out")


def test_other_tensors_under_the_same_names_are_found(target: HubTarget, tmp_path: Path) -> None:
    def edit(data: Any) -> None:
        data["runs"][0]["checkpoints"][1]["tensors"]["weights"] = "0" * 64

    with pytest.raises(IntegrityError, match="tensors digest"):
        pull_weights(hostile(target, edit), "ckpt_000", tmp_path / "out")


def test_a_file_that_would_take_the_place_of_the_record_is_refused(target: HubTarget, tmp_path: Path) -> None:
    def edit(data: Any) -> None:
        data["runs"][0]["checkpoints"][1]["files"][0]["path"] = "provenance.json"

    with pytest.raises(Exception, match=r"provenance\.json"):
        pull_weights(hostile(target, edit), "ckpt_000", tmp_path / "out")


@pytest.mark.long
def test_a_killed_pull_leaves_nothing_visible_and_goes_on(own_hub: HubControl, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "outputs" / "out"
    code = (
        "import sys; from pathlib import Path; from open360.release.targets import open_target\n"
        "from open360.release.pulling import pull_weights\n"
        "pull_weights(open_target('lab/tiny', endpoint=sys.argv[1]), 'ckpt_001', Path(sys.argv[2]), what='checkpoint')"
    )
    own_hub.fault("delay", r"optimizer\.safetensors", method="GET", seconds=60.0)
    puller = subprocess.Popen([sys.executable, "-P", "-c", code, own_hub.url, str(out)])
    own_hub.wait_until_met(puller)  # type: ignore[arg-type]
    puller.kill()
    puller.wait()
    assert not out.exists()
    target = open_hub_target("lab/tiny", hub=own_hub.client())
    pull_weights(target, "ckpt_001", out, what="checkpoint")
    source = tiny / "runs/tiny/checkpoints/ckpt_001"
    assert all((out / p.relative_to(source)).read_bytes() == p.read_bytes() for p in source.rglob("*") if p.is_file())
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["out"]


# Rows, sources, forms, and what lies between checkpoints


def test_rows_are_cut_out_of_their_batches(any_target: Target, published: PublishedRelease, tmp_path: Path) -> None:
    for first, end in ((0, 1), (1, 3), (3, 9), (11, 12)):
        out = tmp_path / f"rows-{first}"
        pull_rows(any_target, first, end, out)
        table = pq.read_table(out / "rows.parquet")
        assert table.column("row").to_pylist() == list(range(first, end))
        found = np.array(table.column("token_ids").to_pylist())
        assert np.array_equal(found, ids_of(published.root, range(6))[first:end])
        assert provenance(out)["kept_rows"] == {"first": first, "end": end}
    for first, end in ((12, 13), (11, 13)):
        with pytest.raises(SelectionError, match="expected: rows 0 to 11"):
            pull_rows(any_target, first, end, tmp_path / "x")


def test_between_checkpoints_lie_whole_chunks(any_target: Target, published: PublishedRelease, tmp_path: Path) -> None:
    pull_between(any_target, ("ckpt_000", "ckpt_002"), tmp_path / "out")
    assert set(provenance(tmp_path / "out")["chunks"]) == {"chunk_001", "chunk_002"}
    assert provenance(tmp_path / "out")["steps"] == {"first": 2, "end": 6}
    with pytest.raises(SelectionError, match="the earlier one first"):
        pull_between(any_target, ("ckpt_002", "ckpt_000"), tmp_path / "x")


def test_rows_that_hold_a_source_are_kept(any_target: Target, published: PublishedRelease, tmp_path: Path) -> None:
    pull_checkpoint_data(any_target, "ckpt_001", tmp_path / "all", form="jsonl")
    rows = [json.loads(line) for line in (tmp_path / "all/rows.jsonl").read_text().splitlines()]
    sources = {document["source"] for row in rows for document in row["documents"]}
    for source in sources:
        pull_checkpoint_data(any_target, "ckpt_001", tmp_path / source, form="jsonl", source=source)
        kept = [json.loads(line) for line in (tmp_path / source / "rows.jsonl").read_text().splitlines()]
        assert kept == [row for row in rows if any(document["source"] == source for document in row["documents"])]
    with pytest.raises(SelectionError, match="none of these rows holds a document of source 'nowhere'"):
        pull_checkpoint_data(any_target, "ckpt_001", tmp_path / "none", source="nowhere")
    assert not (tmp_path / "none").exists()


def test_native_is_the_published_chunk_and_megatron_holds_its_ids(
    any_target: Target, published: PublishedRelease, tmp_path: Path
) -> None:
    pull_checkpoint_data(any_target, "ckpt_001", tmp_path / "native", form="native")
    pull_checkpoint_data(any_target, "ckpt_001", tmp_path / "parquet")
    for inside in ("chunks/chunk_001.parquet", "steps/chunk_001.parquet"):
        assert (tmp_path / "native" / inside).read_bytes() == (tmp_path / "parquet" / inside).read_bytes()
    pull_steps(any_target, 1, 3, tmp_path / "megatron", form="megatron")
    ids = np.fromfile(tmp_path / "megatron/rows.bin", dtype="<u2").reshape(-1, 9)
    assert np.array_equal(ids, ids_of(published.root, range(1, 4)))
    assert (tmp_path / "megatron/rows.idx").stat().st_size == 34 + 12 * len(ids) + 8 * (len(ids) + 1)


@pytest.mark.parametrize("what", ["optimizer", "metrics"])
def test_optimizer_and_scores_are_pulled_by_themselves(
    what: str, any_target: Target, published: PublishedRelease, tmp_path: Path
) -> None:
    if what == "optimizer":
        pull_weights(any_target, "ckpt_001", tmp_path / "out", what="optimizer")
        expected = {"training_state/optimizer.safetensors"}
    else:
        pull_metrics(any_target, "ckpt_001", tmp_path / "out")
        expected = {"metrics.json", "trace.jsonl"}
        scores = json.loads((tmp_path / "out/metrics.json").read_text())
        assert (scores["step"], set(scores["metrics"])) == (4, {"loss", "perplexity"})
    out = tmp_path / "out"
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {*expected, "provenance.json"}


def test_text_is_decoded_by_the_tokenizer_of_the_corpus(tiny: Path, tmp_path: Path) -> None:
    words = [chr(ord("A") + number) for number in range(32)]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="A"))
    backend.decoder = decoders.Fuse()
    path = "corpora/words/tokenizer/tokenizer.json"
    with_old = FolderTarget(tiny)
    with pytest.raises(TokenizerError):
        pull_steps(with_old, 2, 2, tmp_path / "out", form="text")
    (tiny / path).write_text(backend.to_str())
    with pytest.raises(IntegrityError, match=r"tokenizer\.json"):
        pull_steps(with_old, 2, 2, tmp_path / "out", form="text")
    manifest = json.loads((tiny / "manifest.json").read_text())
    (record,) = [file for file in manifest["files"] if file["path"] == path]
    data = (tiny / path).read_bytes()
    record |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (tiny / "manifest.json").write_text(json.dumps(manifest))
    target = FolderTarget(tiny)
    pull_steps(target, 2, 2, tmp_path / "out", form="text")
    rows = ids_of(tiny, range(2, 3))
    expected = "".join(
        f"── step 2 · row {4 + at}\n{''.join(words[token] for token in row)}\n\n" for at, row in enumerate(rows)
    )
    assert (tmp_path / "out/rows.txt").read_text() == expected
    assert "".join(shown_steps(target, 2, 3)) == expected
    pull_checkpoint_data(target, "ckpt_001", tmp_path / "whole", form="text")
    assert (tmp_path / "whole/rows.txt").read_text().startswith(expected)
