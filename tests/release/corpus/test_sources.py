"""Sources: as pinned, whole or not at all, kept when they are there, errors that say what to do."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from open360.release.corpus import downloads
from open360.release.corpus.document_file import parse_document, read_lines
from open360.release.corpus.documents import build_documents
from open360.release.corpus.hub_rows import write_rows
from open360.release.corpus.source_index import INDEX_FILE, SourceError, SourceUnavailableError, read_index
from open360.release.corpus.sources import fetch_sources
from open360.schema.corpus import Corpus, HubPin, Source
from open360.schema.serialization import load_spec
from tests.release.corpus.test_archives import tar

DATA = b"some text\n" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server:
    """A web server on this machine that answers from a table and counts what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[str] = []

    def put(self, path: str, data: bytes, status: int = 200, **headers: str) -> str:
        self.answers[path] = (status, data, headers)
        return self.url + path


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.asked.append(self.path)
            status, data, headers = running.answers.get(self.path, (404, b"", {}))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield running
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., Path]:
    def run(*sources: Source) -> Path:
        out = tmp_path / "corpora" / "words" / "sources"
        fetch_sources(Corpus(name="words", sources=sources), tmp_path, out)
        return out

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


Fetch = Callable[..., Path]


def test_a_file_is_downloaded_once_for_all_sources_that_pin_it(server: Server, fetch: Fetch) -> None:
    url = server.put("/data/words.txt", DATA)
    out = fetch(Source(name="one", http=url, sha256=SHA256), Source(name="two", http=url, sha256=SHA256))
    assert server.asked == ["/data/words.txt"]
    found = files(out)
    assert found.pop(INDEX_FILE)
    assert found == {"one/words.txt": DATA}
    assert [(s.name, s.files[0].path, s.files[0].sha256) for s in read_index(out).sources] == [
        ("one", "one/words.txt", SHA256),
        ("two", "one/words.txt", SHA256),
    ]


def test_a_download_that_is_there_and_right_is_kept(server: Server, fetch: Fetch) -> None:
    source = Source(name="one", http=server.put("/words.txt", DATA), sha256=SHA256)
    out = fetch(source)
    fetch(source)
    assert len(server.asked) == 1
    (out / "one" / "words.txt").write_bytes(b"damaged")
    fetch(source)
    assert len(server.asked) == 2
    assert (out / "one" / "words.txt").read_bytes() == DATA


def test_what_the_spec_no_longer_names_is_removed(server: Server, fetch: Fetch) -> None:
    url = server.put("/words.txt", DATA)
    fetch(Source(name="one", http=url, sha256=SHA256))
    out = fetch(Source(name="two", http=url, sha256=SHA256))
    assert set(files(out)) == {INDEX_FILE, "two/words.txt"}


