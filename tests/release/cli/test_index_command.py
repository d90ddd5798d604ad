"""`open360 index`: files of this disk, addresses, releases; made once, verified, refused with the right exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from open360.release.formats.line_index import parse_line_index
from tests.support.foreign_release import RELEASES, put_on_hub
from tests.support.hub_control import HubControl
from tests.support.hub_folder import HubFolder
from tests.support.page_server import page_server

LINES = b"".join(orjson.dumps({"token_ids": [n, n + 1], "source": "c4"}) + b"\n" for n in range(50))


def index(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "open360"), "index", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train 1.jsonl"
    path.write_bytes(LINES)
    return path


def test_a_file_is_indexed_once_and_verified(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "index.lines"
    done = index(file, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "50 rows" in done.stdout
    assert parse_line_index("index", out.read_bytes()).rows == 50
    again = index(file, "-o", out)
    assert (again.returncode, "is there" in again.stdout) == (0, True)
    right = index(file, "-o", out, "--verify")
    assert (right.returncode, "right, 50 rows" in right.stdout) == (0, True)


def test_an_index_of_a_file_that_was_changed_is_a_finding(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "index.lines"
    assert index(file, "-o", out).returncode == 0
    file.write_bytes(LINES.replace(b"}\n", b" \n", 1))
    done = index(file, "-o", out, "--verify")
    assert done.returncode == 1
    assert "expected" in done.stderr
    file.write_bytes(LINES[:-5])
    done = index(file, "-o", out)
    assert (done.returncode, "make it again" in done.stderr) == (1, True)


def test_an_address_has_to_be_public(tmp_path: Path) -> None:
    with page_server() as pages:
        pages.content["/a.jsonl"] = LINES
        done = index(f"{pages.url}/a.jsonl", "-o", tmp_path / "index")
    assert done.returncode == 3
    assert "no public host" in done.stderr
    assert not (tmp_path / "index").exists()


def test_wrong_usage_says_so(file: Path, tmp_path: Path) -> None:
    assert index(file, "-o", tmp_path / "i", "--corpus", "x").returncode == 2
    assert index(tmp_path / "nothing", "-o", tmp_path / "i").returncode == 2
    assert index(file).returncode == 2


def test_files_of_a_release_are_indexed_into_a_folder(hub: HubControl, tmp_path: Path) -> None:
    with page_server() as pages:
        spec = tmp_path / "spec.yaml"
        spec.write_bytes(put_on_hub(RELEASES["amber"](), HubFolder(hub.running.directory), pages))
        where = ("--spec", spec, "--endpoint", hub.url)
        done = index("amber-tiny", "-o", tmp_path / "out", "--file", "train/train_00[13].jsonl", *where)
        assert done.returncode == 0, done.stderr
        made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.lines"))
        assert made == ["train/train_001.jsonl.lines", "train/train_003.jsonl.lines"]
        done = index("amber-tiny", "-o", tmp_path / "out", "--file", "train/train_001.jsonl", "--verify", *where)
        assert done.returncode == 0, done.stderr
        done = index("amber-tiny", "-o", tmp_path / "out", "--file", "*.bin", *where)
        assert (done.returncode, "expected files of JSON lines" in done.stderr) == (2, True)
