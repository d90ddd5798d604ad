"""What is on the disk survives: writers at once, restarts, and kills at any moment."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from open360.release.local_hub import ServerError, running_hub, server
from open360.release.local_hub.names import RepoId
from open360.release.local_hub.refusals import RefusalError
from open360.release.local_hub.repositories import FileEntry, RepositoryStore

REPO = RepoId(kind="models", namespace="org", name="name")
ENTRY = FileEntry(blob_id="e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", size=0)


def text_file(path: str, content: str) -> dict[str, Any]:
    return {"key": "file", "value": {"path": path, "content": content, "encoding": "utf-8"}}


def test_writers_in_several_stores_lose_nothing(tmp_path: Path) -> None:
    RepositoryStore(tmp_path / "repos").create(REPO, private=False, first_files={})

    def add(number: int) -> None:
        store = RepositoryStore(tmp_path / "repos")
        name = f"{number}.txt"
        store.commit(REPO, "main", title=name, message="", edit=lambda head: {**head.files, name: ENTRY})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    store = RepositoryStore(tmp_path / "repos")
    head = store.read_commit(REPO, store.get(REPO).branches["main"])
    assert sorted(head.files) == sorted(f"{number}.txt" for number in range(40))
    assert len(list(store.history(REPO, head.id))) == 41


def test_two_servers_share_a_folder(tmp_path: Path, plain_client: Callable[[str], Any]) -> None:
    with running_hub(tmp_path) as first, running_hub(tmp_path) as second:
        one, two = plain_client(first.url), plain_client(second.url)
        assert one("POST", "/api/repos/create", json_body={"name": "org/r"}).status == 200
        assert two.commit("org/r", text_file("a", "1")).status == 200
        assert one.commit("org/r", text_file("b", "2")).status == 200
        assert two("GET", "/org/r/resolve/main/b").body == b"2"
        assert len(one("GET", "/api/models/org/r/commits/main").json()) == 3


def test_a_deleted_repository_is_gone_and_can_be_made_again(tmp_path: Path) -> None:
    store = RepositoryStore(tmp_path / "repos")
    store.create(REPO, private=False, first_files={"a": ENTRY})
    store.delete(REPO)
    assert store.all() == []
    with pytest.raises(RefusalError, match="Repository not found"):
        store.get(REPO)
    store.create(REPO, private=False, first_files={})
    assert store.all() == [REPO]


def test_a_folder_of_a_newer_format_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("999\n")
    with pytest.raises(ServerError, match="did not start"), running_hub(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["format"]


def test_a_taken_port_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with running_hub(tmp_path / "a") as hub:
        port = int(hub.url.rpartition(":")[2])
        with pytest.raises(ServerError, match="choose another --port"):
            server.serve(tmp_path / "b", "127.0.0.1", port)


def test_the_server_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        hub.process.send_signal(signal.SIGINT)
        assert hub.process.wait(20) in (0, -signal.SIGINT)


def assert_readable(directory: Path, client: Any) -> int:
    """Everything that the Hub shows can be read to its end; return the number of commits."""
    tree = client("GET", "/api/models/org/r/tree/main?recursive=true").json()
    for entry in tree:
        body = client("GET", f"/org/r/resolve/main/{entry['path']}").body
        assert len(body) == entry["size"], entry
    for path in directory.rglob("*.json"):
        # A folder that a kill left half made keeps its hidden name: nobody reads it.
        is_hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        assert is_hidden or json.loads(path.read_bytes()) is not None, path
    return len(client("GET", "/api/models/org/r/commits/main").json())


WRITER = """
import os, sys
from huggingface_hub import CommitOperationAdd, HfApi
api = HfApi()
api.create_repo("org/r", exist_ok=True)
for number in range(1000):
    files = [CommitOperationAdd(f"{sys.argv[1]}-{number}-{i}.bin", os.urandom(200_000)) for i in range(3)]
    files.append(CommitOperationAdd(f"{sys.argv[1]}-{number}.txt", os.urandom(9).hex().encode()))
    print(api.create_commit("org/r", files, commit_message=str(number)).oid, flush=True)
"""


@pytest.mark.long
@pytest.mark.parametrize("xet", [True, False])
def test_a_kill_during_uploads_leaves_a_store_that_can_be_read(
    xet: bool, tmp_path: Path, plain_client: Callable[[str], Any], client_environment: Callable[..., dict[str, str]]
) -> None:
    directory, seed = tmp_path / "hub", random.Random(11)
    acknowledged: list[str] = []
    for round_number in range(6):
        with running_hub(directory) as hub:
            command = [sys.executable, "-P", "-c", WRITER, str(round_number)]
            writer = subprocess.Popen(
                command,
                env=client_environment(hub.url, xet=xet),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert writer.stdout is not None
            # Killed at a random moment after the second commit that this round has made.
            acknowledged += [writer.stdout.readline().strip() for _ in range(2)]
            killer = threading.Timer(seed.uniform(0, 0.3), hub.kill)
            killer.start()
            acknowledged += [line.strip() for line in iter_until_killed(writer, hub)]
        with running_hub(directory) as hub:
            client = plain_client(hub.url)
            history = [commit["id"] for commit in client("GET", "/api/models/org/r/commits/main").json()]
            assert set(acknowledged) <= set(history), "an acknowledged commit is lost"
            assert_readable(directory, client)
            assert client.commit("org/r", text_file("after.txt", str(round_number))).status == 200


def iter_until_killed(writer: subprocess.Popen[str], hub: Any) -> list[str]:
    hub.process.wait()
    writer.kill()
    rest, _ = writer.communicate()
    return [line for line in rest.splitlines() if len(line) == 40]


@pytest.mark.long
@pytest.mark.parametrize("options", [[], ["--no-xet"]])
def test_memory_does_not_grow_with_the_size_of_a_file(
    options: list[str], tmp_path: Path, run_script: Callable[..., str], plain_client: Callable[[str], Any]
) -> None:
    size = 600 << 20
    path = tmp_path / "big.bin"
    block = random.Random(5).randbytes(1 << 20)
    with path.open("wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(4, "big") + block[4:])
    upload = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("org/big")
api.upload_file(path_or_fileobj=sys.argv[1], path_in_repo="big.bin", repo_id="org/big")
"""
    with running_hub(tmp_path / "hub", options) as hub:
        run_script(hub.url, upload, str(path), xet=not options)
        with urllib.request.urlopen(f"{hub.url}/org/big/resolve/main/big.bin") as answer:
            assert sum(len(block) for block in iter(lambda: answer.read(1 << 20), b"")) == size
        status = Path(f"/proc/{hub.process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 300 << 10, f"peak memory {peak} KiB"