def test_another_digest_than_pinned_names_both_and_leaves_nothing(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    url = server.put("/words.txt", DATA)
    with pytest.raises(SourceError, match=f"source 'one': expected sha256 {'0' * 64}, found {SHA256}"):
        fetch(Source(name="one", http=url, sha256="0" * 64))
    assert files(tmp_path) == {}


def test_without_a_pin_the_error_tells_the_digest_to_add(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"found none.*{SHA256}; check it and add 'sha256'"):
        fetch(Source(name="one", http=server.put("/words.txt", DATA)))
    assert files(tmp_path) == {}


def test_a_missing_file_is_no_network_error_and_a_broken_server_is(server: Server, fetch: Fetch) -> None:
    with pytest.raises(SourceError, match="HTTP 404") as missing:
        fetch(Source(name="one", http=f"{server.url}/none", sha256=SHA256))
    assert not isinstance(missing.value, SourceUnavailableError)
    with pytest.raises(SourceUnavailableError, match="found 500"):
        fetch(Source(name="one", http=server.put("/broken", b"", status=500), sha256=SHA256))


def test_a_network_that_is_down_says_to_try_again(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "RETRIES", 0)
    with pytest.raises(SourceUnavailableError, match="try again"):
        fetch(Source(name="one", http="http://127.0.0.1:9/words.txt", sha256=SHA256))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    with pytest.raises(SourceUnavailableError, match="try again"):
        fetch(Source(name="one", pypi="words==1.0", sha256=SHA256))


def test_an_answer_that_ends_early_is_a_network_error(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    url = server.put("/words.txt", DATA[:100], Content_Length=str(len(DATA)))
    with pytest.raises(SourceUnavailableError):
        fetch(Source(name="one", http=url, sha256=SHA256))
    assert files(tmp_path) == {}


def test_a_download_beyond_the_limit_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.put("/words.txt", DATA)
    with downloads.open_session() as session, pytest.raises(SourceError, match="expected at most 5000"):
        downloads.download(session, "one", url, tmp_path / "x", SHA256, limit=5000)
    assert files(tmp_path) == {}


def index_page(server: Server, sdist: bytes, version: str = "1.0") -> str:
    digest = hashlib.sha256(sdist).hexdigest()
    server.put(f"/files/some_words-{version}.tar.gz", sdist)
    server.put(f"/files/some_words-{version}-py3-none-any.whl", b"wheel")
    links = "".join(
        f'<a href="/files/some_words-{version}{end}#sha256={digest}">some_words-{version}{end}</a>'
        for end in ("-py3-none-any.whl", ".tar.gz")
    )
    server.put("/simple/some-words/", f"<html><body>{links}</body></html>".encode(), Content_Type="text/html")
    return digest


def test_a_source_distribution_is_found_in_the_configured_index_and_read_without_running_it(
    server: Server, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"some_words-1.0/setup.py": b"raise SystemExit('run')", "some_words-1.0/docs/a.txt": b"text"}
    sdist = tar(tmp_path / "made.tar.gz", content).read_bytes()
    (tmp_path / "made.tar.gz").unlink()
    digest = index_page(server, sdist)
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    source = Source(name="words", pypi="Some_Words==1.0", sha256=digest, include=("docs/*.txt",))
    out = fetch(source)
    assert set(files(out)) == {INDEX_FILE, "words/some_words-1.0.tar.gz"}
    corpus = Corpus(name="words", sources=(source,))
    build_documents(corpus, out, tmp_path / "built")
    (line,) = next(read_lines(tmp_path / "built" / "documents.jsonl.zst"))
    assert parse_document(line, "x").id == "words/docs/a.txt"


def test_what_the_index_does_not_have_is_said(
    server: Server, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = index_page(server, b"sdist")
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    with pytest.raises(SourceError, match=r"some-words==3\.0, found none \(newest versions there: 1\.0\)"):
        fetch(Source(name="words", pypi="some-words==3.0", sha256=digest))
    with pytest.raises(SourceError, match="project 'nothing'"):
        fetch(Source(name="words", pypi="nothing==3.0", sha256=digest))
    asked = len(server.asked)
    with pytest.raises(SourceError, match=f"found {digest} at some_words"):
        fetch(Source(name="words", pypi="some-words==1.0", sha256="0" * 64))
    assert len(server.asked) == asked + 1  # the index already told
    assert files(tmp_path) == {}


def test_a_local_folder_is_copied_with_the_digest_of_every_file(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "texts" / "sub").mkdir(parents=True)
    (tmp_path / "texts" / "b.txt").write_text("b")
    (tmp_path / "texts" / "sub" / "a.txt").write_text("a")
    source = Source(name="mine", local="texts", include=("**/*.txt",))
    out = fetch(source)
    index = json.loads((out / INDEX_FILE).read_text())
    assert [(f["path"], f["bytes"]) for f in index["sources"][0]["files"]] == [("mine/b.txt", 1), ("mine/sub/a.txt", 1)]
    build_documents(Corpus(name="words", sources=(source,)), out, tmp_path / "built")
    lines = next(read_lines(tmp_path / "built" / "documents.jsonl.zst"))
    assert [parse_document(line, "x").id for line in lines] == ["mine/b.txt", "mine/sub/a.txt"]


def test_a_local_file_is_a_source_too_and_may_be_pinned(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(DATA)
    assert files(fetch(Source(name="mine", local="words.txt", sha256=SHA256)))["mine/words.txt"] == DATA
    with pytest.raises(SourceError, match=f"found {SHA256}"):
        fetch(Source(name="mine", local="words.txt", sha256="0" * 64))


def test_links_in_a_local_folder_are_refused(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "link").symlink_to("/etc/passwd")
    with pytest.raises(SourceError, match="'link' is a link"):
        fetch(Source(name="mine", local="texts"))
    with pytest.raises(SourceError, match="found nothing"):
        fetch(Source(name="mine", local="nowhere"))


def test_a_source_that_is_only_named_cannot_be_fetched(fetch: Fetch) -> None:
    with pytest.raises(SourceError, match="found none; say where it comes from"):
        fetch(Source(name="books"))


def test_a_data_set_without_a_commit_is_not_pinned(fetch: Fetch) -> None:
    with pytest.raises(SourceError, match="pin the data set to a commit"):
        fetch(Source(name="web", hub=HubPin(repo="org/web")))


def test_rows_of_a_data_set_become_documents_by_number(tmp_path: Path) -> None:
    write_rows([{"text": "one"}, {"text": "two"}], "web", "text", tmp_path / "x.jsonl.zst")
    lines = next(read_lines(tmp_path / "x.jsonl.zst"))
    assert [parse_document(line, "x").id for line in lines] == ["web/0", "web/1"]
    with pytest.raises(Exception, match="expected text in column 'text', found NoneType \\(columns: body\\)"):
        write_rows([{"body": "one"}], "web", "text", tmp_path / "y.jsonl.zst")
    assert not (tmp_path / "y.jsonl.zst").exists()


@pytest.mark.long
def test_the_reference_release_gives_the_text_that_its_run_needs(tmp_path: Path, project_root: Path) -> None:
    corpus = load_spec((project_root / "release.yaml").read_bytes()).corpora[0]
    fetch_sources(corpus, tmp_path, tmp_path / "sources")
    counts = build_documents(corpus, tmp_path / "sources", tmp_path)
    assert counts.total("bytes") > 2_000_000
    assert 0 < counts.total("held_out") < 20
