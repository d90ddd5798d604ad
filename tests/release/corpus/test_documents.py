"""Documents: taken in order, equal ones once, some held out, errors that name the file."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from open360.release.corpus.archives import ArchiveError
from open360.release.corpus.document_file import (
    MAX_DOCUMENT_BYTES,
    Document,
    DocumentError,
    parse_document,
    read_lines,
    writing_documents,
)
from open360.release.corpus.documents import build_documents, is_held_out
from open360.release.corpus.source_index import FetchedSource, SourceError, SourceIndex, pin_of, write_index
from open360.schema.corpus import Corpus, HeldOut, Source
from open360.schema.manifest import FileRecord

DIGEST = "0" * 64


def archive(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"top-1.0/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(f"top-1.0/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)


def corpus_of(*sources: Source, held_out: float = 0.0, deduplicate: str = "exact") -> Corpus:
    return Corpus(
        name="words",
        sources=sources,
        seed=7,
        held_out=HeldOut(fraction=held_out),
        deduplicate="exact" if deduplicate == "exact" else "none",
    )


def pypi(name: str, *include: str, exclude: tuple[str, ...] = ()) -> Source:
    return Source(name=name, pypi="top==1.0", sha256=DIGEST, include=include or ("**/*",), exclude=exclude)


def build(tmp_path: Path, corpus: Corpus, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """Documents of a corpus whose sources all come from one archive."""
    archive(tmp_path / "sources" / "first" / "top.tar.gz", files, links)
    record = FileRecord(path="first/top.tar.gz", bytes=1, sha256=DIGEST)
    fetched = [FetchedSource(name=s.name, kind="pypi", pin=pin_of(s), files=(record,)) for s in corpus.sources]
    write_index(tmp_path / "sources", SourceIndex(sources=tuple(fetched)))
    build_documents(corpus, tmp_path / "sources", tmp_path / "out")
    return tmp_path / "out"


def documents(path: Path) -> list[Document]:
    return [parse_document(line, path.name) for lines in read_lines(path) for line in lines]


def test_a_document_is_a_file_below_the_top_folder_in_the_order_of_the_archive(tmp_path: Path) -> None:
    files = {"z.txt": b"last letter", "a/b.txt": "été".encode(), "a/skip.bin": b"\xff"}
    out = build(tmp_path, corpus_of(pypi("prose", "**/*.txt")), files)
    found = documents(out / "documents.jsonl.zst")
    assert [(d.id, d.text, d.source) for d in found] == [
        ("prose/z.txt", "last letter", "prose"),
        ("prose/a/b.txt", "été", "prose"),
    ]
    assert found[1].sha256 == hashlib.sha256("été".encode()).hexdigest()


def test_of_equal_documents_the_first_source_keeps_one_and_the_others_are_counted(tmp_path: Path) -> None:
    files = {"a.txt": b"same", "b.txt": b"same", "c.py": b"same", "d.py": b"code"}
    out = build(tmp_path, corpus_of(pypi("prose", "*.txt"), pypi("code", "*.py")), files)
    assert [d.id for d in documents(out / "documents.jsonl.zst")] == ["prose/a.txt", "code/d.py"]
    assert json.loads((out / "counts.json").read_bytes())["sources"] == {
        "prose": {"documents": 1, "duplicates": 1, "held_out": 0, "bytes": 4},
        "code": {"documents": 1, "duplicates": 1, "held_out": 0, "bytes": 4},
    }


def test_without_deduplication_every_document_stays(tmp_path: Path) -> None:
    out = build(tmp_path, corpus_of(pypi("prose"), deduplicate="none"), {"a": b"same", "b": b"same"})
    assert len(documents(out / "documents.jsonl.zst")) == 2


def test_a_document_is_trained_on_or_held_out_and_counted_where_it_went(tmp_path: Path) -> None:
    files = {f"{i}.txt": f"text {i // 2}".encode() for i in range(200)}
    out = build(tmp_path, corpus_of(pypi("prose"), held_out=0.2, deduplicate="none"), files)
    trained = {d.sha256 for d in documents(out / "documents.jsonl.zst")}
    held_out = {d.sha256 for d in documents(out / "held_out.jsonl.zst")}
    assert trained.isdisjoint(held_out)
    assert len(trained | held_out) == 100
    assert 5 < len(held_out) < 40
    counts = json.loads((out / "counts.json").read_bytes())["sources"]["prose"]
    assert (counts["documents"], counts["held_out"]) == (2 * len(trained), 2 * len(held_out))


@given(
    digest=st.binary(min_size=32, max_size=32),
    seed=st.integers(0, 99),
    fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_larger_fraction_holds_out_the_same_documents_and_more(
    digest: bytes, seed: int, fractions: tuple[float, float]
) -> None:
    small, large = sorted(fractions)
    assert is_held_out(digest.hex(), seed, small) <= is_held_out(digest.hex(), seed, large)
    assert not is_held_out(digest.hex(), seed, 0.0)
    assert is_held_out(digest.hex(), seed, 1.0)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"prose/bad\.txt: expected UTF-8.*byte 2.*exclude"):
        build(tmp_path, corpus_of(pypi("prose")), {"good.txt": b"x", "bad.txt": b"ab\xff"})
    assert not (tmp_path / "out" / "documents.jsonl.zst").exists()


def test_a_link_among_the_wanted_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"'link\.txt' is a link"):
        build(tmp_path, corpus_of(pypi("prose", "*.txt")), {"a.txt": b"x"}, {"link.txt": "/etc/passwd"})


def test_a_link_that_nobody_asked_for_does_no_harm(tmp_path: Path) -> None:
    out = build(tmp_path, corpus_of(pypi("prose", "*.txt")), {"a.txt": b"x"}, {"link": "/etc/passwd"})
    assert len(documents(out / "documents.jsonl.zst")) == 1


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sources" / "first" / "top.tar.gz"
    archive(path, {"a.txt": b"x"})
    with tarfile.open(path, "w:gz") as tar:
        for data in (b"one", b"two"):
            entry = tarfile.TarInfo("top-1.0/a.txt")
            entry.size = 3
            tar.addfile(entry, io.BytesIO(data))
    source = pypi("prose")
    record = FileRecord(path="first/top.tar.gz", bytes=1, sha256=DIGEST)
    write_index(
        tmp_path / "sources",
        SourceIndex(sources=(FetchedSource(name="prose", kind="pypi", pin=pin_of(source), files=(record,)),)),
    )
    with pytest.raises(ArchiveError, match="twice"):
        build_documents(corpus_of(source), tmp_path / "sources", tmp_path / "out")


def test_a_source_that_gives_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"files that match \['\*\.md'\], found none"):
        build(tmp_path, corpus_of(pypi("prose", "*.md")), {"a.txt": b"x"})


def test_sources_of_another_pin_are_not_used(tmp_path: Path) -> None:
    build(tmp_path, corpus_of(pypi("prose")), {"a.txt": b"x"})
    other = Source(name="prose", pypi="top==2.0", sha256=DIGEST)
    with pytest.raises(SourceError, match="fetch the sources again"):
        build_documents(corpus_of(other), tmp_path / "sources", tmp_path / "out")


def test_without_an_index_the_sources_are_not_complete(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    with pytest.raises(SourceError, match="fetch the sources first"):
        build_documents(corpus_of(pypi("prose")), tmp_path / "sources", tmp_path / "out")


def test_documents_are_written_to_the_byte_the_same_twice(tmp_path: Path) -> None:
    files = {f"{i}.txt": (f"text {i} " * 500).encode() for i in range(400)}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    corpus = corpus_of(pypi("prose"), held_out=0.1)
    first, second = build(tmp_path / "a", corpus, files), build(tmp_path / "b", corpus, files)
    for name in ("documents.jsonl.zst", "held_out.jsonl.zst", "counts.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def many(tmp_path: Path, count: int) -> Path:
    path = tmp_path / "many.jsonl.zst"
    with writing_documents(path) as writer:
        for i in range(count):
            writer.write(Document.of("s", str(i), f"line\n{i} ".encode() * 200))
    return path


def test_any_tool_reads_the_frames_of_a_document_file(tmp_path: Path) -> None:
    path = many(tmp_path, 3000)
    plain = subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True).stdout if _has_zstd() else None
    ours = b"".join(line + b"\n" for lines in read_lines(path) for line in lines)
    stock = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True).read()
    assert ours == stock
    assert plain in (None, stock)
    assert path.read_bytes().count(b"\x28\xb5\x2f\xfd") >= len(stock) // (2 << 20)


def _has_zstd() -> bool:
    return subprocess.run(["sh", "-c", "command -v zstd"], capture_output=True, check=False).returncode == 0


def test_a_single_frame_of_another_tool_is_read_as_well(tmp_path: Path) -> None:
    path = many(tmp_path, 500)
    lines = [line for batch in read_lines(path) for line in batch]
    other = tmp_path / "other.jsonl.zst"
    other.write_bytes(zstandard.compress(b"\n".join(lines) + b"\n"))
    assert [line for batch in read_lines(other, 1000) for line in batch] == lines


def test_a_cut_document_file_is_found(tmp_path: Path) -> None:
    path = many(tmp_path, 50)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DocumentError, match="build"):
        list(read_lines(path))


def test_a_document_with_another_text_than_its_digest_says_is_refused(tmp_path: Path) -> None:
    line = json.dumps({"id": "s/a", "source": "s", "text": "changed", "sha256": "0" * 64}).encode()
    with pytest.raises(DocumentError, match="document 's/a' has text of sha256"):
        parse_document(line, "documents.jsonl.zst")
    for broken in (b"[]", b"{", b'{"id": 1}', b'{"id":"a","source":"s","text":3,"sha256":""}'):
        with pytest.raises(DocumentError):
            parse_document(broken, "documents.jsonl.zst")


def test_a_document_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(DocumentError, match="split the file"):
        Document.of("s", "huge", b" " * (MAX_DOCUMENT_BYTES + 1))
