"""From sources to documents: one document a file, duplicates dropped, held-out documents set apart.

Memory does not grow with the text; a set of digests (32 bytes a document) is what exact deduplication costs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from open360.release.corpus.archives import ArchiveError, is_archive, read_members, top_folder
from open360.release.corpus.document_file import (
    MAX_DOCUMENT_BYTES,
    Document,
    DocumentError,
    parse_document,
    read_lines,
    writing_documents,
)
from open360.release.corpus.globs import matches
from open360.release.corpus.source_index import FetchedSource, SourceError, pin_of, read_index
from open360.schema.atomic import write_bytes
from open360.schema.corpus import Corpus, Source
from open360.schema.names import RelPath
from open360.schema.serialization import canonical_json

_REL_PATH: TypeAdapter[str] = TypeAdapter(RelPath)


@dataclass(kw_only=True)
class SourceCounts:
    """Documents that a source gave: trained on, dropped as duplicates, held out; bytes of UTF-8 trained on."""

    documents: int = 0
    duplicates: int = 0
    held_out: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class DocumentCounts:
    """Counts of every source, by name, in the order of the spec."""

    sources: dict[str, SourceCounts] = field(default_factory=dict)

    def total(self, name: str) -> int:
        """Sum of one of the counts over all sources."""
        return sum(int(getattr(counts, name)) for counts in self.sources.values())


def is_held_out(document_sha256: str, seed: int, fraction: float) -> bool:
    """Whether a document is never trained on: a function of its text and the seed, so equal texts never part."""
    digest = hashlib.sha256(f"{seed}\nheld_out\n{document_sha256}".encode()).digest()
    return int.from_bytes(digest, "big") < Fraction(fraction) * (1 << 256)


def build_documents(corpus: Corpus, sources: Path, out: Path) -> DocumentCounts:
    """Write `documents.jsonl.zst`, `held_out.jsonl.zst` and `counts.json` into `out` from fetched sources.

    Raises:
        SourceError: a source was not fetched as the spec pins it, or gives no document.
        DocumentError: a file is not UTF-8 text, or too large.
        ArchiveError: an archive is broken or hostile.
    """
    fraction, seed = _held_out_rule(corpus)
    fetched = {source.name: source for source in read_index(sources).sources}
    counts = DocumentCounts(sources={source.name: SourceCounts() for source in corpus.sources})
    seen: set[bytes] = set()
    with (
        writing_documents(out / "documents.jsonl.zst") as trained,
        writing_documents(out / "held_out.jsonl.zst") as held_out,
    ):
        for source in corpus.sources:
            here = counts.sources[source.name]
            for document in _documents_of(source, fetched, sources):
                digest = bytes.fromhex(document.sha256)
                if corpus.deduplicate == "exact" and digest in seen:
                    here.duplicates += 1
                    continue
                seen.add(digest)
                if fraction and is_held_out(document.sha256, seed, fraction):
                    held_out.write(document)
                    here.held_out += 1
                else:
                    trained.write(document)
                    here.documents += 1
                    here.bytes += len(document.text.encode())
            if here == SourceCounts():
                raise SourceError(
                    source.name,
                    f"expected files that match {list(source.include)}, found none",
                    "correct 'include' or 'exclude' (paths start below the archive's top folder)",
                )
    write_bytes(
        out / "counts.json", canonical_json({"sources": {name: asdict(c) for name, c in counts.sources.items()}})
    )
    return counts


def _held_out_rule(corpus: Corpus) -> tuple[float, int]:
    fraction = corpus.held_out.fraction if corpus.held_out is not None else None
    if corpus.held_out is not None and fraction is None:
        raise DocumentError(f"corpus '{corpus.name}': documents are held out by 'fraction' only; add it to 'held_out'")
    if fraction and corpus.seed is None:
        raise DocumentError(f"corpus '{corpus.name}': expected a 'seed' for its held-out split, found none; add it")
    return fraction or 0.0, corpus.seed or 0


def _documents_of(source: Source, fetched: dict[str, FetchedSource], folder: Path) -> Iterator[Document]:
    """Documents of one source in a fixed order: that of the archive, sorted paths of a folder, rows of a data set."""
    entry = fetched.get(source.name)
    if entry is None or entry.pin != pin_of(source):
        raise SourceError(
            source.name,
            f"expected '{pin_of(source)}' among the fetched sources, found {entry.pin if entry else 'nothing'!r}",
            "fetch the sources again",
        )
    if entry.kind == "hub":
        for record in entry.files:
            for lines in read_lines(folder / record.path):
                yield from (_renamed(source, parse_document(line, record.path)) for line in lines)
    elif entry.kind != "local" and is_archive(folder / entry.files[0].path):
        yield from _documents_of_archive(source, folder / entry.files[0].path)
    else:
        for record in entry.files:
            path = record.path.split("/", 1)[1]
            if matches(path, source.include, source.exclude):
                yield Document.of(source.name, path, _read_bounded(folder / record.path))


def _renamed(source: Source, document: Document) -> Document:
    """The document under the name of this source: sources with the same pin share one download."""
    path = document.id.split("/", 1)[1]
    return Document(id=f"{source.name}/{path}", text=document.text, source=source.name, sha256=document.sha256)


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_DOCUMENT_BYTES + 1)


def _documents_of_archive(source: Source, archive: Path) -> Iterator[Document]:
    top = top_folder(archive)
    seen: set[str] = set()
    for member in read_members(archive):
        path = member.path if top is None else member.path.removeprefix(top).removeprefix("/")
        if member.is_folder or not matches(path, source.include, source.exclude):
            continue
        try:
            _REL_PATH.validate_python(path)
        except ValidationError as error:
            raise ArchiveError(archive.name, f"'{path[:200]}' is not a plain relative path") from error
        if not member.is_file:
            raise ArchiveError(archive.name, f"'{path}' is a link or a device, expected a regular file")
        if member.size > MAX_DOCUMENT_BYTES:
            raise ArchiveError(archive.name, f"'{path}' claims {member.size} bytes, over {MAX_DOCUMENT_BYTES}")
        if path in seen:
            raise ArchiveError(archive.name, f"'{path}' is there twice")
        seen.add(path)
        yield Document.of(source.name, path, member.read())
