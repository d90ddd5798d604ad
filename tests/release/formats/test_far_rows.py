"""Rows of small releases of others, over a Hub and a plain server: right to the last id, and no fault delivered."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from open360.release.evidence.addresses import AddressError, Pace
from open360.release.evidence.foreign_data import files_of, with_sizes
from open360.release.findings import EvidenceLevel
from open360.release.foreign_target import ForeignTarget
from open360.release.formats.corpus_files import OpenedFiles, files_of_lines, find_indexes, index_name, open_files
from open360.release.formats.indexing import index_lines
from open360.release.formats.line_index import SUFFIX
from open360.release.formats.opening import open_rows
from open360.release.formats.ranges import AddressRanges, DataFileError, FolderRanges, TargetRanges, data_addresses
from open360.release.formats.rows import Ids, StreamReader
from open360.release.formats.shards import ShardReader, raw_area
from open360.release.hub import HubError
from open360.release.opening import open_any_target
from open360.release.order.file_rows import RowSpan
from open360.release.order.order_inputs import OrderInputs, SizedFile
from open360.release.order.resolving import resolver_of
from open360.release.order.spans import StoredFile
from open360.release.targets import TargetError, UnsafePathError
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus
from tests.support.foreign_release import RELEASES, ForeignRelease, put_on_hub
from tests.support.hub_control import QUICK, HubControl
from tests.support.hub_folder import HubFolder, Swapped
from tests.support.lying_server import Answer, lying_server
from tests.support.page_server import Pages, page_server


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A release that lies elsewhere, opened, and what it was made of."""

    release: ForeignRelease
    target: ForeignTarget
    pages: Pages

    def files(self, corpus: Corpus) -> OpenedFiles:
        view = ReleaseView(self.target, EvidenceLevel.LISTED)
        found = files_of(view, corpus)
        assert found is not None
        return open_files(self.target, corpus, with_sizes(view, found).files)

    def batch(self, run_name: str, step: int, indexes: Path | None = None) -> Ids:
        spec = self.target.document.spec
        run = spec.run(run_name)
        corpus = spec.corpus_of(run)
        assert corpus is not None
        files = self.files(corpus)
        sized = tuple(SizedFile(path=name, bytes=files.ranges.identity(name).bytes) for name in files.names)
        resolver = resolver_of(run, corpus, None if corpus.row.format == "jsonl" else OrderInputs(files=sized))  # type: ignore[union-attr]
        index_of = find_indexes(files.ranges, indexes)
        reader = open_rows(corpus, files.names, files.ranges, layout=resolver.layout, index_of=index_of)
        return reader.read(resolver.rows(step, step + 1))


@pytest.fixture
def pages() -> Iterator[Pages]:
    with page_server() as running:
        yield running


def opened(name: str, hub: HubControl, pages: Pages, tmp_path: Path, release: ForeignRelease | None = None) -> Opened:
    release = release if release is not None else RELEASES[name]()
    spec = tmp_path / "spec.yaml"
    spec.write_bytes(put_on_hub(release, HubFolder(hub.running.directory), pages))
    repo = next(name for name in release.repos if not name.startswith("datasets/"))
    target = open_any_target(repo, spec=spec, endpoint=hub.url)
    assert isinstance(target, ForeignTarget)
    target.survey.hub.patience = QUICK
    return Opened(release=release, target=target, pages=pages)


def digest(ids: Ids) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<u4").tobytes()).hexdigest()


