"""A Hub that lies, floods, drips or leads elsewhere: a clear error, and never more than was allowed."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release import hub_transport
from open360.release.cli.main import _shown
from open360.release.hub import Hub, HubAnswerError, HubError, HubUnavailableError
from open360.release.hub_answers import (
    MAX_PAGE_BYTES,
    MAX_REFS,
    MAX_REFS_BYTES,
    WrongAnswerError,
    parse_history,
    parse_info,
    parse_refs,
    parse_tree,
)
from open360.release.hub_objects import Refs, RemoteFile, Repo
from open360.release.hub_patience import Patience
from open360.release.hub_transport import ClientParts, Transport
from open360.release.pacing import Pacer
from tests.support.lying_server import Answer, Behaviour, lying_server

REPO = Repo(id="lab/model", type="model")
COMMIT = "c" * 40
ONCE = Patience(tries=1, first_pause=0.01)
BLOCK = 1 << 16

Ask = Callable[[Hub], object]
ASKED: dict[str, Ask] = {
    "refs": lambda hub: hub.refs(REPO),
    "tree": lambda hub: hub.tree(REPO, COMMIT),
    "commit": lambda hub: hub.commit_of(REPO, "main"),
    "history": lambda hub: hub.first_commit(REPO),
    "file": lambda hub: hub.read(REPO, COMMIT, "f", 1 << 20),
    "range": lambda hub: hub.read_range(REPO, COMMIT, "f", 10, 20),
}


class Flood:
    """Blocks without end, counted."""

    def __init__(self, block: bytes) -> None:
        self.block, self.sent = block, 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.sent += len(self.block)
            yield self.block


def asked_of(behaviour: Behaviour, ask: Ask, patience: Patience = ONCE) -> HubError:
    """The error that asking ends with."""
    with lying_server(behaviour) as url, pytest.raises(HubError) as caught:
        ask(Hub(url, "t", patience=patience))
    assert "lab/model" in str(caught.value)
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize("what", ASKED)
def test_of_an_endless_answer_no_more_is_read_than_was_allowed(what: str) -> None:
    flood = Flood(b'[{"name": "x", "id": "y", "type": "file"}], ' * 1_500)
    bound = MAX_REFS_BYTES if what == "refs" else 17 << 20
    tracemalloc.start()
    try:
        error = asked_of(lambda *_: Answer(blocks=flood), ASKED[what]) if what != "range" else None
        if what == "range":
            with lying_server(lambda *_: Answer(blocks=flood)) as url:
                assert len(Hub(url, "t", patience=ONCE).read_range(REPO, COMMIT, "f", 10, 20)) == 10
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error is None or isinstance(error, HubAnswerError)
    assert flood.sent < bound + (16 << 20)  # what the system holds between two sockets
    assert peak < 4 * bound


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("status", [404, 401, 500, 302])
def test_an_endless_refusal_is_read_no_further_than_for_its_message(what: str, status: int) -> None:
    flood = Flood(b"x" * BLOCK)
    headers = {"Location": "/elsewhere", "Content-Type": "text/plain"}
    asked_of(lambda *_: Answer(status=status, headers=headers, blocks=flood), ASKED[what])
    assert flood.sent < 64 << 20


def test_a_million_refs_are_refused() -> None:
    def refs() -> Iterator[bytes]:
        yield b'{"tags": [], "branches": ['
        for number in range(1_000_000):
            yield b'{"name": "b%d", "ref": "refs/heads/b%d", "targetCommit": "%040d"},' % (number, number, number)
        yield b'{"name": "main", "ref": "", "targetCommit": "%040d"}]}' % 0

    blocks = (b"".join(some) for some in itertools.batched(refs(), 1000)) if hasattr(itertools, "batched") else refs()
    assert isinstance(asked_of(lambda *_: Answer(blocks=blocks), ASKED["refs"]), HubAnswerError)


def test_as_many_refs_as_are_allowed_are_read_in_bounded_memory() -> None:
    refs = [
        {"name": f"ckpt_{n:06d}", "ref": f"refs/heads/ckpt_{n:06d}", "targetCommit": f"{n:040x}"}
        for n in range(MAX_REFS)
    ]
    data = json.dumps({"branches": refs, "tags": []}).encode()
    assert len(data) < MAX_REFS_BYTES
    del refs
    tracemalloc.start()
    try:
        assert len(parse_refs(data).branches) == MAX_REFS
        assert tracemalloc.get_traced_memory()[1] < 10 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filler", [b"1,", b'"a",', b"[],", b"{},", b"1.5,"])
def test_many_small_parts_are_refused_before_they_take_memory(filler: bytes) -> None:
    data = b"[" + filler * (MAX_PAGE_BYTES // len(filler) - 10) + b"1]"
    for parse in (parse_refs, parse_tree, parse_info, parse_history):
        tracemalloc.start()
        try:
            with pytest.raises(WrongAnswerError):
                parse(data)
            assert tracemalloc.get_traced_memory()[1] < 64 * MAX_PAGE_BYTES
        finally:
            tracemalloc.stop()


# Wrong shapes


def ref(**changes: Any) -> Any:
    return {"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT, **changes}], "tags": []}


def entry(**changes: Any) -> Any:
    return [{"type": "file", "path": "a", "size": 1, "oid": "a" * 40, **changes}]


ESCAPE = "\x1b]0;owned\x07\x1b[31m"
WRONG_REFS: list[Any] = [
    3, [], {}, {"branches": {}}, {"branches": [], "tags": None}, {"branches": [3], "tags": []},
    ref(name=3), ref(name=""), ref(name="a\x1b[0m"), ref(name="a\nb"), ref(name="x" * 300), ref(name="\ud800"),
    ref(targetCommit=None), ref(targetCommit="main"), ref(targetCommit="C" * 40), ref(targetCommit=COMMIT + "\n"),
    ref(targetCommit=ESCAPE), {"branches": [*ref()["branches"], *ref(targetCommit="d" * 40)["branches"]], "tags": []},
]  # fmt: skip
WRONG_TREES: list[Any] = [
    3, {}, ["a"], [{}], [{"type": 3, "path": "a"}], entry(path=3), entry(path=""), entry(path="/etc/passwd"),
    entry(path="../../x"), entry(path="a/../../b"), entry(path="a//b"), entry(path="a/./b"), entry(path="a\x00b"),
    entry(path="\udcff"), entry(path="x" * 5_000), entry(size=-1), entry(size=1 << 60), entry(size=10**400),
    entry(size=1.0), entry(size=True), entry(size="1"), entry(size=None), entry(oid=None), entry(oid="a" * 64),
    entry(oid=ESCAPE), entry(lfs=3), entry(lfs={}), entry(lfs={"oid": "a" * 40}), entry(lfs={"oid": ["a" * 64]}),
    entry() + entry(), [{"type": "directory", "path": "../up", "oid": "a" * 40}],
]  # fmt: skip


@pytest.mark.parametrize("answer", WRONG_REFS, ids=lambda answer: repr(answer)[:60].encode("ascii", "replace"))
def test_refs_of_a_wrong_shape_are_told_with_what_was_expected_and_found(answer: Any) -> None:
    error = asked_of(lambda *_: Answer(body=json.dumps(answer).encode()), ASKED["refs"])
    assert isinstance(error, HubAnswerError)
    assert "expected" in str(error)
    assert "found" in str(error)


@pytest.mark.parametrize("answer", WRONG_TREES, ids=lambda answer: repr(answer)[:60].encode("ascii", "replace"))
def test_trees_of_a_wrong_shape_are_told_with_what_was_expected_and_found(answer: Any) -> None:
    with pytest.raises(WrongAnswerError, match=r"expected.*found") as caught:
        parse_tree(json.dumps(answer).encode())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'[{"type": "file", "type": "file"}]',
        b"[NaN]",
        b"[" + b"9" * 100_000 + b"]",
        b"\xff\xfe[]",
        b"<html>Sign in</html>",
        b"",
    ],
    ids=range(8),
)
@pytest.mark.parametrize("what", ["refs", "tree", "commit", "history"])
def test_what_is_no_json_of_a_hub_is_an_error_that_names_the_thing(what: str, body: bytes) -> None:
    assert isinstance(asked_of(lambda *_: Answer(body=body), ASKED[what]), HubAnswerError)


def test_names_that_a_terminal_would_obey_may_stand_in_a_tree_for_a_rule_to_see() -> None:
    odd = ["\x1b[2Jx", "\u202egnp.exe", "a\nb", "\u0441onfig.json", "-rf", "con fig"]
    answer = [one for path in odd for one in entry(path=path)]
    assert list(parse_tree(json.dumps(answer).encode())) == odd


NODES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["branches", "tags", "name", "targetCommit", "path", "size", "oid", "lfs", "type", "id", "sha"]
            ),
            inner | st.just("file") | st.just("a" * 40) | st.just("b" * 64),
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(NODES)
@settings(max_examples=400, deadline=None)
def test_any_json_is_an_answer_or_a_wrong_answer(value: Any) -> None:
    data = json.dumps(value).encode()
    for parse, kind in ((parse_refs, Refs), (parse_tree, dict), (parse_info, str), (parse_history, list)):
        try:
            found = parse(data)
        except WrongAnswerError as error:
            assert str(error).isprintable()
        else:
            assert isinstance(found, kind)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_an_answer_or_a_wrong_answer(data: bytes) -> None:
    for parse in (parse_refs, parse_tree, parse_info, parse_history):
        try:
            parse(data)
        except WrongAnswerError as error:
            assert str(error).isprintable()


# Pages


def paged(next_of: Callable[[int], str | None]) -> Behaviour:
    """Pages of one file each; `next_of` says what follows a page."""
    numbers = itertools.count()

    def behave(_method: str, path: str, _range: str | None) -> Answer:
        number = next(numbers)
        link = next_of(number)
        headers = {} if link is None else {"Link": f'<{link.format(path=path.split("?")[0])}>; rel="next"'}
        return Answer(headers=headers, body=json.dumps(entry(path=f"file{number}")).encode())

    return behave


def test_pages_are_put_together() -> None:
    with lying_server(paged(lambda n: f"{{path}}?cursor={n}" if n < 4 else None)) as url:
        tree = Hub(url, "t", patience=ONCE).tree(REPO, COMMIT)
    assert tree == {f"file{n}": RemoteFile(bytes=1, sha256=None, git_id="a" * 40) for n in range(5)}


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.1:9/api/models/lab/model/tree/{path}",
        "http://example.org{path}?cursor=1",
        "//example.org{path}",
        "/api/models/other/model/tree/main?cursor=1",
        "/admin/delete-everything",
        "file:///etc/passwd",
        "http://[::1",
        "http://127.0.0.1:99999999{path}",
    ],
)
def test_a_next_page_elsewhere_is_not_asked_for(link: str) -> None:
    assert isinstance(asked_of(paged(lambda _: link), ASKED["tree"]), HubAnswerError)


def test_pages_in_a_circle_and_without_end_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there before" in str(asked_of(paged(lambda n: f"{{path}}?cursor={n % 3}"), ASKED["tree"]))
    monkeypatch.setattr(hub_transport, "MAX_PAGES", 30)
    assert "at most 30 pages" in str(asked_of(paged(lambda n: f"{{path}}?cursor={n}"), ASKED["tree"]))


def test_one_file_on_two_pages_is_an_error() -> None:
    def behave(_method: str, path: str, _range: str | None) -> Answer:
        headers = {} if "cursor" in path else {"Link": f'<{path}&cursor=1>; rel="next"'}
        return Answer(headers=headers, body=json.dumps(entry()).encode())

    assert "on two pages" in str(asked_of(behave, ASKED["tree"]))


# Redirects


@pytest.mark.parametrize("what", ASKED)
def test_redirects_in_a_circle_end(what: str) -> None:
    asked: list[str] = []

    def behave(_method: str, path: str, _range: str | None) -> Answer:
        asked.append(path)
        return Answer(status=302, headers={"Location": f"/again?{len(asked)}"})

    assert "redirects" in str(asked_of(behave, ASKED[what]))
    assert len(asked) < 15


@pytest.mark.parametrize("what", ["refs", "tree", "commit", "history"])
def test_a_listing_from_another_server_is_not_asked_for(what: str) -> None:
    asked: list[str] = []

    def other(_method: str, path: str, _range: str | None) -> Answer:
        asked.append(path)
        return Answer(body=b"{}")

    with lying_server(other) as elsewhere:
        answer = Answer(status=307, headers={"Location": f"{elsewhere}/api/models/lab/model/refs"})
        assert "redirect" in str(asked_of(lambda *_: answer, ASKED[what]))
    assert asked == []


def test_a_listing_that_was_renamed_on_the_same_hub_is_followed() -> None:
    def behave(_method: str, path: str, _range: str | None) -> Answer:
        if "renamed" in path:
            return Answer(body=json.dumps(ref()).encode())
        return Answer(status=307, headers={"Location": path.replace("lab/model", "lab/renamed")})

    with lying_server(behave) as url:
        assert Hub(url, "t", patience=ONCE).refs(REPO).branches == {"main": COMMIT}


@pytest.mark.parametrize("location", [None, "", "http://[::1", "ftp://example.org/x", "file:///etc/passwd"])
@pytest.mark.parametrize("what", ["refs", "file"])
def test_a_redirect_to_nowhere_is_an_error(what: str, location: str | None) -> None:
    headers = {} if location is None else {"Location": location}
    asked_of(lambda *_: Answer(status=302, headers=headers), ASKED[what])


def test_from_https_no_redirect_leads_to_http() -> None:
    class Request:
        url = "http://example.org/blob"

    class Redirect:
        status_code, next_request = 302, Request

    parts = ClientParts(session=dict, headers=dict, refuse=print, answer=dict, timeout=None)
    transport = Transport("https://hub.example", parts, Pacer(), 10.0)
    with pytest.raises(WrongAnswerError, match="https"):
        transport._redirected(Redirect(), abroad=True)  # type: ignore[arg-type]


def test_a_token_is_not_sent_to_another_server() -> None:
    told: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"bytes")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        location = f"http://localhost:{server.server_address[1]}/blob"
        with lying_server(lambda *_: Answer(status=302, headers={"Location": location})) as url:
            assert Hub(url, "secret", patience=ONCE).read(REPO, COMMIT, "f", 100) == b"bytes"
    finally:
        server.shutdown()
        server.server_close()
    assert told == [None]


# Slow, partial, compressed


@pytest.mark.parametrize("what", ASKED)
def test_an_answer_that_drips_is_given_up(what: str) -> None:
    def drip() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.02)

    patience = Patience(tries=1, answer_seconds=0.2)
    error = asked_of(lambda *_: Answer(blocks=drip(), length=1 << 30), ASKED[what], patience)
    assert isinstance(error, HubUnavailableError)
    assert "bytes came in" in str(error)


@pytest.mark.parametrize("what", ASKED)
def test_an_answer_that_breaks_off_is_no_answer(what: str) -> None:
    error = asked_of(lambda *_: Answer(body=b'{"branches": [', length=10_000), ASKED[what])
    assert isinstance(error, HubUnavailableError)


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br", "deflate", "x-unheard-of"])
def test_a_compressed_answer_that_was_not_asked_for_is_not_unpacked(what: str, encoding: str) -> None:
    plain = bytes(200 << 20)
    bomb = zstandard.compress(plain) if encoding == "zstd" else gzip.compress(plain[: 16 << 20])
    del plain
    tracemalloc.start()
    try:
        error = asked_of(lambda *_: Answer(headers={"Content-Encoding": encoding}, body=bomb), ASKED[what])
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert "not compressed" in str(error)


def test_messages_of_a_hub_are_never_put_out_raw(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer(status=422, headers={"X-Error-Message": "\x1b[31mred"}, body=b'{"error": "\x1b[2J\xe2\x80\xae"}')
    with lying_server(lambda *_: answer) as url, pytest.raises(HubError) as caught:
        Hub(url, "t", patience=ONCE).refs(REPO)
    assert _shown(caught.value).isprintable()
    assert capsys.readouterr() == ("", "")
