"""What a stock `huggingface_hub` client must be able to do with a Hub; run as a program of its own.

    python client_driver.py write|read WORKDIR

`write` makes repositories and leaves what it expects of them in WORKDIR/state.json; `read` (in a new process, perhaps
after the Hub was started again) checks all of it. Each prints
{"client": VERSION, "results": [{"check", "ok", "error"}]}. The client is imported here, so its environment
(HF_ENDPOINT, HF_HOME, HF_HUB_DISABLE_XET) must be set before.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

REPO = "org/amber-nano"
DATA = "org/amber-nano-data"
WIDE = "org/wide"
FILES_IN_WIDE = 1200
WEIGHTS = random.Random(7).randbytes(700_000) + b"layer" * 100_000  # compresses in part

api = HfApi()


def folder_of(work: Path) -> Path:
    return work / "folder"


def write_create_repo(work: Path, state: dict[str, Any]) -> None:
    url = api.create_repo(REPO)
    assert url.repo_id == REPO, url
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    try:
        api.create_repo(REPO)
    except HfHubHTTPError as error:
        assert error.response.status_code == 409
    else:
        raise AssertionError("the repository was created twice")
    api.create_repo(DATA, repo_type="dataset", private=True)
    state["initial"] = api.list_repo_commits(REPO)[-1].commit_id
    assert api.list_repo_files(REPO, revision=state["initial"]) == [".gitattributes"]


def write_upload_folder(work: Path, state: dict[str, Any]) -> None:
    folder = folder_of(work)
    (folder / "sub").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Amber nano\n")
    (folder / "sub" / "config.json").write_text('{"layers": 2}')
    (folder / "sub" / "weights.safetensors").write_bytes(WEIGHTS)
    (folder / "sub" / "notes.tmp").write_text("not to be published")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "ünïcode & space+plus%.txt").write_text("a name to be quoted")
    (folder / ".gitignore").write_text("*.tmp\n")
    info = api.upload_folder(repo_id=REPO, folder_path=folder, commit_message="Add all", commit_description="More")
    state["first"] = info.oid
    names = set(api.list_repo_files(REPO))
    assert "sub/weights.safetensors" in names and "empty.txt" in names, names
    assert "ünïcode & space+plus%.txt" in names, names
    assert "sub/notes.tmp" not in names, "an ignored file was published"


def write_the_same_again_makes_no_commit(work: Path, state: dict[str, Any]) -> None:
    # With a file that is ignored the client makes an empty commit, here as on the real Hub.
    (folder_of(work) / "sub" / "notes.tmp").unlink()
    info = api.upload_folder(repo_id=REPO, folder_path=folder_of(work))
    assert info.oid == state["first"], info


def write_branch_from_initial_commit(work: Path, state: dict[str, Any]) -> None:
    api.create_branch(REPO, branch="ckpt/000", revision=state["initial"])
    api.create_branch(REPO, branch="ckpt/000", revision=state["initial"], exist_ok=True)
    assert api.list_repo_files(REPO, revision="ckpt/000") == [".gitattributes"]


def write_commit_on_branch(work: Path, state: dict[str, Any]) -> None:
    operations = [
        CommitOperationAdd("model.safetensors", WEIGHTS[:400_000]),
        CommitOperationAdd("old/a.txt", b"a"),
        CommitOperationAdd("old/b.txt", b"b"),
    ]
    api.preupload_lfs_files(REPO, additions=operations, revision="ckpt/000", free_memory=False)
    info = api.create_commit(
        REPO, operations, commit_message="Step 0", revision="ckpt/000", parent_commit=state["initial"]
    )
    state["step_0"] = info.oid


def write_stale_parent_is_refused(work: Path, state: dict[str, Any]) -> None:
    operation = CommitOperationAdd("late.txt", b"late")
    try:
        api.create_commit(REPO, [operation], commit_message="Late", revision="ckpt/000", parent_commit=state["initial"])
    except HfHubHTTPError as error:
        assert error.response.status_code == 412, error
        assert "A commit has happened since" in str(error), error
    else:
        raise AssertionError("a commit on a stale parent was accepted")


def write_copy_and_delete(work: Path, state: dict[str, Any]) -> None:
    operations = [
        CommitOperationCopy("model.safetensors", "copies/model.safetensors"),
        CommitOperationCopy("old/a.txt", "copies/a.txt"),
        CommitOperationDelete("old/"),
    ]
    state["copied"] = api.create_commit(REPO, operations, commit_message="Move", revision="ckpt/000").oid
    names = sorted(api.list_repo_files(REPO, revision="ckpt/000"))
    assert names == [".gitattributes", "copies/a.txt", "copies/model.safetensors", "model.safetensors"], names


def write_tags(work: Path, state: dict[str, Any]) -> None:
    api.create_tag(REPO, tag="v1.0.0", tag_message="The first", revision=state["first"])
    api.create_tag(REPO, tag="v1.0.0", revision=state["first"], exist_ok=True)
    api.create_tag(REPO, tag="gone", revision="ckpt/000")
    api.delete_tag(REPO, tag="gone")
    api.create_branch(REPO, branch="gone")
    api.delete_branch(REPO, branch="gone")


def write_dataset(work: Path, state: dict[str, Any]) -> None:
    content = b"\x00chunk" * 50_000
    state["data"] = api.upload_file(
        path_or_fileobj=content, path_in_repo="chunks/chunk_000.parquet", repo_id=DATA, repo_type="dataset"
    ).oid
    assert api.dataset_info(DATA).private


def write_many_files(work: Path, state: dict[str, Any]) -> None:
    api.create_repo(WIDE)
    operations = [CommitOperationAdd(f"many/{i:04d}.txt", f"{i}".encode()) for i in range(FILES_IN_WIDE)]
    state["wide"] = api.create_commit(WIDE, operations, commit_message="Many").oid


def write_squash(work: Path, state: dict[str, Any]) -> None:
    api.create_branch(WIDE, branch="squashed")
    api.super_squash_history(WIDE, branch="squashed", commit_message="One")
    assert [commit.title for commit in api.list_repo_commits(WIDE, revision="squashed")] == ["One"]
    assert len(api.list_repo_files(WIDE, revision="squashed")) == FILES_IN_WIDE + 1


def write_delete_repo(work: Path, state: dict[str, Any]) -> None:
    api.create_repo("org/mistake")
    api.delete_repo("org/mistake")
    assert not api.repo_exists("org/mistake")


def read_refs(work: Path, state: dict[str, Any]) -> None:
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {
        "main": state["first"],
        "ckpt/000": state["copied"],
    }, refs
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1.0.0": state["first"]}, refs


def read_history(work: Path, state: dict[str, Any]) -> None:
    history = api.list_repo_commits(REPO, revision="ckpt/000")
    assert [commit.commit_id for commit in history] == [state["copied"], state["step_0"], state["initial"]], history
    assert [commit.title for commit in history] == ["Move", "Step 0", "initial commit"], history
    assert api.list_repo_commits(REPO)[0].message == "More"


def read_tree(work: Path, state: dict[str, Any]) -> None:
    entries = {entry.path: entry for entry in api.list_repo_tree(REPO, recursive=True, expand=True, revision="v1.0.0")}
    weights: Any = entries["sub/weights.safetensors"]
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest(), weights
    assert weights.size == len(WEIGHTS), weights
    assert weights.last_commit.oid == state["first"], weights
    config: Any = entries["sub/config.json"]
    assert config.blob_id == git_blob_id(b'{"layers": 2}'), config
    assert [entry.path for entry in api.list_repo_tree(REPO, "sub", revision="v1.0.0")] == [
        "sub/config.json",
        "sub/weights.safetensors",
    ]


def read_tree_in_pages(work: Path, state: dict[str, Any]) -> None:
    paths = [entry.path for entry in api.list_repo_tree(WIDE, "many", revision=state["wide"])]
    assert paths == [f"many/{i:04d}.txt" for i in range(FILES_IN_WIDE)], len(paths)


def read_paths_info(work: Path, state: dict[str, Any]) -> None:
    found = api.get_paths_info(REPO, ["sub", "sub/config.json", "nothing"], revision="v1.0.0")
    assert sorted(entry.path for entry in found) == ["sub", "sub/config.json"], found


def read_repo_info(work: Path, state: dict[str, Any]) -> None:
    info = api.repo_info(REPO, revision="v1.0.0", files_metadata=True)
    assert info.sha == state["first"], info
    by_name = {file.rfilename: file for file in info.siblings or []}
    assert by_name["sub/weights.safetensors"].lfs["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert by_name["empty.txt"].size == 0
    assert api.repo_info(DATA, repo_type="dataset").sha == state["data"]


def read_existence(work: Path, state: dict[str, Any]) -> None:
    assert api.repo_exists(REPO) and not api.repo_exists("org/nothing") and not api.repo_exists("gpt2")
    assert api.revision_exists(REPO, "ckpt/000") and not api.revision_exists(REPO, "ckpt/999")
    assert api.file_exists(REPO, "README.md") and not api.file_exists(REPO, "nothing.md")
    try:
        hf_hub_download(REPO, "nothing.md")
    except EntryNotFoundError:
        pass
    else:
        raise AssertionError("a missing file was downloaded")


def read_download(work: Path, state: dict[str, Any]) -> None:
    path = Path(hf_hub_download(REPO, "sub/weights.safetensors", revision="v1.0.0"))
    assert path.read_bytes() == WEIGHTS
    path = Path(hf_hub_download(REPO, "ünïcode & space+plus%.txt"))
    assert path.read_text() == "a name to be quoted"
    path = Path(hf_hub_download(REPO, "copies/model.safetensors", revision="ckpt/000"))
    assert path.read_bytes() == WEIGHTS[:400_000]


def read_snapshots(work: Path, state: dict[str, Any]) -> None:
    some = Path(snapshot_download(REPO, revision="v1.0.0", allow_patterns=["*.json"], cache_dir=work / "cache"))
    assert sorted(path.name for path in some.rglob("*") if path.is_file()) == ["config.json"]
    target = work / f"snapshot-{time.time_ns()}"
    snapshot_download(REPO, revision=state["first"], local_dir=target)
    assert (target / "sub/weights.safetensors").read_bytes() == WEIGHTS
    assert (target / "empty.txt").read_bytes() == b""
    if hasattr(api, "verify_repo_checksums"):
        verdict = api.verify_repo_checksums(REPO, revision=state["first"], local_dir=target)
        assert not verdict.mismatches and not verdict.missing_paths, verdict


def read_file_system(work: Path, state: dict[str, Any]) -> None:
    system = HfFileSystem()
    path = f"{REPO}@v1.0.0/sub/weights.safetensors"
    with system.open(path, "rb", block_size=4096) as file:
        file.seek(699_990)
        assert file.read(30) == WEIGHTS[699_990:700_020]
    assert system.cat_file(path, start=10, end=99) == WEIGHTS[10:99]
    assert system.cat_file(path, start=-9) == WEIGHTS[-9:]
    assert [name.rpartition("/")[2] for name in system.glob(f"datasets/{DATA}/chunks/*.parquet")] == [
        "chunk_000.parquet"
    ]
    assert system.info(path)["size"] == len(WEIGHTS)


def read_xet_is_used_when_it_can_be(work: Path, state: dict[str, Any]) -> None:
    entry: Any = next(iter(api.get_paths_info(REPO, ["sub/weights.safetensors"])))
    disabled = os.environ.get("HF_HUB_DISABLE_XET") == "1"
    assert (entry.xet_hash is None) == disabled, (
        f"xet_hash is {entry.xet_hash!r} with HF_HUB_DISABLE_XET={os.environ.get('HF_HUB_DISABLE_XET')}: "
        "the client no longer speaks the Xet protocol that the local Hub offers (look at hf_xet's release notes)"
    )


def git_blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def main(phase: str, work: Path) -> None:
    state_path = work / "state.json"
    state: dict[str, Any] = json.loads(state_path.read_text()) if state_path.exists() else {}
    results = []
    for name, function in list(globals().items()):
        if not name.startswith(f"{phase}_"):
            continue
        try:
            function(work, state)
            results.append({"check": name, "ok": True, "error": ""})
        except Exception:  # noqa: BLE001  (every failure of the client is a result)
            results.append({"check": name, "ok": False, "error": traceback.format_exc()})
    state_path.write_text(json.dumps(state))
    sys.stdout.write(json.dumps({"client": huggingface_hub.__version__, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
