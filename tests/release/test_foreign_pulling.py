"""Pulling rows of releases of others: each selection gives exactly the ids that the release was made of."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from open360.release.evidence.addresses import AddressError
from open360.release.foreign_pulling import carry_out, prepare_rows
from open360.release.foreign_selection import Wanted
from open360.release.formats.megatron import MegatronIndex, MegatronReader
from open360.release.formats.ranges import DataFileError, FolderRanges
from open360.release.order.file_rows import RowSpan
from open360.release.order.resolver import UnresolvableOrderError
from open360.release.order.spans import OrderError, StoredFile
from open360.release.pull_selection import SelectionError
from open360.release.staging import OutputError
from open360.release.targets import TargetError
from open360.schema.errors import IntegrityError
from tests.support.foreign_release import RELEASES, change, digest_of, rows_of
from tests.support.hub_control import HubControl
from tests.support.hub_folder import HubFolder, Swapped
from tests.support.opened_release import Opened, open_release
from tests.support.page_server import Pages, page_server

Rows = npt.NDArray[np.uint32]
PYTHIA = rows_of(1, 32, 9, 0)
OLMO = rows_of(2, 24, 8, 0)
DATA = {"pythia": "datasets/EleutherAI/pile-nano-preshuffled", "amber": "datasets/LLM360/AmberTinyDatasets"}


@pytest.fixture
def pages() -> Iterator[Pages]:
    with page_server() as running:
        yield running


def order_of(seed: int) -> npt.NDArray[np.uint32]:
    order = np.arange(24, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed)).shuffle(order)
    return order


def trained(name: str) -> Rows:
    """All rows of the (last) run of a release, in the order of training, from what the release was made of."""
    if name == "pythia":
        return PYTHIA
    if name == "olmo-nano-stage1":  # two epochs of 24 rows: the second one has no order of its own
        return OLMO[order_of(6198)]
    if name == "olmo-nano-stage2":
        return OLMO[order_of(42)]
    chunks = [0, 1, 2, 3] if name == "amber" else [0, 1, 3, 2]
    row_len, seed = (9, 10) if name == "amber" else (8, 20)
    return np.concatenate([rows_of(seed + chunk, 10, row_len, 2)[:8] for chunk in chunks])


def provenance(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return found


def ids_in(folder: Path, form: str) -> Rows:
    if form == "parquet":
        return np.array(pq.read_table(folder / "rows.parquet").column("token_ids").to_pylist(), dtype=np.uint32)
    if form == "jsonl":
        lines = (folder / "rows.jsonl").read_text().splitlines()
        return np.array([json.loads(line)["token_ids"] for line in lines], dtype=np.uint32)
    if form == "npy":
        return np.load(folder / "token_ids.npy", allow_pickle=False).astype(np.uint32)
    ranges = FolderRanges(folder)
    index = MegatronIndex(ranges, "rows.idx")
    stored = [StoredFile("rows.bin", (folder / "rows.bin").stat().st_size)]
    row_len = int(index.sizes[0:1][0])
    reader = MegatronReader(ranges, stored, index, row_len=row_len)
    return reader.read([RowSpan("", 0, index.header.sequences)])


def pull(there: Opened, out: Path, form: Any = None, **wanted: Any) -> Any:
    return carry_out(prepare_rows(there.target, Wanted(**wanted), form=form), out)


# What each selection gives


@pytest.mark.parametrize(
    ("name", "run", "batch", "checkpoints"),
    [
        ("pythia", "pythia-nano", 2, {"step1": (0, 1), "step4": (2, 4), "main": (8, 16)}),
        ("olmo", "olmo-nano-stage2", 4, {"stage2-ingredient1-step3-tokens2B": (0, 3)}),
        ("amber", "amber-tiny", 4, {"ckpt_000": (0, 2), "ckpt_003": (6, 8)}),
        ("k2", "k2-tiny", 4, {"ckpt_001": (0, 2), "ckpt_003": (4, 6)}),
    ],
)
def test_every_selection_gives_exactly_the_rows_that_were_trained_on(
    name: str,
    run: str,
    batch: int,
    checkpoints: dict[str, tuple[int, int]],
    hub: HubControl,
    pages: Pages,
    tmp_path: Path,
) -> None:
    there = open_release(name, hub, pages, tmp_path)
    rows = trained(run if name == "olmo" else name)
    last = len(rows) // batch
    for first, end in ((0, 1), (1, 2), (last - 1, last), (0, last), (1, 4)):
        out = tmp_path / f"steps-{first}-{end}"
        pull(there, out, run=run, steps=(first, end))
        np.testing.assert_array_equal(ids_in(out, "parquet"), rows[batch * first : batch * end])
        digests = {str(s): digest_of(rows[batch * s : batch * s + batch]) for s in range(first, end)}
        assert provenance(out)["batches"] == digests
    for begin, stop in ((0, 1), (batch - 1, batch + 1), (3, 2 * batch + 1), (len(rows) - 1, len(rows))):
        out = tmp_path / f"rows-{begin}-{stop}"
        pull(there, out, run=run, rows=(begin, stop))
        table = pq.read_table(out / "rows.parquet")
        assert table.column("row").to_pylist() == list(range(begin, stop))
        assert table.column("step").to_pylist() == [row // batch for row in range(begin, stop)]
        np.testing.assert_array_equal(ids_in(out, "parquet"), rows[begin:stop])
    for checkpoint, (first, end) in checkpoints.items():
        out = tmp_path / checkpoint
        pull(there, out, run=run, checkpoint=checkpoint)
        np.testing.assert_array_equal(ids_in(out, "parquet"), rows[batch * first : batch * end])


@pytest.mark.parametrize("form", ["parquet", "jsonl", "npy", "megatron"])
@pytest.mark.parametrize("name", ["pythia", "amber"])
def test_every_form_holds_the_same_ids(name: str, form: str, hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release(name, hub, pages, tmp_path)
    pull(there, tmp_path / "out", form, steps=(1, 4))
    batch = 2 if name == "pythia" else 4
    np.testing.assert_array_equal(ids_in(tmp_path / "out", form), trained(name)[batch : 4 * batch])
    if form == "npy":
        stored = np.load(tmp_path / "out/token_ids.npy", allow_pickle=False).dtype
        assert stored == (np.uint16 if name == "pythia" else np.uint32)


def test_a_stored_permutation_is_followed_and_its_digest_compared(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("olmo", hub, pages, tmp_path)
    rows = trained("olmo-nano-stage1")
    pull(there, tmp_path / "out", run="olmo-nano-stage1", between=(
        "stage1-step3-tokens2B", "stage1-step6-tokens4B"
    ))  # fmt: skip
    np.testing.assert_array_equal(ids_in(tmp_path / "out", "parquet"), rows[12:24])
    record = provenance(tmp_path / "out")
    (index,) = [needed for needed in record["order"]["needed"] if needed["kind"] == "index"]
    assert (index["bytes"], index["verified"]) == (96, True)
    assert record["order"]["kind"] == "permutation-file"
    with pytest.raises(OrderError, match="1 epoch"):
        pull(there, tmp_path / "later", run="olmo-nano-stage1", steps=(6, 7))
    assert not (tmp_path / "later").exists()


def test_between_two_checkpoints_are_the_batches_that_only_the_later_one_saw(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    pull(there, tmp_path / "out", between=("step2", "step8"))
    np.testing.assert_array_equal(ids_in(tmp_path / "out", "parquet"), PYTHIA[4:16])
    for names in (("step8", "step2"), ("step2", "step2")):
        with pytest.raises(SelectionError, match="the earlier one first"):
            prepare_rows(there.target, Wanted(between=names))


@pytest.mark.parametrize(("name", "source", "first"), [("amber", "arxiv", True), ("k2", "refinedweb", False)])
def test_rows_of_one_source_are_picked_where_rows_say_it(
    name: str, source: str, first: bool, hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release(name, hub, pages, tmp_path)
    rows = trained(name)
    kept = np.array([(at % 8 < 4) == first for at in range(24)])
    for form in ("parquet", "npy", "megatron"):
        pull(there, tmp_path / form, form, steps=(0, 6), source=source)
        np.testing.assert_array_equal(ids_in(tmp_path / form, form), rows[:24][kept])
    assert set(pq.read_table(tmp_path / "parquet/rows.parquet").column("source").to_pylist()) == {source}
    with pytest.raises(SelectionError, match=r"none of these rows is of source 'books' \(they are of: "):
        pull(there, tmp_path / "none", steps=(0, 6), source="books")
    assert not (tmp_path / "none").exists()


def test_a_source_is_refused_where_rows_do_not_say_theirs(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    with pytest.raises(SelectionError, match="do not say which source"):
        prepare_rows(there.target, Wanted(steps=(0, 1), source="pile"))


# Whole files


def test_native_gives_chunks_as_they_are_published_and_compares_them(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("k2", hub, pages, tmp_path)
    pull(there, tmp_path / "out", "native", checkpoint="ckpt_003")
    published = there.release.repos["datasets/LLM360/K2TinyDatasets"]["main"]["chunk_003.jsonl"]
    assert (tmp_path / "out/chunk_003.jsonl").read_bytes() == published
    assert provenance(tmp_path / "out")["verified"] == ["chunk_003.jsonl: git's id of the Hub"]
    with pytest.raises(SelectionError, match="a part of one"):
        prepare_rows(there.target, Wanted(steps=(0, 1)), form="native")


def test_native_is_refused_with_the_reason_where_rows_are_no_whole_files(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    with pytest.raises(SelectionError, match="native gives whole files, and these rows are 36 of the 200 bytes"):
        prepare_rows(there.target, Wanted(steps=(0, 1)), form="native")
    pull(there, tmp_path / "all", "native", steps=(0, 16))
    shards = there.release.repos[DATA["pythia"]]["main"]
    found = {path.name: path.read_bytes() for path in (tmp_path / "all").glob("*.bin")}
    assert found == {name: data for name, data in shards.items() if name.endswith(".bin")}
    assert any(line.endswith("sha256 of the Hub") for line in provenance(tmp_path / "all")["verified"])


def unknown_inside(name: str = "amber") -> Any:
    release = RELEASES[name]()
    change(release, [{"spec": {"old": "within: {kind: file}", "new": (
        "within: {kind: unknown, reason: the starts of its processes were not published}"
    )}}])  # fmt: skip
    return release


def test_an_order_known_to_the_chunk_gives_whole_chunks_and_says_so(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("amber", hub, pages, tmp_path, unknown_inside())
    done = pull(there, tmp_path / "out", checkpoint="ckpt_001")
    published = there.release.repos[DATA["amber"]]["main"]["train/train_001.jsonl"]
    assert (tmp_path / "out/train/train_001.jsonl").read_bytes() == published
    record = provenance(tmp_path / "out")
    assert not record["order"]["exact"]
    assert "the starts of its processes were not published" in done.notes[0]
    assert "8 of the 10 rows of each chunk were trained on" in record["notes"][1]
    pull(there, tmp_path / "rows", "parquet", checkpoint="ckpt_001")
    table = pq.read_table(tmp_path / "rows/rows.parquet")
    assert table.column_names == ["chunk", "row", "token_ids", "source"]
    np.testing.assert_array_equal(ids_in(tmp_path / "rows", "parquet"), rows_of(11, 10, 9, 2))
    for wanted in (Wanted(steps=(0, 1)), Wanted(rows=(0, 3))):
        with pytest.raises(UnresolvableOrderError, match="were not published; ask for whole chunks"):
            prepare_rows(there.target, wanted)


def test_an_unknown_order_is_refused_with_its_reason_before_anything_is_asked(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    release = RELEASES["pythia"]()
    change(release, [{"spec": {"old": "{kind: materialized}", "new": (
        "{kind: unknown, reason: the data was shuffled without a seed}"
    )}}])  # fmt: skip
    there = open_release("pythia", hub, pages, tmp_path, release)
    hub.count_from_now()
    with pytest.raises(UnresolvableOrderError, match="the data was shuffled without a seed"):
        prepare_rows(there.target, Wanted(steps=(0, 1)))
    assert not hub.traffic()


# What it costs


def test_a_plan_tells_ranges_and_bytes_and_reads_no_row(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    hub.count_from_now()
    prepared = prepare_rows(there.target, Wanted(steps=(5, 6)))
    assert [(read.path, read.begin, read.end) for read in prepared.pull.reads] == [
        ("document-00000-of-00002.bin", 180, 200),
        ("document-00001-of-00002.bin", 0, 16),
    ]
    assert prepared.pull.bytes == 36
    assert not [asked for asked in hub.traffic() if "/resolve/" in asked["path"]]
    asked = sum(entry["count"] for entry in hub.traffic())
    assert asked == 2  # the refs and the tree of the data, and nothing of any model
    whole = prepare_rows(there.target, Wanted(steps=(0, 16))).pull
    assert [file.bytes for file in whole.plan.files.values()] == [200, 200, 176]
    assert whole.as_json()["bytes"] == 576


def test_lines_without_an_index_are_planned_as_an_estimate(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("amber", hub, pages, tmp_path)
    prepared = prepare_rows(there.target, Wanted(steps=(0, 1)))
    assert prepared.pull.plan.estimated
    assert prepared.pull.bytes <= len(there.release.repos[DATA["amber"]]["main"]["train/train_000.jsonl"])


# Outside of the release


def test_what_the_release_does_not_have_is_told_with_what_it_has(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    for wanted, message in (
        (Wanted(checkpoint="step3"), "step0 … step16"),
        (Wanted(checkpoint="step0"), "has seen no data"),
        (Wanted(steps=(15, 17)), "expected: 0 to 15"),
        (Wanted(rows=(31, 33)), "expected: rows 0 to 31"),
        (Wanted(run="other", steps=(0, 1)), "no run 'other'"),
    ):
        with pytest.raises(SelectionError, match=message):
            prepare_rows(there.target, wanted)
    stages = open_release("olmo", hub, pages, tmp_path)
    with pytest.raises(SelectionError, match="several runs"):
        prepare_rows(stages.target, Wanted(steps=(0, 1)))
    with pytest.raises(SelectionError, match="ask for the part of each run"):
        prepare_rows(stages.target, Wanted(between=("stage1-step3-tokens2B", "stage2-ingredient1-step6-tokens4B")))


def test_data_that_is_not_there_is_named(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["pythia"]()
    del release.repos[DATA["pythia"]]["main"]["document-00001-of-00002.bin"]
    there = open_release("pythia", hub, pages, tmp_path, release)
    with pytest.raises((DataFileError, TargetError), match="document-00001-of-00002"):
        pull(there, tmp_path / "out", steps=(0, 1))
    assert not (tmp_path / "out").exists()


# Faults: each is found and named, nothing wrong is delivered


def nothing_there(folder: Path) -> bool:
    return not (folder / "out").exists()


def test_a_batch_that_is_not_the_golden_one_is_not_delivered(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["pythia"]()
    release.golden[7] = "0" * 64
    there = open_release("pythia", hub, pages, tmp_path, release)
    with pytest.raises(IntegrityError, match="batch 7 of run 'pythia-nano'"):
        pull(there, tmp_path / "out", steps=(6, 9))
    assert nothing_there(tmp_path)
    pull(there, tmp_path / "out", steps=(8, 9))


def test_the_golden_batches_that_came_out_right_are_recorded(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    pull(there, tmp_path / "out", steps=(6, 9))
    record = provenance(tmp_path / "out")
    assert record["verified"] == ["batch 7: the digest that the spec states"]
    assert any("parts of files" in line for line in record["not_verified"])
    assert [place["repo"] for place in record["repositories"]] == ["EleutherAI/pile-nano-preshuffled"]
    assert len(record["repositories"][0]["commit"]) == 40
    assert record["spec"]["origin"] == "file spec.yaml"


def test_a_whole_file_that_is_not_the_listed_one_is_found(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["pythia"]()
    main = release.repos[DATA["pythia"]]["main"]
    shard = main["document-00001-of-00002.bin"]
    assert isinstance(shard, bytes)
    main["document-00001-of-00002.bin"] = Swapped(listed=shard, served=shard[:-1] + bytes([shard[-1] ^ 1]))
    there = open_release("pythia", hub, pages, tmp_path, release)
    with pytest.raises(IntegrityError, match="document-00001-of-00002"):
        pull(there, tmp_path / "out", "native", steps=(0, 16))
    assert nothing_there(tmp_path)


def test_a_shard_that_is_shorter_than_declared_is_found(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["pythia"]()
    main = release.repos[DATA["pythia"]]["main"]
    shard = main["document-00001-of-00002.bin"]
    assert isinstance(shard, bytes)
    main["document-00001-of-00002.bin"] = shard[:-2]
    there = open_release("pythia", hub, pages, tmp_path, release)
    with pytest.raises(DataFileError, match="expected 200 bytes as declared, found 198 bytes"):
        pull(there, tmp_path / "out", steps=(0, 1))
    assert nothing_there(tmp_path)


def test_an_index_beyond_the_data_is_found(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["olmo"]()
    order = order_of(6198)
    order[5] = 24
    release.pages["/train_data/global_indices.npy"] = order.astype("<u4").tobytes()
    there = open_release("olmo", hub, pages, tmp_path, release)
    with pytest.raises(OrderError, match="entry 5 points to row 24, the data hold 24 rows"):
        pull(there, tmp_path / "out", run="olmo-nano-stage1", steps=(1, 2))
    assert nothing_there(tmp_path)
    pull(there, tmp_path / "out", run="olmo-nano-stage1", steps=(0, 1))


def test_another_index_than_the_declared_one_is_found(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("olmo", hub, pages, tmp_path)
    data = pages.content["/train_data/global_indices.npy"]
    pages.content["/train_data/global_indices.npy"] = data[4:] + data[:4]
    with pytest.raises(DataFileError, match=r"global_indices\.npy: expected sha256"):
        pull(there, tmp_path / "out", run="olmo-nano-stage1", steps=(0, 1))
    pages.content["/train_data/global_indices.npy"] = b"<!DOCTYPE html><html>" + b"please log in" * 9
    with pytest.raises((DataFileError, AddressError)):
        pull(there, tmp_path / "out", run="olmo-nano-stage1", steps=(0, 1))
    assert nothing_there(tmp_path)


@pytest.mark.parametrize("action", ["status", "cut"])
def test_failures_on_the_way_are_survived(action: str, hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    hub.fault(action, r"/document-0000", method="GET", status=503, after_bytes=5, times=2)
    pull(there, tmp_path / "out", steps=(4, 8))
    np.testing.assert_array_equal(ids_in(tmp_path / "out", "parquet"), PYTHIA[8:16])
    assert hub.waiting_faults() == 0


def test_a_folder_that_exists_is_not_touched(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(OutputError):
        pull(there, tmp_path / "out", steps=(0, 1))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


# Files at plain addresses that a list names, one of them twice


def listed_at_addresses() -> Any:
    release = RELEASES["olmo"]()
    old = next(line for line in release.spec.splitlines() if "{dataset: allenai/olmo-mix-nano, revision:" in line)
    files = next(line for line in release.spec.splitlines() if "part-{index:03d}-00000.npy" in line)
    change(release, [
        {"spec": {"old": old, "new": '    repository: {url: "{pages}/data"}'}},
        {"spec": {"old": files, "new": (
            '    files: {listed: "{pages}/lists/files.txt", listed_sha256: "{sha256:/lists/files.txt}"}'
        )}},
    ])  # fmt: skip
    names = [f"preprocessed/part-{number:03d}-00000.npy" for number in (0, 1, 0)]
    release.pages["/lists/files.txt"] = "\n".join(names).encode()
    shards = release.repos["datasets/allenai/olmo-mix-nano"]["main"]
    release.pages |= {f"/data/{name}": data for name, data in shards.items() if isinstance(data, bytes)}
    release.golden = {}
    return release


def test_files_of_a_list_are_ordered_by_it_and_repetitions_count(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("olmo", hub, pages, tmp_path, listed_at_addresses())
    order = np.arange(36, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(42)).shuffle(order)
    rows = np.concatenate([OLMO, OLMO[:12]])[order]
    pull(there, tmp_path / "out", run="olmo-nano-stage2", steps=(0, 6))
    np.testing.assert_array_equal(ids_in(tmp_path / "out", "parquet"), rows[:24])
    record = provenance(tmp_path / "out")
    assert [(needed["kind"], needed["verified"]) for needed in record["order"]["needed"]] == [
        ("list", True), ("sizes", False)
    ]  # fmt: skip
    assert any("its host states no digest" in line for line in record["not_verified"])
    assert record["order"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("path", "data", "error"),
    [
        ("/data/preprocessed/part-001-00000.npy", None, "part-001-00000"),
        ("/data/preprocessed/part-001-00000.npy", b"<!DOCTYPE html><html>" + b" " * 379, "page of HTML|its vocabulary"),
        ("/data/preprocessed/part-001-00000.npy", b"x" * 300, "expected"),
        ("/lists/files.txt", b"preprocessed/part-000-00000.npy", "expected the list with sha256"),
        ("/lists/files.txt", None, "404"),
    ],
)
def test_faults_of_a_plain_server_are_named(
    path: str, data: bytes | None, error: str, hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("olmo", hub, pages, tmp_path, listed_at_addresses())
    prepared = None
    if path.startswith("/data") and data is not None:  # changed between looking and reading
        prepared = prepare_rows(there.target, Wanted(run="olmo-nano-stage2", steps=(0, 6)))
    if data is None:
        del pages.content[path]
    else:
        pages.content[path] = data
    with pytest.raises((AddressError, IntegrityError), match=error):
        prepared = prepared or prepare_rows(there.target, Wanted(run="olmo-nano-stage2", steps=(0, 6)))
        carry_out(prepared, tmp_path / "out")
    assert nothing_there(tmp_path)


# Samples that index maps cut out of documents (PolyPythias)


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def of_samples() -> tuple[Any, Rows]:
    """Pythia with NeoX's three maps over ten documents, and its samples in the order of training."""
    random = np.random.default_rng(5)
    sizes = random.integers(20, 40, size=10).astype("<i4")
    documents = [random.integers(1, 32, size=size).astype("<u2") for size in sizes]
    doc = random.permutation(10).astype("<i4")
    string = np.concatenate([documents[number] for number in doc])
    ends = np.cumsum([len(documents[number]) for number in doc])
    samples = (len(string) - 1) // 8
    places = [(int(np.searchsorted(ends, 8 * at, side="right")), 8 * at) for at in range(samples + 1)]
    sample = np.array([(number, at - (ends[number - 1] if number else 0)) for number, at in places], dtype="<i4")
    shuffle = random.permutation(samples).astype("<u4")
    pointers = (np.concatenate([[0], np.cumsum(sizes)[:-1]]) * 2).astype("<i8")
    head = b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little") + bytes([8])
    counts = (10).to_bytes(8, "little") + (11).to_bytes(8, "little")
    index = head + counts + sizes.tobytes() + pointers.tobytes() + np.arange(11, dtype="<i8").tobytes()
    release = RELEASES["pythia"]()
    files = next(line for line in release.spec.splitlines() if "document-{index:05d}" in line)
    change(release, [
        {"spec": {"old": files, "new": '    files: {pattern: "text_document.bin", count: 1}'}},
        {"spec": {"old": "format: bin, separator", "new": "format: bin, overlap: 1, separator"}},
        {"spec": {"old": "{kind: materialized}", "new": (
            "{kind: permutation-file, format: neox-index-maps, repo: EleutherAI/seeds, path: seed1}"
        )}},
    ])  # fmt: skip
    release.golden = {}
    data = release.repos[DATA["pythia"]]["main"]
    data |= {"text_document.bin": b"".join(d.tobytes() for d in documents), "text_document.idx": index}
    maps = {"doc": doc, "sample": sample, "shuffle": shuffle}
    release.repos["datasets/EleutherAI/seeds"] = {
        "main": {f"seed1/text_0_indexmap_{part}_idx.npy": saved(array) for part, array in maps.items()}
    }
    return release, np.stack([string[8 * at : 8 * at + 9] for at in shuffle]).astype(np.uint32)


def test_samples_are_strung_together_by_the_maps_of_their_seed(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release, rows = of_samples()
    there = open_release("pythia", hub, pages, tmp_path, release)
    pull(there, tmp_path / "out", steps=(0, 16))
    np.testing.assert_array_equal(ids_in(tmp_path / "out", "parquet"), rows[:32])
    record = provenance(tmp_path / "out")
    assert {place["repo"] for place in record["repositories"]} == {
        "EleutherAI/pile-nano-preshuffled", "EleutherAI/seeds"
    }  # fmt: skip
    assert [needed["kind"] for needed in record["order"]["needed"]] == ["index"] * 4
    with pytest.raises(SelectionError, match="an order of kind 'permutation-file' picks rows"):
        prepare_rows(there.target, Wanted(steps=(0, 16)), form="native")
    del release.repos["datasets/EleutherAI/seeds"]
    HubFolder(hub.running.directory).clear()
    without = open_release("pythia", hub, pages, tmp_path, release)
    with pytest.raises(UnresolvableOrderError, match="the data set EleutherAI/seeds is not there"):
        prepare_rows(without.target, Wanted(steps=(0, 1)))
