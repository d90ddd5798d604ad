"""What a test can learn of the traffic, and the faults that it can order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from http.client import HTTPException, IncompleteRead
from typing import Any
from urllib.error import URLError

import pytest

CONTENT = random.Random(3).randbytes(300_000) + bytes(100_000)

UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().upload_file(path_or_fileobj=sys.argv[2], path_in_repo="w.bin", repo_id=sys.argv[1])
"""


@pytest.fixture
def stored(http: Any, repo: str, run_script: Callable[..., str], tmp_path: Any) -> str:
    """A repository with CONTENT as `w.bin`, sent by Xet."""
    (tmp_path / "w.bin").write_bytes(CONTENT)
    run_script(http.url, UPLOAD, repo, str(tmp_path / "w.bin"))
    http("DELETE", "/.open360/stats")
    return repo


def test_every_request_is_counted_with_its_bytes_and_range(http: Any, stored: str) -> None:
    path = f"/{stored}/resolve/main/w.bin"
    for _ in range(2):
        assert http("GET", path, headers={"Range": "bytes=1000-1999"}).status == 206
    http("HEAD", path)
    stats = http.stats()
    assert (stats["requests"], stats["bytes_out"]) == (3, 2000)
    ranged = next(entry for entry in stats["by"] if entry["method"] == "GET")
    assert ranged == {
        "method": "GET", "route": "resolve_file", "path": path, "status": 206, "range": "bytes=1000-1999",
        "count": 2, "bytes_in": 0, "bytes_out": 2000,
    }  # fmt: skip
    assert http("DELETE", "/.open360/stats").status == 204
    assert http.stats()["requests"] == 0


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (0, 400_000), (65_535, 65_537), (299_990, 300_010), (399_999, 400_000)]
)
def test_plain_http_reads_any_range_of_a_file_that_came_by_xet(start: int, end: int, http: Any, stored: str) -> None:
    answer = http("GET", f"/{stored}/resolve/main/w.bin", headers={"Range": f"bytes={start}-{end - 1}"})
    assert (answer.status, answer.body) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


def test_the_headers_of_a_large_file_say_what_it_is(http: Any, stored: str) -> None:
    head = http("HEAD", f"/{stored}/resolve/main/w.bin")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert head.headers["etag"] == head.headers["x-linked-etag"] == f'"{sha256}"'
    assert head.headers["content-length"] == head.headers["x-linked-size"] == str(len(CONTENT))
    assert head.headers["x-repo-commit"] == http("GET", f"/api/models/{stored}").json()["sha"]
    assert len(head.headers["x-xet-hash"]) == 64
    assert http("GET", f"/{stored}/resolve/main/w.bin", headers={"Range": "bytes=400000-"}).status == 416


XET_RANGE = """
import hf_xet, sys
session = hf_xet.XetSession()
group = session.new_download_stream_group(token_refresh_url=sys.argv[1], token_refresh_headers={})
file = hf_xet.XetFileInfo(sys.argv[2], int(sys.argv[3]))
print(b"".join(group.download_stream(file, start=70_000, end=70_100)).hex())
"""


def test_xet_fetches_only_the_chunks_that_a_range_needs(http: Any, stored: str, run_script: Callable[..., str]) -> None:
    xet_hash = http("HEAD", f"/{stored}/resolve/main/w.bin").headers["x-xet-hash"]
    http("DELETE", "/.open360/stats")
    token = f"{http.url}/api/models/{stored}/xet-read-token/main"
    assert run_script(http.url, XET_RANGE, token, xet_hash, str(len(CONTENT))).strip() == CONTENT[70_000:70_100].hex()
    fetched = [entry for entry in http.stats()["by"] if entry["route"] == "get_xorb"]
    assert len(fetched) == 1
    assert fetched[0]["bytes_out"] <= 2 * (128 * 1024 + 8), "more than the two chunks that a range may touch"


def order(http: Any, action: str, **more: Any) -> None:
    match = {"method": more.pop("method", None), "path_regex": more.pop("path_regex", "/api/models/")}
    answer = http("POST", "/.open360/faults", json_body={"match": match, "action": action, **more})
    assert answer.status == 200, answer.body


def test_an_ordered_status_is_answered_as_often_as_ordered(http: Any, repo: str) -> None:
    order(http, "status", status=429, headers={"Retry-After": "1"}, times=2)
    answers = [http("GET", f"/api/models/{repo}") for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "1"


def test_only_what_matches_meets_a_fault(http: Any, repo: str) -> None:
    order(http, "status", method="POST", path_regex="/commit/", status=500)
    assert http("GET", f"/api/models/{repo}").status == 200
    assert http.commit(repo).status == 500
    assert http("GET", "/.open360/faults").json()["waiting"] == []


def test_a_lost_answer_leaves_the_change_done(http: Any, repo: str) -> None:
    order(http, "lose_answer", method="POST", path_regex="/commit/")
    with pytest.raises((URLError, HTTPException)):
        http.commit(repo, {"key": "file", "value": {"path": "a.txt", "content": "a", "encoding": "utf-8"}})
    assert http("GET", f"/{repo}/resolve/main/a.txt").body == b"a"


def test_a_cut_request_leaves_nothing_done(http: Any, repo: str) -> None:
    order(http, "cut", method="POST", path_regex="/commit/", after_bytes=50)
    before = http("GET", f"/api/models/{repo}").json()["sha"]
    with pytest.raises((URLError, HTTPException)):
        http.commit(repo, {"key": "file", "value": {"path": "a.txt", "content": "a" * 1000, "encoding": "utf-8"}})
    assert http("GET", f"/api/models/{repo}").json()["sha"] == before


def test_a_cut_answer_ends_after_the_ordered_bytes(http: Any, stored: str) -> None:
    order(http, "cut", path_regex="/resolve/", after_bytes=1234)
    with pytest.raises(IncompleteRead) as caught:
        http("GET", f"/{stored}/resolve/main/w.bin")
    assert caught.value.partial == CONTENT[:1234]
    assert http("GET", f"/{stored}/resolve/main/w.bin").body == CONTENT


def test_a_delayed_request_is_answered_all_the_same(http: Any, repo: str) -> None:
    order(http, "delay", seconds=0.01)
    assert http("GET", f"/api/models/{repo}").status == 200


@pytest.mark.parametrize("fault", [{}, {"action": "explode"}, {"action": "cut", "match": {"path_regex": "("}}])
def test_a_fault_that_does_not_exist_is_refused(fault: dict[str, Any], http: Any) -> None:
    assert http("POST", "/.open360/faults", json_body=fault).status == 400


def test_faults_are_off_unless_allowed(start_hub: Callable[..., Any], plain_client: Callable[[str], Any]) -> None:
    with start_hub() as hub:
        client = plain_client(hub.url)
        assert client("POST", "/.open360/faults", json_body={"action": "status"}).status == 404
        assert client("GET", "/.open360/stats").status == 200


def test_a_person_sees_repositories_and_files(http: Any, repo: str) -> None:
    page = http("GET", "/").body.decode()
    assert repo in page and f"/{repo}/tree/main" in page
    assert ".gitattributes" in http("GET", f"/{repo}/tree/main").body.decode()
