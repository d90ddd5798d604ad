"""What goes wrong outside gives one clear finding or error: the thing's name, the next command, the right exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from open360.release.local_hub import running_hub
from tests.e2e.conftest import PublishedRelease, run

CHECKPOINTS = "runs/tiny-lm/checkpoints"


def _flip(path: Path, at: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))


def _flip_chunk(folder: Path) -> None:
    _flip(folder / "runs/tiny-lm/chunks/chunk_001.parquet", 1000)


def _flip_weights(folder: Path) -> None:
    _flip(folder / CHECKPOINTS / "ckpt_001/model.safetensors")


def _truncate_chunk(folder: Path) -> None:
    path = folder / "runs/tiny-lm/chunks/chunk_001.parquet"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


def _remove_checkpoint(folder: Path) -> None:
    shutil.rmtree(folder / CHECKPOINTS / "ckpt_001")


def _leave_the_root(folder: Path) -> None:
    _edit_manifest(folder, lambda m: m["files"][0].update(path="../../x"))


def _edit_manifest(folder: Path, change: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _claim_ten_gigabytes(folder: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        record = next(r for r in manifest["files"] if r["path"].endswith("counts.json"))
        record["bytes"] = 10_000_000_000

    _edit_manifest(folder, change)


def _claim_ten_gigabytes_of_tensor(folder: Path) -> None:
    path = folder / CHECKPOINTS / "ckpt_001/model.safetensors"
    path.unlink()
    path.write_bytes((10_000_000_000).to_bytes(8, "little") + b"{}" + b" " * 1000)


def _wrong_licence(folder: Path) -> None:
    spec = folder / "release.yaml"
    spec.write_text(spec.read_text().replace("weights: Apache-2.0", "weights: Apache-2.O"))


BAD_RELEASES = {
    "a flipped byte in a chunk": (_flip_chunk, "INT004", "chunk_001.parquet"),
    "a flipped byte in a weight file": (_flip_weights, "INT004", "ckpt_001/model.safetensors"),
    "a truncated Parquet file": (_truncate_chunk, "INT003", "chunk_001.parquet"),
    "a missing checkpoint": (_remove_checkpoint, "INT001", "ckpt_001"),
    "a path out of the release": (_leave_the_root, "SPC004", "../../x"),
    "a claim of ten gigabytes": (_claim_ten_gigabytes, "INT003", "counts.json"),
    "a tensor file that claims ten gigabytes": (_claim_ten_gigabytes_of_tensor, "INT003", "model.safetensors"),
    "a licence that does not exist": (_wrong_licence, "LIC002", "Apache-2.O"),
}


@pytest.mark.parametrize("case", BAD_RELEASES, ids=lambda case: case.replace(" ", "-"))
def test_validation_finds_exactly_what_is_wrong(case: str, built: Path) -> None:
    change, code, thing = BAD_RELEASES[case]
    change(built)
    done = run("open360", "validate", ".", "--format", "json", cwd=built)
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]
    # A changed spec is not the one that the manifest was built from: that is said as well, once.
    others = {"SPC005", "INT003", "INT004"} if code == "LIC002" else set()
    about = [f for f in findings if f["code"] not in others or f["code"] == code]
    assert [f["code"] for f in about] == [code]
    assert thing in json.dumps(about[0])
    assert about[0]["fix"]


def test_two_swapped_checkpoints_are_found(built: Path) -> None:
    folder = built / CHECKPOINTS
    (folder / "ckpt_000").rename(folder / "aside")
    (folder / "ckpt_001").rename(folder / "ckpt_000")
    (folder / "aside").rename(folder / "ckpt_001")
    done = run("open360", "validate", ".", "--format", "json", cwd=built)
    assert done.returncode == 1
    findings = json.loads(done.stdout)["findings"]
    assert {"ckpt_000", "ckpt_001"} <= {f["subject"] for f in findings}


def test_a_typo_in_the_spec_is_shown_with_its_line_and_ends_with_2(built: Path) -> None:
    spec = built / "release.yaml"
    text = spec.read_text().replace("    batch: 2", "    bacth: 2")
    spec.write_text(text)
    line = next(i for i, content in enumerate(text.splitlines(), start=1) if "bacth" in content)
    done = run("open360", "validate", ".", cwd=built)
    assert done.returncode == 2
    assert f"release.yaml:{line}:5" in done.stdout
    assert "bacth" in done.stdout


def test_a_hub_that_is_down_ends_with_3_and_leaves_nothing(built_once: Path, tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "x"}
    pull = run("open360", "pull", "lab/tiny-lm", "--step", "3", "-o", "out", cwd=tmp_path, env=nowhere)
    assert pull.returncode == 3
    assert "lab/tiny-lm" in pull.stderr
    assert list(tmp_path.iterdir()) == []
    publish = run("open360", "publish", ".", "--to", "lab", cwd=built_once, env=nowhere)
    assert publish.returncode == 3


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_hub_that_refuses_ends_with_3_and_names_the_thing(
    status: int, published: PublishedRelease, tmp_path: Path
) -> None:
    with _Failing(published, {"action": "status", "status": status, "times": 1000}):
        done = run(
            "open360", "pull", published.target, "--checkpoint", "ckpt_001", "--what", "data", "-o", "out",
            cwd=tmp_path, env={**published.environment, "OPEN360_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert published.target in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


class _Failing:
    """A second Hub on the folder of the published one, where reads fail as told."""

    def __init__(self, published: PublishedRelease, fault: dict[str, Any]) -> None:
        self.published, self.fault = published, fault

    def __enter__(self) -> None:
        import requests

        body = {"match": {"method": "GET", "path_regex": "/api/|/resolve/"}, **self.fault}
        answer = requests.post(f"{self.published.url}/.open360/faults", json=body, timeout=10)
        assert answer.ok, answer.text

    def __exit__(self, *_: object) -> None:
        import requests

        requests.delete(f"{self.published.url}/.open360/faults", timeout=10)


def test_a_full_disk_ends_with_3_and_leaves_nothing_half_written(published: PublishedRelease, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=False)
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        done = run(
            "open360", "pull", published.target, "--checkpoint", "ckpt_001", "--what", "weights", "-o", small / "out",
            cwd=tmp_path, env=published.environment,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert "Traceback" not in done.stderr
        assert not (small / "out").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_publishing_a_release_with_errors_is_refused_and_nothing_is_sent(built: Path, tmp_path: Path) -> None:
    _flip_weights(built)
    with running_hub(tmp_path / "hub") as hub:
        done = run("open360", "publish", ".", "--to", "lab", cwd=built, env={"HF_ENDPOINT": hub.url, "HF_TOKEN": "x"})
        assert done.returncode == 1
        assert "ckpt_001" in done.stderr
        import requests

        assert requests.get(f"{hub.url}/api/models/lab/tiny-lm", timeout=10).status_code == 404


def test_a_step_table_that_claims_ten_gigabytes_is_refused_before_it_is_read(built: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["runs"][0]["chunks"][1]["step_table"]["bytes"] = 10 << 30

    _edit_manifest(built, change)
    done = run("open360", "pull", ".", "--step", "9", "-o", "out", cwd=built)
    assert done.returncode == 1, done.stderr
    assert "chunk_001.parquet" in done.stderr
    assert not (built / "out").exists()


def test_a_report_is_written_into_a_pipe_and_does_not_replace_it(built_once: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    done = run("open360", "validate", str(built_once), "--level", "declared", "-o", str(pipe), cwd=tmp_path)
    assert done.returncode == 0
    assert "0 errors" in reader.communicate(timeout=20)[0]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "arguments",
    [
        ["pull", ".", "--step", "\u00b2"],
        ["pull", ".", "--step", "9" * 5000],
        ["pull", ".", "--step", "3", "-o", "release.yaml/x"],
        ["validate", ".", "--level", "declared", "-o", "release.yaml/x"],
        ["validate", ""],
        ["publish", ".", "--to", "bad name/x"],
        ["hub", "serve", "release.yaml/x"],
        ["hub", "serve", "hub", "--port", "99999"],
        ["init", "release.yaml/x"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_wrong_arguments_end_with_2_and_no_traceback(arguments: list[str], built_once: Path) -> None:
    done = run("open360", *arguments, cwd=built_once)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["123", "null"])
def test_a_release_may_be_called_like_a_number(name: str, tmp_path: Path) -> None:
    done = run("open360", "init", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run("open360", "validate", name, "--level", "declared", cwd=tmp_path).returncode == 1


def test_publishing_into_a_foreign_repository_deletes_nothing_unasked(built_once: Path, tmp_path: Path) -> None:
    code = (
        "from huggingface_hub import HfApi; api = HfApi(); api.create_repo('lab/tiny-lm'); "
        "api.upload_file(path_or_fileobj=b'theirs', path_in_repo='runs/theirs.txt', repo_id='lab/tiny-lm')"
    )
    with running_hub(tmp_path / "hub") as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "x"}
        assert run("python", "-P", "-c", code, cwd=tmp_path, env=environment).returncode == 0
        done = run("open360", "publish", ".", "--to", "lab", cwd=built_once, env=environment)
        assert done.returncode == 1
        assert "runs/theirs.txt" in done.stderr
        done = run("open360", "publish", ".", "--to", "lab", "--delete", cwd=built_once, env=environment)
        assert done.returncode == 0, done.stderr
