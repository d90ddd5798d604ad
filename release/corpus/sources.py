"""Fetches what the sources of a corpus pin: each distinct download once, checked, whole or not at all.

The folder has one sub-folder for each download, named by the first source that uses it, and an index that is written
last. Downloads that are there and right are kept, so that a second run goes on where the first one failed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import requests

from open360.release.corpus.document_file import Progress
from open360.release.corpus.downloads import (
    check_digest,
    download,
    file_name_of,
    find_source_distribution,
    open_session,
)
from open360.release.corpus.hub_rows import WRONG_ROWS
from open360.release.corpus.source_index import (
    FetchedSource,
    SourceError,
    SourceIndex,
    SourceUnavailableError,
    pin_of,
    write_index,
)
from open360.schema.atomic import replacing_file, replacing_folder
from open360.schema.corpus import Corpus, Source
from open360.schema.manifest import FileRecord
from open360.schema.serialization import canonical_json

HUB_FILE = "documents.jsonl.zst"
HUB_TIMEOUT = 24 * 3600


def fetch_sources(corpus: Corpus, root: Path, out: Path, *, progress: Progress | None = None) -> None:
    """Fill the folder `out` with every source of a corpus and an index of them.

    Args:
        root: the release folder; `local` sources are relative to it.
        progress: called with bytes done and bytes expected (0 when unknown) of the current download.
    Raises:
        SourceError: a source cannot be had as pinned. SourceUnavailableError: trying again may help.
    """
    fetched: dict[str, FetchedSource] = {}
    out.mkdir(parents=True, exist_ok=True)
    with open_session() as session:
        for source in corpus.sources:
            pin = pin_of(source)
            if pin not in fetched:
                fetched[pin] = _fetch(session, source, pin, root, out, progress)
    index = SourceIndex(sources=tuple(fetched[pin_of(s)].model_copy(update={"name": s.name}) for s in corpus.sources))
    write_index(out, index)
    wanted = {source.name for source in fetched.values()}
    for folder in out.iterdir():
        if folder.is_dir() and folder.name not in wanted:
            shutil.rmtree(folder)


def _fetch(
    session: requests.Session, source: Source, pin: str, root: Path, out: Path, progress: Progress | None
) -> FetchedSource:
    folder = out / source.name
    if source.local is not None:
        files = _copy_local(source, root / source.local, folder)
    elif source.hub is not None:
        files = [_fetch_hub(source, folder / HUB_FILE, pin)]
    else:
        present = _present(folder, source.sha256)
        if present is None:
            if source.pypi is not None:
                package = find_source_distribution(session, source.name, source.pypi, source.sha256)
                url, name = package.url, file_name_of("/" + package.filename)
            else:
                url, name = str(source.http), file_name_of(str(source.http))
            shutil.rmtree(folder, ignore_errors=True)
            present = download(session, source.name, url, folder / name, source.sha256, progress=progress)
        files = [present]
    records = tuple(file.model_copy(update={"path": f"{source.name}/{file.path}"}) for file in files)
    assert source.kind is not None, "pin_of refuses sources without a kind"  # noqa: S101  for the type checker
    return FetchedSource(name=source.name, kind=source.kind, pin=pin, files=records)  # type: ignore[arg-type]


def _record(path: Path, name: str) -> FileRecord:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(path=name, bytes=path.stat().st_size, sha256=digest)


def _present(folder: Path, sha256: str | None) -> FileRecord | None:
    """The download that is already in `folder`, when its digest is the pinned one."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    records = (_record(path, path.name) for path in files if path.is_file())
    found = next((record for record in records if record.sha256 == sha256), None)
    return found if len(files) == 1 else None


def _local_files(source: str, path: Path) -> Iterator[tuple[Path, str]]:
    """`(file, name)` of a file, or of everything below a folder by name; links are refused."""
    if path.is_symlink() or not path.exists():
        what = "a link" if path.is_symlink() else "nothing"
        raise SourceError(source, f"expected a file or folder at '{path.name}', found {what}", "correct 'local'")
    if path.is_file():
        yield path, path.name
        return
    for file in sorted(path.rglob("*"), key=lambda p: p.relative_to(path).as_posix()):
        name = file.relative_to(path).as_posix()
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise SourceError(source, f"'{name}' is a link or a device, expected a file", "replace it by a file")
        if file.is_file():
            yield file, name


def _copy_local(source: Source, path: Path, folder: Path) -> list[FileRecord]:
    """A copy with the digest of each file. A pinned digest is that of the file, or of a folder's listing."""
    with replacing_folder(folder) as partial:
        records = []
        for file, name in _local_files(source.name, path):
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            records.append(_record(target, name))
        if source.sha256 is not None:
            listing = canonical_json([record.model_dump() for record in records])
            found = records[0].sha256 if path.is_file() else hashlib.sha256(listing).hexdigest()
            check_digest(source.name, str(source.local), source.sha256, found)
    return records


def _fetch_hub(source: Source, path: Path, pin: str) -> FileRecord:
    """The texts of a data set as documents. The stamp beside them says which commit they are of."""
    hub = source.hub
    assert hub is not None, "called for sources of the Hub only"  # noqa: S101  for the type checker
    if hub.revision is None:
        raise SourceError(source.name, "expected a commit as 'revision', found none", "pin the data set to a commit")
    stamp = path.with_name("pin.txt")
    if not (path.is_file() and stamp.is_file() and stamp.read_text() == pin):
        shutil.rmtree(path.parent, ignore_errors=True)
        with replacing_file(path) as partial:
            _run_hub_rows(source.name, {**hub.model_dump(), "source": source.name, "out": str(partial)})
        stamp.write_text(pin)
    record = _record(path, path.name)
    if source.sha256 is not None:
        check_digest(source.name, hub.repo, source.sha256, record.sha256)
    return record


def _run_hub_rows(source: str, ask: dict[str, object]) -> None:
    command = [sys.executable, "-P", "-m", "open360.release.corpus.hub_rows"]
    try:
        done = subprocess.run(
            command, input=json.dumps(ask).encode(), stderr=subprocess.PIPE, check=False, timeout=HUB_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailableError(source, "the data set did not arrive within a day", "try again") from error
    if done.returncode == WRONG_ROWS:
        raise SourceError(source, done.stderr.decode(errors="replace").strip().splitlines()[-1], "then fetch again")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise SourceUnavailableError(
            source,
            f"{ask['repo']} at {ask['revision']} could not be read ({lines[-1][:500]})",
            "check the repository's name, commit, 'config' and 'text', and the connection; then try again",
        )
