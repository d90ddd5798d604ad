"""The stock client, unchanged, against the local Hub: all it can do, over every transfer, and after a restart."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
OLDEST = "1.31"

Driver = Callable[..., list[dict[str, Any]]]

TRANSFERS = {
    "xet": {"options": [], "xet": True},
    "lfs": {"options": ["--no-xet"], "xet": False},
    "multipart": {"options": ["--part-size", "150000"], "xet": False},
}


def assert_all_pass(results: list[dict[str, Any]]) -> None:
    assert len(results) > 5
    failed = [f"{result['check']}:\n{result['error']}" for result in results if not result["ok"]]
    assert not failed, "\n".join(failed)


def drive(start_hub: Callable[..., Any], run_driver: Driver, transfer: str, **client: str) -> None:
    settings: dict[str, Any] = TRANSFERS[transfer]
    with start_hub(*settings["options"]) as hub:
        assert_all_pass(run_driver(hub.url, "write", **client, xet=settings["xet"]))
    with start_hub(*settings["options"]) as hub:
        assert_all_pass(run_driver(hub.url, "read", **client, xet=settings["xet"]))


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_newest_client_can_do_all_it_does_with_the_real_hub(
    transfer: str, start_hub: Callable[..., Any], run_driver: Driver
) -> None:
    drive(start_hub, run_driver, transfer)


@pytest.fixture(scope="session")
def oldest_client() -> str:
    """The interpreter of a virtual environment with the oldest supported client, made once."""
    folder = ROOT / ".cache" / "hub-clients" / OLDEST
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"huggingface_hub=={OLDEST}.*", "hf-xet>=1.6,<2"]
        subprocess.run(install, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
        (folder / "ready").touch()
    return str(python)


@pytest.mark.long
@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_oldest_supported_client_can_do_the_same(
    transfer: str, start_hub: Callable[..., Any], run_driver: Driver, oldest_client: str
) -> None:
    drive(start_hub, run_driver, transfer, python=oldest_client, version=OLDEST)


def test_what_was_written_with_xet_can_be_read_without_it(start_hub: Callable[..., Any], run_driver: Driver) -> None:
    with start_hub() as hub:
        assert_all_pass(run_driver(hub.url, "write", xet=True))
        assert_all_pass(run_driver(hub.url, "read", xet=True))
    with start_hub("--no-xet") as hub:
        results = run_driver(hub.url, "read", xet=False)
    assert_all_pass(results)


UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("org/cli", repo_type="dataset")
api.upload_file(path_or_fileobj=b"x" * 100, path_in_repo="a/one.parquet", repo_id="org/cli", repo_type="dataset")
api.upload_file(path_or_fileobj=b"text", path_in_repo="two.txt", repo_id="org/cli", repo_type="dataset")
api.create_tag("org/cli", tag="v1", repo_type="dataset")
"""

DOWNLOAD = """
import sys
from huggingface_hub.cli.hf import main
main()
"""


def test_the_command_line_of_the_client_downloads(
    start_hub: Callable[..., Any], run_script: Callable[..., str], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    with start_hub() as hub:
        run_script(hub.url, UPLOAD)
        arguments = ["download", "org/cli", "--repo-type", "dataset", "--revision", "v1", "--include", "*.parquet"]
        run_script(hub.url, DOWNLOAD, *arguments, "--local-dir", str(target))
    assert (target / "a/one.parquet").read_bytes() == b"x" * 100
    assert not (target / "two.txt").exists()


DATASETS = """
import pyarrow as pa, pyarrow.parquet as pq, sys
from huggingface_hub import HfApi
from datasets import load_dataset
table = pa.table({"row": pa.array(range(100), pa.int64()), "token_ids": [[i, i + 1] for i in range(100)]})
pq.write_table(table, sys.argv[1])
api = HfApi()
api.create_repo("org/rows", repo_type="dataset")
api.upload_file(path_or_fileobj=sys.argv[1], path_in_repo="chunks/c.parquet", repo_id="org/rows", repo_type="dataset")
api.create_tag("org/rows", tag="v1", repo_type="dataset")
whole = load_dataset("org/rows", revision="v1", split="train")
stream = load_dataset("org/rows", revision="v1", split="train", streaming=True)
print(len(whole), whole[7]["token_ids"], sum(row["row"] for row in stream))
"""


@pytest.mark.long
def test_the_datasets_library_loads_and_streams_a_tag(
    start_hub: Callable[..., Any], run_script: Callable[..., str], tmp_path: Path
) -> None:
    """The stream is read to its end: leaving one early aborts the interpreter at exit, in most runs."""
    with start_hub() as hub:
        assert run_script(hub.url, DATASETS, str(tmp_path / "c.parquet")) == "100 [7, 8] 4950\n"


SEND = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("org/r", exist_ok=True)
for number in range(2):
    content = bytes(range(256)) * 4000 + bytes([number])
    api.upload_file(path_or_fileobj=content, path_in_repo=f"{number}.bin", repo_id="org/r")
"""


def test_a_client_that_knew_another_hub_at_the_same_address_sends_everything(
    start_hub: Callable[..., Any], run_script: Callable[..., str], tmp_path: Path
) -> None:
    """The client remembers what a Xet store has by its address; a new store must not be taken for the old one."""
    with start_hub(directory=tmp_path / "old") as hub:
        run_script(hub.url, SEND)
        port = hub.url.rpartition(":")[2]
    with start_hub("--port", port, directory=tmp_path / "new") as hub:
        run_script(hub.url, SEND)
        with urllib.request.urlopen(f"{hub.url}/org/r/resolve/main/1.bin") as answer:
            assert answer.read() == bytes(range(256)) * 4000 + b"\x01"
