"""Bounded downloads over HTTP, checked against their digest while they stream."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import requests
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import Version
from pypi_simple import DistributionPackage, NoSuchProjectError, PyPISimple, UnsupportedContentTypeError
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from open360.release.corpus.document_file import Progress
from open360.release.corpus.source_index import SourceError, SourceUnavailableError
from open360.schema.atomic import replacing_file
from open360.schema.manifest import FileRecord

MAX_DOWNLOAD_BYTES = 16 << 30
TIMEOUT = (20, 120)  # seconds to connect, seconds without a byte
PIECE = 1 << 20
RETRIES = 3
_AGAIN = "check the connection and try again"


def open_session() -> requests.Session:
    """A session that tries again where that is harmless."""
    session = requests.Session()
    retry = Retry(total=RETRIES, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504), raise_on_status=False)
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session


def download(
    session: requests.Session,
    source: str,
    url: str,
    path: Path,
    sha256: str | None,
    *,
    limit: int = MAX_DOWNLOAD_BYTES,
    progress: Progress | None = None,
) -> FileRecord:
    """Write what `url` gives to `path`, whole and with the right digest, or not at all.

    Raises:
        SourceError: no digest is pinned (the message tells the one found), it differs, the file is missing or too big.
        SourceUnavailableError: the network or the server failed.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with session.get(url, stream=True, timeout=TIMEOUT) as answer, replacing_file(path) as partial:
            if answer.status_code != requests.codes.ok:
                raise _refused(source, url, answer.status_code)
            total = int(answer.headers.get("Content-Length") or 0)
            with partial.open("wb") as file:
                for piece in answer.iter_content(PIECE):
                    size += len(piece)
                    if max(size, total) > limit:
                        raise SourceError(
                            source, f"{url} has {max(size, total)} bytes, expected at most {limit}", "split the source"
                        )
                    digest.update(piece)
                    file.write(piece)
                    if progress is not None:
                        progress(size, total)
            check_digest(source, url, sha256, digest.hexdigest())
    except requests.RequestException as error:
        raise SourceUnavailableError(source, f"{url} did not answer as expected ({error})", _AGAIN) from error
    return FileRecord(path=path.name, bytes=size, sha256=digest.hexdigest())


def _refused(source: str, url: str, status: int) -> SourceError:
    if status in (404, 410):
        return SourceError(source, f"expected a file at {url}, found none (HTTP {status})", "correct its address")
    return SourceUnavailableError(source, f"expected HTTP 200 from {url}, found {status}", _AGAIN)


def check_digest(source: str, thing: str, expected: str | None, found: str) -> None:
    """Raise SourceError unless the pinned digest was found."""
    if expected is None:
        raise SourceError(
            source, f"expected a pinned sha256, found none; that of {thing} is {found}", "check it and add 'sha256'"
        )
    if found != expected:
        raise SourceError(
            source,
            f"expected sha256 {expected}, found {found} at {thing}",
            "find out why it differs, or correct the pin",
        )


def file_name_of(url: str) -> str:
    """A plain file name for a download."""
    name = urlsplit(url).path.rsplit("/", 1)[-1]
    plain = "".join(char if char.isalnum() or char in "._-" else "_" for char in name).lstrip(".")
    return plain[:150] or "download"


def find_source_distribution(
    session: requests.Session, source: str, pin: str, sha256: str | None
) -> DistributionPackage:
    """The source distribution of `NAME==VERSION` in the package index (pip's `PIP_INDEX_URL`, when that is set).

    Of several, the one with the pinned digest. Its code is never run.

    Raises:
        SourceError: no such project or version, no source distribution, or the index states another digest.
        SourceUnavailableError: the index did not answer.
    """
    name, version = pin.split("==")
    endpoint = os.environ.get("PIP_INDEX_URL")
    index = PyPISimple(endpoint, session=session) if endpoint else PyPISimple(session=session)
    try:
        page = index.get_project_page(name, timeout=TIMEOUT)
    except NoSuchProjectError as error:
        raise SourceError(
            source, f"expected the project '{name}' in the package index, found none", "correct it"
        ) from error
    except (requests.RequestException, UnsupportedContentTypeError) as error:
        raise SourceUnavailableError(
            source, f"the package index did not answer as expected ({error})", _AGAIN
        ) from error
    found = [p for p in page.packages if p.package_type == "sdist" and _is(p.filename, name, version)]
    if not found:
        versions = sorted({p.version for p in page.packages if p.version}, key=_version_key)[-5:]
        raise SourceError(
            source,
            f"expected a source distribution of {pin}, found none (newest versions there: {', '.join(versions)})",
            "correct the version",
        )
    chosen = next((p for p in found if sha256 is not None and p.digests.get("sha256") == sha256), found[0])
    stated = chosen.digests.get("sha256")
    if sha256 is not None and stated is not None:
        check_digest(source, f"{chosen.filename} in the package index", sha256, stated)
    return chosen


def _is(filename: str, name: str, version: str) -> bool:
    try:
        found_name, found_version = parse_sdist_filename(filename)
    except InvalidSdistFilename:
        return False
    return found_name == canonicalize_name(name) and found_version == Version(version)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
