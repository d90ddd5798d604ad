"""What the Hub refuses, and how: wrong bytes, missing objects, stale parents, bad names, too much."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

MISSING = "ab" * 32


def lfs_file(path: str, sha256: str, size: int) -> dict[str, Any]:
    return {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": sha256, "size": size}}


def small_file(path: str, content: bytes) -> dict[str, Any]:
    encoded = base64.b64encode(content).decode()
    return {"key": "file", "value": {"path": path, "content": encoded, "encoding": "base64"}}


def announce(http: Any, repo: str, sha256: str, size: int) -> dict[str, Any]:
    body = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [{"oid": sha256, "size": size}]}
    answer: dict[str, Any] = http("POST", f"/{repo}.git/info/lfs/objects/batch", json_body=body).json()["objects"][0]
    return answer


def test_bytes_that_are_not_the_announced_ones_are_refused(http: Any, repo: str) -> None:
    sha256 = hashlib.sha256(b"announced").hexdigest()
    url = announce(http, repo, sha256, 9)["actions"]["upload"]["href"]
    answer = http("PUT", url, body=b"different")
    assert answer.status == 422
    assert sha256 in answer.json()["error"] and hashlib.sha256(b"different").hexdigest() in answer.json()["error"]
    assert http.commit(repo, lfs_file("x.bin", sha256, 9)).status == 400
    assert http("PUT", url, body=b"announced").status == 200
    assert http.commit(repo, lfs_file("x.bin", sha256, 9)).status == 200


def test_more_bytes_than_announced_are_refused(http: Any, repo: str) -> None:
    sha256 = hashlib.sha256(b"too short").hexdigest()
    url = announce(http, repo, sha256, 9)["actions"]["upload"]["href"]
    assert http("PUT", url, body=b"too short and more").status == 413
    assert http.commit(repo, lfs_file("x.bin", sha256, 9)).status == 400


def test_parts_that_do_not_make_the_announced_object_are_refused(http: Any, repo: str) -> None:
    content = bytes(range(256)) * 1000
    upload = announce(http, repo, hashlib.sha256(content).hexdigest(), len(content))["actions"]["upload"]
    size = int(upload["header"]["chunk_size"])
    urls = [upload["header"][str(number)] for number in range(1, -(-len(content) // size) + 1)]

    def send(pieces: list[bytes]) -> Any:
        answers = [http("PUT", url, body=piece) for url, piece in zip(urls, pieces, strict=True)]
        parts = [{"partNumber": n, "etag": answer.headers["etag"]} for n, answer in enumerate(answers, start=1)]
        return http("POST", upload["href"], json_body={"oid": "", "parts": parts})

    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert len(pieces) == 3
    assert send([pieces[0], b"x" * size, pieces[2]]).status == 422
    assert http("POST", upload["href"], json_body={"oid": "", "parts": []}).status == 400
    assert send(pieces).status == 200


def test_a_commit_that_names_an_object_that_was_never_sent_is_refused(http: Any, repo: str) -> None:
    before = http("GET", f"/api/models/{repo}").json()["sha"]
    answer = http.commit(repo, small_file("a.txt", b"a"), lfs_file("x.bin", MISSING, 5))
    assert answer.status == 400
    assert "LFS pointer pointed to a file that does not exist: x.bin" in answer.headers["x-error-message"]
    assert http("GET", f"/api/models/{repo}").json()["sha"] == before, "a part of a refused commit landed"


def test_a_size_that_is_not_the_objects_is_refused(http: Any, repo: str) -> None:
    sha256 = hashlib.sha256(b"sized").hexdigest()
    http("PUT", announce(http, repo, sha256, 5)["actions"]["upload"]["href"], body=b"sized")
    assert http.commit(repo, lfs_file("x.bin", sha256, 6)).status == 400


WRONG_SHA256 = """
import hf_xet, sys
session = hf_xet.XetSession()
try:
    with session.new_upload_commit(
        token_refresh_url=sys.argv[1], token_refresh_headers={"authorization": "Bearer any"}
    ) as commit:
        commit.start_upload_bytes(b"the true bytes" * 1000, sha256="ab" * 32)
except Exception as error:
    print("refused:", error)
