"""Archives of strangers: read in place, within bounds, without following anything."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from open360.release.corpus import archives
from open360.release.corpus.archives import ArchiveError, is_archive, read_members, top_folder

Files = dict[str, bytes]


def tar(path: Path, files: Files, mode: str = "w:gz", change: Callable[[tarfile.TarInfo], None] | None = None) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if change is not None:
                change(entry)
            archive.addfile(entry, io.BytesIO(data))
    return path


def contents(path: Path) -> Files:
    return {member.path: member.read() for member in read_members(path) if member.is_file}


FILES: Files = {"top/a.txt": b"first", "top/sub/b.txt": b"second" * 1000, "top/empty": b""}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_tar_gives_its_files_in_order(tmp_path: Path, mode: str) -> None:
    path = tar(tmp_path / "archive", FILES, mode)
    assert is_archive(path)
    assert contents(path) == FILES
    assert list(contents(path)) == list(FILES)
    assert top_folder(path) == "top"


def test_a_tar_in_zstd_and_a_zip_give_their_files(tmp_path: Path) -> None:
    plain = tar(tmp_path / "plain", FILES, "w")
    packed = tmp_path / "packed"
    packed.write_bytes(zstandard.compress(plain.read_bytes()))
    zipped = tmp_path / "zipped"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert contents(packed) == contents(zipped) == FILES


def test_an_archive_without_a_folder_over_everything_has_no_top(tmp_path: Path) -> None:
    assert top_folder(tar(tmp_path / "a", {"a/x": b"1", "b/x": b"2"})) is None
    assert top_folder(tar(tmp_path / "b", {"a": b"1"})) is None
    assert top_folder(tar(tmp_path / "c", {"./a/x": b"1", "./a/y": b"2"})) == "a"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/passwd", "a\\..\\evil"])
def test_an_entry_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError, match="leaves the archive's folder"):
        contents(tar(tmp_path / "archive.tar.gz", {"fine": b"1", name: b"2"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_no_files(tmp_path: Path, kind: bytes) -> None:
    def change(entry: tarfile.TarInfo) -> None:
        entry.type, entry.linkname, entry.size = kind, "/etc/passwd", 0

    (member,) = read_members(tar(tmp_path / "archive.tar", {"link": b""}, change=change))
    assert not member.is_file
    assert not member.is_folder


def test_a_link_in_a_zip_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    (member,) = read_members(path)
    assert not member.is_file


def test_a_claim_of_ten_gigabytes_is_refused_without_allocating_them(tmp_path: Path) -> None:
    header = tarfile.TarInfo("big")
    header.size = 10 << 30
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf() + b"x" * 1024))
    with pytest.raises(ArchiveError, match="cannot be read"):
        list(read_members(path))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("header")
    header.type, header.size = kind, 10 << 30
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096))
    with pytest.raises(ArchiveError, match="claims"):
        list(read_members(path))


def test_an_archive_that_unpacks_beyond_its_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MIN_UNPACKED_LIMIT", 1 << 20)
    path = tar(tmp_path / "bomb.tar.gz", {f"{i}": bytes(1 << 20) for i in range(8)})
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        list(read_members(path))


def test_an_archive_of_too_many_entries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    with pytest.raises(ArchiveError, match="more than 5 entries"):
        list(read_members(tar(tmp_path / "many.tar", {f"{i}": b"" for i in range(9)})))


def test_a_zip_whose_entry_holds_more_than_it_claims_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lie.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(100_000))
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    (member,) = read_members(path)
    with pytest.raises(ArchiveError):
        member.read()


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_broken_archive_is_one_clear_error(tmp_path: Path, cut: int) -> None:
    whole = tar(tmp_path / "archive.tar.gz", {"a": b"some text" * 100, "b": b"more"})
    whole.write_bytes(whole.read_bytes()[:-cut])
    with pytest.raises(ArchiveError, match=r"archive\.tar\.gz"):
        contents(whole)


def test_a_text_file_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("just text " * 100)
    assert not is_archive(tmp_path / "text")
    with pytest.raises(ArchiveError, match="neither a zip nor a tar"):
        list(read_members(tmp_path / "text"))
