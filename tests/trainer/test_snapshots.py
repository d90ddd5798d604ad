"""A killed segment goes on from its scratch folder, to the same bits."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from open360.schema.spec import ReleaseSpec
from open360.trainer.checkpoint import State
from open360.trainer.segment import SegmentResult, train_segment
from open360.trainer.snapshots import Snapshots
from tests.trainer.tiny_run import file_bytes, row_stream, segment_named, write_chunk

CHECKPOINT = "runs/tiny/checkpoints/ckpt_001"
TRACE = "runs/tiny/traces/ckpt_001.jsonl"
# Kills itself at the `count`-th call of `function`: a step that is done, or a file or folder about to be made durable.
PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from tests.trainer.tiny_run import segment_named, tiny_spec
from open360.trainer.segment import train_segment
root, scratch, function, count = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5])
left = count

def die(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

sync = os.fsync
if function == "fsync":
    os.fsync = lambda handle: (die(), sync(handle))
run, segment = segment_named(tiny_spec(), "ckpt_001")
progress = die if function == "step" else None
train_segment(tiny_spec(), run, segment, root, scratch=scratch, snapshot_steps=1, progress=progress)
"""


def killed(project_root: Path, root: Path, scratch: Path, function: str, count: int) -> bool:
    command = [sys.executable, "-P", "-c", PROGRAM, project_root, root, scratch, function, str(count)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def train(spec: ReleaseSpec, root: Path, scratch: Path, steps: int | None = None) -> SegmentResult:
    run, segment = segment_named(spec, "ckpt_001")
    return train_segment(spec, run, segment, root, scratch=scratch, snapshot_steps=steps)


def test_a_segment_that_was_killed_goes_on_and_ends_equal_to_an_uninterrupted_one(
    project_root: Path, tmp_path: Path, half_trained: Path, trained: Path, spec: ReleaseSpec
) -> None:
    scratch = tmp_path / "scratch"
    assert killed(project_root, half_trained, scratch, "step", 4)
    assert not (half_trained / CHECKPOINT).exists()
    assert not (half_trained / TRACE).exists()
    result = train(spec, half_trained, scratch)
    assert result.resumed_at is not None
    assert 6 < result.resumed_at < 12
    assert file_bytes(half_trained / CHECKPOINT) == file_bytes(trained / CHECKPOINT)
    assert (half_trained / TRACE).read_bytes() == (trained / TRACE).read_bytes()
    assert not (scratch / "tiny").exists()


@pytest.mark.long
def test_a_kill_at_any_write_leaves_whole_outputs_or_none_and_can_be_resumed(
    project_root: Path, tmp_path: Path, half_trained: Path, trained: Path, spec: ReleaseSpec
) -> None:
    count, ended = 1, False
    while not ended:
        root, scratch = tmp_path / f"release-{count}", tmp_path / f"scratch-{count}"
        shutil.copytree(half_trained, root)
        ended = not killed(project_root, root, scratch, "fsync", count)
        if (root / CHECKPOINT).exists():
            assert file_bytes(root / CHECKPOINT) == file_bytes(trained / CHECKPOINT)
            assert (root / TRACE).exists()
        train(spec, root, scratch)
        assert file_bytes(root / "runs") == {
            name: data for name, data in file_bytes(trained / "runs").items() if "ckpt_002" not in name
        }
        shutil.rmtree(root)
        count += 7
    assert count > 30


def leave_a_snapshot(half_trained: Path, scratch: Path, spec: ReleaseSpec) -> Path:
    """Train with a snapshot after each step and fail at the fifth; returns the snapshot's folder."""

    def stop(done: int, _total: int, _loss: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    run, segment = segment_named(spec, "ckpt_001")
    with pytest.raises(KeyboardInterrupt):
        train_segment(spec, run, segment, half_trained, scratch=scratch, snapshot_steps=1, progress=stop)
    return max((scratch / "tiny/ckpt_001").iterdir())


def test_an_interrupted_segment_goes_on_where_it_stopped(
    tmp_path: Path, half_trained: Path, trained: Path, spec: ReleaseSpec
) -> None:
    folder = leave_a_snapshot(half_trained, tmp_path / "scratch", spec)
    assert folder.name == "step_000000000011"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    result = train(spec, half_trained, tmp_path / "scratch")
    assert result.resumed_at == 11
    assert file_bytes(half_trained / CHECKPOINT) == file_bytes(trained / CHECKPOINT)


@pytest.mark.parametrize("file", ["model.safetensors", "training_state/optimizer.safetensors", "snapshot.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_snapshot_is_thrown_away(
    tmp_path: Path, half_trained: Path, trained: Path, spec: ReleaseSpec, file: str, damage: str
) -> None:
    path = leave_a_snapshot(half_trained, tmp_path / "scratch", spec) / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    if damage == "remove":
        path.unlink()
    assert train(spec, half_trained, tmp_path / "scratch").resumed_at is None
    assert file_bytes(half_trained / CHECKPOINT) == file_bytes(trained / CHECKPOINT)


def test_a_snapshot_of_other_rows_is_thrown_away(tmp_path: Path, half_trained: Path, spec: ReleaseSpec) -> None:
    leave_a_snapshot(half_trained, tmp_path / "scratch", spec)
    run, segment = segment_named(spec, "ckpt_001")
    write_chunk(half_trained, run, segment, row_stream(segment.rows, 17, seed=99))
    assert train(spec, half_trained, tmp_path / "scratch").resumed_at is None


def test_a_snapshot_of_other_code_is_thrown_away(tmp_path: Path, half_trained: Path, spec: ReleaseSpec) -> None:
    (half_trained / "code.json").write_text('{"train": "1"}')
    leave_a_snapshot(half_trained, tmp_path / "scratch", spec)
    (half_trained / "code.json").write_text('{"train": "2"}')
    assert train(spec, half_trained, tmp_path / "scratch").resumed_at is None


def test_snapshots_change_nothing_of_the_result(
    tmp_path: Path, half_trained: Path, trained: Path, spec: ReleaseSpec
) -> None:
    train(spec, half_trained, tmp_path / "scratch", steps=2)
    assert file_bytes(half_trained / CHECKPOINT) == file_bytes(trained / CHECKPOINT)
    assert not (tmp_path / "scratch/tiny").exists()


def test_a_snapshot_is_a_copy_that_later_updates_do_not_reach(tmp_path: Path) -> None:
    weights = {"w": torch.zeros(3)}
    state = State(weights=weights, optimizer={"exp_avg.w": torch.zeros(3)}, rng={"torch": torch.get_rng_state()})
    snapshots = Snapshots(tmp_path / "scratch", "0" * 64, seconds=600, steps=1)
    with snapshots:
        snapshots.take(1, state, ["{}"])
        weights["w"].add_(1)
        snapshots.wait()
        found = snapshots.newest()
    assert found is not None
    assert found.state.weights["w"].tolist() == [0, 0, 0]
    assert found.trace == ["{}"]


def test_a_failed_write_is_not_kept_silent(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file where the folder should be")
    state = State(weights={"w": torch.zeros(1)}, optimizer={}, rng={})
    snapshots = Snapshots(tmp_path / "scratch", "0" * 64, seconds=600, steps=1)
    with snapshots, pytest.raises(OSError, match="scratch"):
        snapshots.take(1, state, [])
        snapshots.wait()
