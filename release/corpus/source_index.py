"""What was fetched for a corpus: `sources/_index.json`, written last, so that its presence means completeness."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from open360.schema.atomic import write_bytes
from open360.schema.corpus import Source
from open360.schema.errors import Open360Error
from open360.schema.manifest import FileRecord
from open360.schema.model import ManifestModel
from open360.schema.serialization import dump_json, load_json_model

# A source's name starts with a letter or digit, so no source's folder has this name.
INDEX_FILE = "_index.json"


class SourceError(Open360Error):
    """A source cannot be had as the spec pins it."""

    def __init__(self, source: str, problem: str, next_step: str) -> None:
        self.source, self.problem, self.next_step = source, problem, next_step
        super().__init__(f"source '{source}': {problem}; {next_step}")


class SourceUnavailableError(SourceError):
    """The network or the other side failed; trying again may help."""


class FetchedSource(ManifestModel):
    """What is there of one source. Paths are relative to the folder of sources."""

    name: str
    kind: Literal["pypi", "http", "hub", "local"]
    pin: str
    files: tuple[FileRecord, ...]


class SourceIndex(ManifestModel):
    """All sources of a corpus, in the order of the spec."""

    sources: tuple[FetchedSource, ...]


def pin_of(source: Source) -> str:
    """One line that names what is downloaded; equal pins are downloaded once. Raises SourceError."""
    if source.hub is not None:
        hub = source.hub
        return f"hub {hub.repo} {hub.revision} {hub.config or '-'} {hub.split} {hub.text}"
    value = source.pypi or source.http or source.local
    if source.kind is None or value is None:
        raise SourceError(
            source.name, "expected one of 'pypi', 'http', 'hub', 'local', found none", "say where it comes from"
        )
    return f"{source.kind} {value} {source.sha256 or '-'}"


def write_index(folder: Path, index: SourceIndex) -> None:
    """Write the index of a folder of sources."""
    write_bytes(folder / INDEX_FILE, dump_json(index))


def read_index(folder: Path) -> SourceIndex:
    """The index of a folder of sources. Raises SourceError when the folder is not complete."""
    path = folder / INDEX_FILE
    if not path.is_file():
        raise SourceError("all", f"expected {path.name} in '{folder.name}', found none", "fetch the sources first")
    return load_json_model(SourceIndex, path.read_bytes(), path.name)
