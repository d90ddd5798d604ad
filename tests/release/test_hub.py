"""The client: reads that are checked, writes that happen once, errors of our own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.release.hub import (
    Hub,
    HubAnswerError,
    HubAuthError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    HubRateLimitedError,
    HubUnavailableError,
)
from open360.release.hub_answers import agrees, is_span, take
from open360.release.hub_errors import asked_wait
from open360.release.hub_objects import RemoteFile, Repo, Upload, git_id_of
from open360.release.hub_patience import Patience
from open360.release.local_hub import running_hub
from open360.schema.errors import IntegrityError
from tests.support.hub_control import QUICK, HubControl
from tests.support.lying_server import Answer, lying_server

REPO = Repo(id="lab/model", type="model")
COMMIT = "c" * 40
BIG = bytes(range(256)) * 8_000


def upload(path: str, data: bytes) -> Upload:
    return Upload(path=path, source=data, sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubControl]:
    with running_hub(tmp_path_factory.mktemp("shared") / "hub", ["--allow-faults"]) as running:
        control = HubControl(running=running)
        client = control.client()
        client.create_repo(REPO, private=False)
        first = client.commit_of(REPO, "main")
        prepared = client.prepare_commit(REPO, "main", [upload("big.safetensors", BIG), upload("small.json", b"{}")])
        client.commit(prepared, delete=[], message="files", parent=first)
        yield control


@pytest.fixture
def head(shared: HubControl) -> str:
    return shared.client().commit_of(REPO, "main")


def test_a_tree_tells_sizes_and_the_digests_that_the_hub_knows(shared: HubControl, head: str) -> None:
    tree = shared.client().tree(REPO, head)
    assert set(tree) == {".gitattributes", "big.safetensors", "small.json"}
    assert tree["big.safetensors"].sha256 == hashlib.sha256(BIG).hexdigest()
    assert (tree["small.json"].sha256, tree["small.json"].git_id) == (None, git_id_of(b"{}"))


@given(begin=st.integers(0, len(BIG)), size=st.integers(0, 5_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_range_is_exactly_what_was_asked_for(shared: HubControl, head: str, begin: int, size: int) -> None:
    end = min(begin + size, len(BIG))
    assert shared.client().read_range(REPO, head, "big.safetensors", begin, end) == BIG[begin:end]


def test_a_range_beyond_the_end_is_an_error(shared: HubControl, head: str) -> None:
    with pytest.raises(HubError):
        shared.client().read_range(REPO, head, "big.safetensors", len(BIG) - 5, len(BIG) + 5)


def test_a_read_takes_no_more_than_its_bound(shared: HubControl, head: str) -> None:
    with pytest.raises(HubAnswerError, match="at most 100 bytes"):
        shared.client().read(REPO, head, "big.safetensors", 100)


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "status": 500},
        {"action": "status", "status": 503, "times": 3},
        {"action": "status", "status": 429, "headers": {"RateLimit": '"resolvers";r=0;t=0'}},
        {"action": "cut"},
        {"action": "cut", "after_bytes": 1000},
        {"action": "lose_answer"},
    ],
)
def test_a_read_survives_what_passes_by_itself(shared: HubControl, head: str, fault: dict[str, object]) -> None:
    shared.fault(path_regex="resolve", **fault)  # type: ignore[arg-type]
    assert shared.client().read(REPO, head, "big.safetensors", len(BIG)) == BIG
    shared.fault(path_regex="resolve", **fault)  # type: ignore[arg-type]
    assert shared.client().read_range(REPO, head, "big.safetensors", 10, 5_010) == BIG[10:5_010]
    assert shared.waiting_faults() == 0


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {}, HubAuthError),
        (403, {}, HubAuthError),
        (404, {}, HubNotFoundError),
        (409, {}, HubConflictError),
        (429, {"Retry-After": "4000"}, HubRateLimitedError),
        (500, {}, HubUnavailableError),
        (504, {}, HubUnavailableError),
        (422, {}, HubAnswerError),
    ],
)
def test_every_status_has_its_error_which_names_the_thing(
    shared: HubControl, head: str, status: int, headers: dict[str, str], expected: type[HubError]
) -> None:
    shared.fault("status", "resolve", status=status, headers=headers, times=QUICK.tries)
    try:
        with pytest.raises(expected, match=r"lab/model.*small\.json") as caught:
            shared.client().read(REPO, head, "small.json", 10)
    finally:
        shared.clear_faults()
    assert ";" in str(caught.value)  # what to do next


def test_a_wait_that_is_too_long_is_left_to_the_caller(shared: HubControl, head: str) -> None:
    shared.fault("status", "resolve", status=429, headers={"Retry-After": "86400"})
    with pytest.raises(HubRateLimitedError, match="in 86400 seconds") as caught:
        shared.client().read(REPO, head, "small.json", 10)
    assert caught.value.wait == 86_400


def test_what_does_not_exist_is_not_found(shared: HubControl, head: str) -> None:
    client = shared.client()
    for call in (
        lambda: client.refs(Repo(id="lab/nothing", type="dataset")),
        lambda: client.commit_of(REPO, "no-such-branch"),
        lambda: client.tree(REPO, "d" * 40),
        lambda: client.read(REPO, head, "nothing.json", 10),
    ):
        with pytest.raises(HubNotFoundError):
            call()


def test_a_download_is_whole_and_goes_on_after_a_cut(shared: HubControl, head: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(BIG).hexdigest()
    got = shared.client().download(REPO, head, "big.safetensors", tmp_path, size=len(BIG), sha256=digest)
    assert got == tmp_path / "big.safetensors"
    assert got.read_bytes() == BIG


def test_a_download_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = BIG * 12
    asked: list[str | None] = []

    def behave(method: str, _path: str, span: str | None) -> Answer:
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        if method == "HEAD":
            return Answer(headers=headers, body=data)
        asked.append(span)
        if span is None:
            return Answer(headers=headers, body=data[: len(data) - 5_000], length=len(data))
        begin = int(span.removeprefix("bytes=").rstrip("-"))
        headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        return Answer(status=206, headers=headers, body=data[begin:])

    with lying_server(behave) as url:
        client = Hub(url, "t", patience=QUICK)
        digest = hashlib.sha256(data).hexdigest()
        got = client.download(REPO, COMMIT, "f", tmp_path, size=len(data), sha256=digest)
    assert got.read_bytes() == data
    assert asked[0] is None
    assert len(asked) == 2
    assert int((asked[1] or "bytes=0-")[6:-1]) > len(data) // 3


def test_a_download_of_another_size_or_digest_is_refused_before_it_begins(
    shared: HubControl, head: str, tmp_path: Path
) -> None:
    client, digest = shared.client(), hashlib.sha256(BIG).hexdigest()
    with pytest.raises(IntegrityError):
        client.download(REPO, head, "big.safetensors", tmp_path, size=len(BIG) + 1, sha256=digest)
    with pytest.raises(IntegrityError):
        client.download(REPO, head, "big.safetensors", tmp_path, size=len(BIG), sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_commit_on_a_stale_parent_is_a_conflict_and_changes_nothing(hub: HubControl) -> None:
    client = hub.client()
    client.create_repo(REPO, private=False)
    first = client.first_commit(REPO)
    client.create_branch(REPO, "ckpt", first)
    second = client.commit(
        client.prepare_commit(REPO, "ckpt", [upload("a", b"a")]), delete=[], message="a", parent=first
    )
    with pytest.raises(HubConflictError):
        client.commit(client.prepare_commit(REPO, "ckpt", [upload("b", b"b")]), delete=[], message="b", parent=first)
    assert client.commit_of(REPO, "ckpt") == second
    assert client.commit_of(REPO, "main") == first
    assert set(client.tree(REPO, second)) == {".gitattributes", "a"}


def test_branches_and_tags_that_exist_are_conflicts_and_repositories_are_not(hub: HubControl) -> None:
    client = hub.client()
    for _ in range(2):
        client.create_repo(REPO, private=False)
    first = client.first_commit(REPO)
    client.create_branch(REPO, "ckpt", first)
    client.create_tag(REPO, "v1", first, "")
    with pytest.raises(HubConflictError):
        client.create_branch(REPO, "ckpt", first)
    with pytest.raises(HubConflictError):
        client.create_tag(REPO, "v1", first, "")
    refs = client.refs(REPO)
    assert (refs.branches, refs.tags) == ({"main": first, "ckpt": first}, {"v1": first})


def test_bytes_that_are_not_the_promised_ones_are_not_committed(hub: HubControl, tmp_path: Path) -> None:
    client = hub.client()
    client.create_repo(REPO, private=False)
    big = tmp_path / "big.safetensors"
    big.write_bytes(BIG)
    with pytest.raises(IntegrityError, match="dvc repro"):
        client.prepare_commit(REPO, "main", [Upload(path="big.safetensors", source=big, sha256="0" * 64)])
    with pytest.raises(IntegrityError):
        client.prepare_commit(REPO, "main", [Upload(path="small.json", source=b"{}", sha256="0" * 64)])


def test_a_file_that_the_ignore_rules_of_a_repository_would_drop_is_an_error(hub: HubControl) -> None:
    client = hub.client()
    client.create_repo(REPO, private=False)
    first = client.commit_of(REPO, "main")
    prepared = client.prepare_commit(REPO, "main", [upload(".gitignore", b"*.log\n")])
    client.commit(prepared, delete=[], message="ignore", parent=first)
    with pytest.raises(HubAnswerError, match=r"drop 'train\.log'"):
        client.prepare_commit(REPO, "main", [upload("train.log", b"loss 1\n")])


def test_a_refused_token_is_told_on_every_way_of_writing(hub: HubControl) -> None:
    client = hub.client()
    hub.fault("status", "repos/create", status=401)
    with pytest.raises(HubAuthError, match="HF_TOKEN"):
        client.create_repo(REPO, private=False)
    client.create_repo(REPO, private=False)
    hub.fault("status", "preupload", status=403)
    with pytest.raises(HubAuthError):
        client.prepare_commit(REPO, "main", [upload("a", b"a")])
    hub.fault("status", "xet-write-token", status=401)
    with pytest.raises(HubAuthError):
        client.prepare_commit(REPO, "main", [upload("big.safetensors", BIG)])


def test_a_hub_that_ignores_ranges_costs_what_lies_before_and_gives_the_right_bytes() -> None:
    def behave(_method: str, _path: str, _range: str | None) -> Answer:
        return Answer(headers={"X-Repo-Commit": COMMIT}, body=BIG)

    with lying_server(behave) as url:
        assert Hub(url, "t", patience=QUICK).read_range(REPO, COMMIT, "f", 1_000, 1_010) == BIG[1_000:1_010]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(status=206, headers={"Content-Range": "bytes 0-9/100"}, body=b"0123456789"), HubAnswerError),
        (Answer(status=206, headers={"Content-Range": "bytes 1000-1010/9999"}, body=b"01234567890"), HubAnswerError),
        (Answer(status=206, headers={}, body=b"0123456789"), HubAnswerError),
        (Answer(status=206, headers={"Content-Range": "bytes 1000-1009/9999"}, body=b"short"), HubAnswerError),
        (Answer(status=200, body=b"shorter than where the range begins"), HubUnavailableError),
        (Answer(status=204), HubAnswerError),
        (Answer(status=200, headers={"X-Repo-Commit": "d" * 40}, body=BIG), HubAnswerError),
        (Answer(status=206, headers={"Content-Range": "bytes 1000-1009/9"}, body=b"012", length=10), HubAnswerError),
        (Answer(status=206, headers={"Content-Range": "bytes 1000-1009/9"}, length=10), HubUnavailableError),
    ],
)
def test_an_answer_that_cannot_be_the_range_is_an_error(answer: Answer, expected: type[HubError]) -> None:
    with lying_server(lambda *_: answer) as url, pytest.raises(expected):
        Hub(url, "t", patience=QUICK).read_range(REPO, COMMIT, "f", 1_000, 1_010)


def test_a_range_that_breaks_off_is_gone_on_with_where_it_stopped() -> None:
    data, asked = bytes(range(256)) * 4_000, []

    def behave(_method: str, _path: str, span: str | None) -> Answer:
        asked.append(span)
        begin, end = (int(part) for part in (span or "").removeprefix("bytes=").split("-"))
        headers = {"Content-Range": f"bytes {begin}-{end}/{len(data)}"}
        return Answer(status=206, headers=headers, body=data[begin : end + 1][:100_000], length=end + 1 - begin)

    with lying_server(behave) as url:
        hub = Hub(url, "t", patience=QUICK)
        assert hub.read_range(REPO, COMMIT, "f", 10, 900_010) == data[10:900_010]
    assert len(asked) == 9
    assert asked[1] == "bytes=100010-900009"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=206, headers={"Content-Range": "bytes 10-19/99"}, body=b"0123456789"),
        Answer(status=206, headers={"Content-Range": "bytes 10-19/100", "ETag": f'"{"e" * 64}"'}, body=b"0123456789"),
        Answer(status=200, headers={"Content-Type": "text/html"}, body=b"<html>a page that is long enough</html>"),
    ],
)
def test_a_range_of_another_file_than_the_listed_one_is_an_error(answer: Answer) -> None:
    listed = RemoteFile(bytes=100, sha256="d" * 64, git_id="c" * 40)
    with lying_server(lambda *_: answer) as url, pytest.raises(HubAnswerError):
        Hub(url, "t", patience=QUICK).read_range(REPO, COMMIT, "f", 10, 20, listed)


def test_no_more_is_taken_of_an_endless_range_than_was_asked_for() -> None:
    headers = {"Content-Range": "bytes 1000-1009/99999999"}
    with lying_server(lambda *_: Answer(status=206, headers=headers, body=BIG)) as url:
        assert Hub(url, "t", patience=QUICK).read_range(REPO, COMMIT, "f", 1_000, 1_010) == BIG[:10]


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"'])
def test_whole_reads_are_compared_with_the_digest_that_comes_along(tag: str) -> None:
    good = Answer(headers={"ETag": tag.format(git_id_of(b"right"))}, body=b"right")
    flipped = Answer(headers=good.headers, body=b"wrong")
    with lying_server(lambda *_: good) as url:
        assert Hub(url, "t", patience=QUICK).read(REPO, COMMIT, "f", 100) == b"right"
    with lying_server(lambda *_: flipped) as url, pytest.raises(HubUnavailableError, match="not the file's"):
        Hub(url, "t", patience=QUICK).read(REPO, COMMIT, "f", 100)


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"branches": 3}', b'{"branches": [{}], "tags": []}'])
def test_an_answer_that_is_no_answer_of_a_hub_is_told_so(body: bytes) -> None:
    with lying_server(lambda *_: Answer(body=body)) as url, pytest.raises(HubError, match="lab/model"):
        Hub(url, "t", patience=QUICK).refs(REPO)


@given(st.lists(st.binary(max_size=20)), st.integers(0, 100), st.integers(0, 100))
def test_taking_from_blocks_is_slicing(blocks: list[bytes], begin: int, size: int) -> None:
    assert take(blocks, begin, begin + size) == b"".join(blocks)[begin : begin + size]


@given(st.integers(0, 10**12), st.integers(1, 10**9))
def test_a_content_range_is_taken_for_no_other(begin: int, size: int) -> None:
    header = f"bytes {begin}-{begin + size - 1}/{begin + size}"
    assert is_span(header, begin, begin + size)
    assert not is_span(header, begin, begin + size + 1)
    assert not is_span(header, begin + 1, begin + size)
    assert not is_span(header.replace("bytes", "lines"), begin, begin + size)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_etags_tell_equal_bytes_from_others(data: bytes, other: bytes) -> None:
    for digest in (hashlib.sha256(data).hexdigest(), git_id_of(data)):
        assert agrees(data, [{"ETag": f'"{digest}"'}])
        assert agrees(other, [{"ETag": f'"{digest}"'}]) == (data == other)
    assert agrees(data, [{"ETag": '"an opaque tag"'}, {}])


def test_the_git_id_is_that_of_git() -> None:
    assert git_id_of(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "12"}, 12.0),
        ({"RateLimit": '"api";r=0;t=55'}, 56.0),
        ({"RateLimit": '"api"; r=0; t=55'}, 56.0),
        ({"RateLimit": '"api";r=949;t=55'}, None),  # the commit limit: these headers speak of another one
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for_is_read_from_headers(headers: dict[str, str], wait: float | None) -> None:
    assert asked_wait(headers) == wait


@given(st.integers(0, 200))
def test_pauses_grow_and_stay_bounded(attempt: int) -> None:
    patience = Patience(first_pause=0.5, longest_pause=60.0)
    assert 0.25 <= patience.pause(attempt) <= 60.0


def test_patience_ends() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise HubUnavailableError("thing", "hub", "down")

    with pytest.raises(HubUnavailableError):
        Patience(tries=3, first_pause=0.0).keep_asking(fail)
    assert len(calls) == 3


LFS_ONLY = """
import sys
from pathlib import Path
from open360.release.hub import Hub
from open360.release.publishing import publish
from open360.release.targets import open_target
hub = Hub(sys.argv[2], "t")
publish(Path(sys.argv[1]), hub, to="lab")
listing = open_target("lab/tiny", endpoint=sys.argv[2]).listing()
print(len(listing))
"""


def test_a_hub_without_xet_takes_a_release_too(tiny: Path, tmp_path: Path) -> None:
    with running_hub(tmp_path / "hub", ["--no-xet"]) as running:
        environment = {**os.environ, "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-P", "-c", LFS_ONLY, str(tiny), running.url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tiny / "manifest.json").read_text())
    assert int(done.stdout) > len(manifest["files"])


def test_a_hub_without_xet_says_what_to_set_when_the_client_wants_it(tmp_path: Path) -> None:
    with running_hub(tmp_path / "hub", ["--no-xet"]) as running:
        client = Hub(running.url, "t", patience=QUICK)
        client.create_repo(REPO, private=False)
        with pytest.raises(HubAnswerError, match="HF_HUB_DISABLE_XET=1"):
            client.prepare_commit(REPO, "main", [upload("big.safetensors", BIG)])