"""


def test_a_false_sha256_in_a_xet_upload_is_refused(http: Any, repo: str, run_script: Callable[..., str]) -> None:
    printed = run_script(http.url, WRONG_SHA256, f"{http.url}/api/models/{repo}/xet-write-token/main")
    assert printed.startswith("refused:") and "400" in printed, printed
    assert http.commit(repo, lfs_file("x.bin", MISSING, 14_000)).status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/repos/create"),
        ("DELETE", "/api/repos/delete"),
        ("POST", "/api/models/{repo}/commit/main"),
        ("POST", "/api/models/{repo}/preupload/main"),
        ("POST", "/api/models/{repo}/branch/b"),
        ("POST", "/api/models/{repo}/tag/main"),
        ("DELETE", "/api/models/{repo}/branch/b"),
        ("GET", "/api/models/{repo}/xet-write-token/main"),
        ("POST", "/{repo}.git/info/lfs/objects/batch"),
        ("GET", "/api/whoami-v2"),
    ],
)
def test_nobody_writes_without_a_token(method: str, path: str, http: Any) -> None:
    assert http(method, path.format(repo="org/none"), token=None).status == 401


def test_reading_needs_no_token(http: Any, repo: str) -> None:
    assert http("GET", f"/api/models/{repo}", token=None).status == 200
    assert http("GET", f"/{repo}/resolve/main/.gitattributes", token=None).status == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/models/org/nothing", "RepoNotFound"),
        ("/api/models/gpt2", "RepoNotFound"),
        ("/api/models/org/..%2F..%2Fetc", "RepoNotFound"),
        ("/api/models/{repo}/revision/nothing", "RevisionNotFound"),
        ("/api/models/{repo}/tree/nothing", "RevisionNotFound"),
        ("/api/models/{repo}/tree/main/nothing", "EntryNotFound"),
        ("/{repo}/resolve/main/nothing", "EntryNotFound"),
        ("/{repo}/resolve/nothing/.gitattributes", "RevisionNotFound"),
        ("/{repo}/resolve/main/..%2F..%2Frepository.json", "EntryNotFound"),
    ],
)
def test_what_is_missing_is_told_by_its_code(path: str, code: str, http: Any, repo: str) -> None:
    answer = http("GET", path.format(repo=repo))
    assert (answer.status, answer.headers.get("x-error-code")) == (404, code)


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../b", "a//b", "", ".git/config", "a\\b", "a\nb", "x" * 2000])
def test_a_path_that_leaves_the_repository_is_refused(path: str, http: Any, repo: str) -> None:
    assert http.commit(repo, small_file(path, b"x")).status == 400


@pytest.mark.parametrize("name", ["..", "a..b", "-x", ".hidden", "a b", "a--b", "x.git", "x" * 97, "", "a/b/c"])
def test_a_name_that_the_hub_refuses_is_refused(name: str, http: Any) -> None:
    assert http("POST", "/api/repos/create", json_body={"name": name, "organization": "org"}).status == 400


def test_a_file_cannot_be_a_folder_too(http: Any, repo: str) -> None:
    assert http.commit(repo, small_file("a", b"1"), small_file("a/b", b"2")).status == 400


def test_only_what_is_there_can_be_deleted(http: Any, repo: str) -> None:
    assert http.commit(repo, {"key": "deletedFile", "value": {"path": "none"}}).status == 404
    assert http.commit(repo, {"key": "deletedFolder", "value": {"path": "none"}}).status == 404


def test_a_stale_parent_is_refused_in_the_hubs_words(http: Any, repo: str) -> None:
    first = http("GET", f"/api/models/{repo}").json()["sha"]
    assert http.commit(repo, small_file("a", b"1"), parentCommit=first).status == 200
    answer = http.commit(repo, small_file("b", b"2"), parentCommit=first)
    assert answer.status == 412
    assert answer.json()["error"] == "A commit has happened since. Please refresh and try again."


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"key": "file", "value": {}}', b'{"key": "header", "value": {}}'])
def test_a_malformed_commit_is_refused(body: bytes, http: Any, repo: str) -> None:
    assert http("POST", f"/api/models/{repo}/commit/main", body=body).status == 400


def test_a_body_larger_than_any_client_sends_is_refused(http: Any, repo: str) -> None:
    assert http("POST", f"/api/models/{repo}/branch/b", body=b" " * (17 << 20)).status == 413


def test_front_matter_that_cannot_be_read_is_refused_with_its_place(http: Any) -> None:
    def validate(card: str) -> Any:
        return http("POST", "/api/validate-yaml", json_body={"content": card, "repoType": "model"})

    assert validate("---\nlicense: mit\n---\n# x").status == 200
    assert validate("# no front matter").status == 200
    answer = validate("---\nlicense: [mit\n---\n# x")
    assert answer.status == 400
    assert "README.md:3:1" in answer.json()["errors"][0]["message"]
    assert validate("---\n- a list\n---\n").status == 400