@pytest.mark.parametrize("name", ["pythia", "olmo"])
def test_golden_batches_are_read_from_the_hub(name: str, hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = opened(name, hub, pages, tmp_path)
    runs = [run.name for run in there.target.document.spec.all_runs() if run.golden_batches]
    for run_name in runs:
        for golden in there.target.document.spec.run(run_name).golden_batches:
            assert digest(there.batch(run_name, golden.step)) == golden.sha256
    assert runs


@pytest.mark.parametrize("name", ["amber", "k2"])
def test_chunks_of_json_lines_are_read_from_the_hub_with_an_index_and_without(
    name: str, hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = opened(name, hub, pages, tmp_path)
    spec = there.target.document.spec
    run = next(run for run in spec.all_runs() if run.steps)
    (files,) = files_of_lines(there.target, None)
    corpus = spec.corpus_of(run)
    assert corpus is not None and corpus.row is not None
    expected = [there.batch(run.name, step) for step in range(run.steps or 0)]
    for file in files.names[:2]:
        made = index_lines(files.ranges, file, tmp_path / "own" / index_name(file))
        assert made.was_hashed == (made.identity.sha256 is not None)
    for step, batch in enumerate(expected):
        np.testing.assert_array_equal(there.batch(run.name, step, tmp_path / "own"), batch)


def test_an_index_that_was_published_beside_its_file_is_found_and_used(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = opened("amber", hub, pages, tmp_path)
    (files,) = files_of_lines(there.target, None, ["train/train_002*"])
    assert files.names == ("train/train_002.jsonl",)
    assert find_indexes(files.ranges)(files.names[0]) is None
    index_lines(files.ranges, files.names[0], tmp_path / "index")
    repo = next(name for name in there.release.repos if name.startswith("datasets/"))
    main = there.release.repos[repo]["main"]
    main[f"{files.names[0]}{SUFFIX}"] = (tmp_path / "index").read_bytes()
    HubFolder(hub.running.directory).clear()
    again = opened("amber", hub, pages, tmp_path, there.release)
    (files,) = files_of_lines(again.target, None, ["train/train_002*"])
    found = find_indexes(files.ranges)(files.names[0])
    assert found is not None
    assert found.rows == 10
    with pytest.raises(TargetError, match="expected files of JSON lines that match nothing"):
        files_of_lines(again.target, None, ["nothing"])


def test_names_that_lead_out_of_a_folder_of_indexes_are_refused() -> None:
    assert index_name("https://host/a/b.jsonl") == "host/a/b.jsonl.lines"
    for name in ("../a.jsonl", "/etc/a.jsonl", "https://host/../../a.jsonl"):
        with pytest.raises(UnsafePathError):
            index_name(name)


def test_a_batch_that_breaks_off_is_gone_on_with(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = opened("pythia", hub, pages, tmp_path)
    golden = there.target.document.spec.run("pythia-nano").golden_batches[1]
    hub.fault("cut", r"/document-0000", after_bytes=7, times=3)
    assert digest(there.batch("pythia-nano", golden.step)) == golden.sha256
    assert hub.waiting_faults() == 0


def test_a_hub_that_fails_for_good_is_named_with_the_file(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = opened("pythia", hub, pages, tmp_path)
    hub.fault("status", r"resolve/.*document-0000", status=503, times=50)
    with pytest.raises(HubError, match=r"document-0000\d-of-00002\.bin"):
        there.batch("pythia-nano", 0)


def test_a_shard_on_the_hub_that_is_shorter_than_declared_is_found_before_any_row(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    release = RELEASES["pythia"]()
    main = release.repos["datasets/EleutherAI/pile-nano-preshuffled"]["main"]
    shard = main["document-00001-of-00002.bin"]
    assert isinstance(shard, bytes)
    main["document-00001-of-00002.bin"] = shard[:-2]
    there = opened("pythia", hub, pages, tmp_path, release)
    corpus = there.target.document.spec.corpora[0]
    files = there.files(corpus)
    with pytest.raises(DataFileError, match=r"document-00001-of-00002\.bin: expected 200 bytes as declared, found 198"):
        open_rows(corpus, files.names, files.ranges)


def test_a_file_that_the_hub_serves_and_has_not_listed_gets_no_index(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    text = b"\n".join(b'{"token_ids": [1, 2]}' for _ in range(9)) + b"\n"
    release = RELEASES["amber"]()
    release.repos["datasets/LLM360/AmberTinyDatasets"]["main"]["a.bin"] = Swapped(listed=text, served=text[:-1] + b"\r")
    there = opened("amber", hub, pages, tmp_path, release)
    path = next(path for path in there.target.listing() if path.endswith("/a.bin"))
    with pytest.raises((DataFileError, HubError)):
        index_lines(TargetRanges(there.target), path, tmp_path / "index")
    assert not (tmp_path / "index").exists()


# A plain server

ROWS = np.arange(4_000, dtype="<u2").reshape(-1, 8)
BODY = ROWS.tobytes()


def plain(ranges: AddressRanges) -> ShardReader:
    return ShardReader(ranges, row_len=8, area=raw_area(np.dtype("<u2")))


def quick_addresses() -> AddressRanges:
    addresses = data_addresses(public_only=False)
    addresses._pace = Pace(10_000, sleep=lambda _: None)
    return AddressRanges(addresses)


def ranged(body: bytes, header: str | None, **headers: str) -> Answer:
    if header is None:
        return Answer(body=body, headers=headers)
    begin, end = (int(part) for part in header.removeprefix("bytes=").split("-"))
    part = body[begin : end + 1]
    span = f"bytes {begin}-{begin + len(part) - 1}/{len(body)}"
    return Answer(status=206, headers={"Content-Range": span, **headers}, body=part)


WANTED = (3, 9), (450, 460), (100, 130)


def read(url: str) -> Ids:
    return plain(quick_addresses()).read([RowSpan(f"{url}/a.npy", *part) for part in WANTED])


def test_rows_are_read_from_a_plain_server_by_range() -> None:
    asked = []

    def behave(method: str, _: str, header: str | None) -> Answer:
        asked.append((method, header))
        return ranged(BODY, header, ETag='"one"')

    with lying_server(behave) as url:
        np.testing.assert_array_equal(read(url), np.concatenate([ROWS[a:b] for a, b in WANTED]))
    assert asked[0] == ("HEAD", None)
    assert sorted(header or "" for _, header in asked[1:]) == [
        "bytes=1600-2079", "bytes=48-143", "bytes=7200-7359"
    ]  # fmt: skip


def test_a_server_that_ignores_ranges_gives_the_right_rows_or_none() -> None:
    with lying_server(lambda *_: Answer(body=BODY)) as url:
        np.testing.assert_array_equal(read(url), np.concatenate([ROWS[a:b] for a, b in WANTED]))

    big = StoredFile("", 1 << 30)
    with lying_server(lambda *_: Answer(body=BODY, length=1 << 30)) as url:
        reader = StreamReader(quick_addresses(), [big._replace(path=f"{url}/a")], row_len=8, dtype=np.dtype("<u2"))
        with pytest.raises(AddressError, match="the host sends whole files only"):
            reader.read([RowSpan("", 60_000_000, 60_000_001)])


def test_a_server_that_cuts_every_answer_is_read_to_the_end() -> None:
    long = np.arange(1 << 20, dtype="<u2").reshape(-1, 8)

    def behave(_: str, __: str, header: str | None) -> Answer:
        whole = ranged(long.tobytes(), header)
        return Answer(status=whole.status, headers=whole.headers, body=whole.body[:99_999], length=len(whole.body))

    with lying_server(behave) as url:
        reader = plain(quick_addresses())
        np.testing.assert_array_equal(reader.read([RowSpan(f"{url}/a", 0, len(long))]), long)


@pytest.mark.parametrize("status", [200, 206])
def test_a_page_of_html_is_not_taken_for_rows(status: int) -> None:
    page = b"<!DOCTYPE html><html>" + b"please log in " * 700

    def behave(method: str, _: str, header: str | None) -> Answer:
        if method == "HEAD":
            return Answer(body=BODY)
        whole = ranged(page[: len(BODY)], header)
        kind = {"Content-Type": "text/html"}
        return Answer(body=page, headers=kind) if status == 200 else Answer(
            status=206, headers={**whole.headers, **kind}, body=whole.body
        )  # fmt: skip

    with lying_server(behave) as url, pytest.raises(AddressError, match=r"a\.npy.*page") as caught:
        read(url)
    assert "expected" in str(caught.value)


def test_a_file_that_changes_in_the_middle_is_found_out() -> None:
    tags = iter(['"one"', '"one"', '"two"', '"two"', '"two"', '"two"'])

    def behave(_: str, __: str, header: str | None) -> Answer:
        return ranged(BODY, header, ETag=next(tags))

    with lying_server(behave) as url, pytest.raises(AddressError, match="changed while it was read"):
        read(url)


def test_a_file_that_is_shorter_than_its_order_was_made_for_is_found_out() -> None:
    with lying_server(lambda _, __, header: ranged(BODY, header)) as url:
        file = f"{url}/a.npy"
        ranges = AddressRanges(data_addresses(public_only=False), {file: len(BODY) + 16})
        reader = ShardReader(ranges, row_len=8, area=raw_area(np.dtype("<u2")), sizes={file: len(BODY) + 16})
        with pytest.raises(AddressError, match=f"expected a file of {len(BODY) + 16} bytes, found one of {len(BODY)}"):
            reader.read([RowSpan(file, 0, 2)])


def test_more_reads_than_twenty_are_under_way_on_a_plain_server() -> None:
    together = threading.Barrier(20)

    def behave(method: str, _: str, header: str | None) -> Answer:
        if method == "GET":
            together.wait(60)
        return ranged(bytes(4_000_000), header)

    with lying_server(behave) as url:
        reader = plain(quick_addresses())
        wanted = [RowSpan(f"{url}/a", 6_000 * n, 6_000 * n + 10) for n in range(40)]
        assert reader.read(wanted).shape == (400, 8)


def test_a_local_folder_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(BODY)
    reader = ShardReader(FolderRanges(tmp_path), row_len=8, area=raw_area(np.dtype("<u2")))
    found = reader.read([RowSpan("a.npy", *part) for part in WANTED])
    np.testing.assert_array_equal(found, np.concatenate([ROWS[a:b] for a, b in WANTED]))
