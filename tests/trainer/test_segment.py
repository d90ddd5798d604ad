"""A segment is a pure function of its checked inputs."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from open360.schema.errors import IntegrityError, Open360Error
from open360.schema.schedule import learning_rate, segments
from open360.schema.serialization import canonical_json
from open360.schema.spec import ReleaseSpec
from open360.trainer.checkpoint import load_checkpoint, read_position, state_digests
from open360.trainer.errors import MissingInputError, NonFiniteLossError, NonFiniteWeightsError
from open360.trainer.segment import initialize_run, train_segment
from tests.trainer.tiny_run import build, build_inputs, file_bytes, segment_named, tensors_of, tiny_spec

CHECKPOINTS = "runs/tiny/checkpoints"


def train(spec: ReleaseSpec, root: Path, name: str, scratch: Path | None = None, **options: object) -> None:
    run, segment = segment_named(spec, name)
    train_segment(spec, run, segment, root, scratch=scratch, **options)  # type: ignore[arg-type]


def one_segment(text: str) -> str:
    return text.replace("every: 6", "every: 12").replace("steps: 18", "steps: 12")


def with_dropout(text: str) -> str:
    return text.replace("tie_word_embeddings: true", "tie_word_embeddings: true\n      attention_dropout: 0.2")


def replace_tensors(
    folder: Path, file: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    """Change a tensor file of a checkpoint, and make its position agree with it."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / file).items()}
    save_file(change(tensors), folder / file, metadata={"format": "pt"})
    position = json.loads((folder / "training_state/position.json").read_bytes())
    position["tensors"] = state_digests(folder).model_dump(mode="json")
    (folder / "training_state/position.json").write_bytes(canonical_json(position))


def test_two_builds_in_different_folders_give_the_same_bytes_of_every_file(tmp_path: Path, trained: Path) -> None:
    again = build(tmp_path / "elsewhere" / "again", tiny_spec())
    assert file_bytes(again) == file_bytes(trained)


@pytest.mark.parametrize("change", [str, with_dropout], ids=["plain", "dropout"])
def test_resumed_equals_uninterrupted_and_differs_from_a_cold_start(
    tmp_path: Path, change: Callable[[str], str]
) -> None:
    whole = build(tmp_path / "whole", tiny_spec(lambda text: one_segment(change(text))))
    halves = tiny_spec(change)
    resumed = build(tmp_path / "resumed", halves, until="ckpt_001")
    assert tensors_of(resumed, "ckpt_001") == tensors_of(whole, "ckpt_000")

    cold = tmp_path / "cold"
    shutil.copytree(resumed, cold)
    replace_tensors(
        cold / CHECKPOINTS / "ckpt_000",
        "training_state/optimizer.safetensors",
        lambda tensors: {name: torch.zeros_like(tensor) for name, tensor in tensors.items()},
    )
    train(halves, cold, "ckpt_001")
    assert tensors_of(cold, "ckpt_001") != tensors_of(whole, "ckpt_000")


def test_dropout_goes_on_from_the_saved_rng_state(tmp_path: Path) -> None:
    spec = tiny_spec(with_dropout)
    root = build(tmp_path / "release", spec, until="ckpt_001")
    expected = tensors_of(root, "ckpt_001")
    torch.manual_seed(999)
    train(spec, root, "ckpt_001")
    assert tensors_of(root, "ckpt_001") == expected
    other = torch.Generator().manual_seed(5).get_state()
    replace_tensors(root / CHECKPOINTS / "ckpt_000", "training_state/rng.safetensors", lambda _: {"torch": other})
    train(spec, root, "ckpt_001")
    assert tensors_of(root, "ckpt_001")["model.safetensors"] != expected["model.safetensors"]


def test_the_loss_falls_and_the_trace_holds_every_step_exactly(trained: Path, spec: ReleaseSpec) -> None:
    run = spec.all_runs()[0]
    assert run.schedule is not None
    losses = []
    for segment in segments(run, spec.corpus_of(run)):
        lines = (trained / f"runs/tiny/traces/{segment.name}.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        assert [entry["step"] for entry in entries] == list(range(segment.first_step, segment.end_step))
        for entry in entries:
            assert list(entry) == ["batch_sha256", "grad_norm", "loss", "lr", "step", "tokens"]
            assert float.fromhex(entry["lr"]) == learning_rate(run.schedule, entry["step"])
            assert entry["tokens"] == (entry["step"] + 1) * 4 * 16
            assert math.isfinite(float.fromhex(entry["grad_norm"]))
            losses.append(float.fromhex(entry["loss"]))
    assert losses[0] == pytest.approx(math.log(300), abs=0.2)
    assert losses[-1] < losses[0] - 2


def test_a_position_says_where_a_checkpoint_stands_and_what_it_was_made_from(trained: Path) -> None:
    before, after = (read_position(trained / CHECKPOINTS / name, name) for name in ("ckpt_000", "ckpt_001"))
    assert (after.run, after.checkpoint, after.step, after.next_row, after.tokens) == ("tiny", "ckpt_001", 12, 48, 768)
    assert (after.parent, after.parent_sha256) == ("ckpt_000", before.tensors.weights)
    assert after.chunk == "chunk_001"
    text = (trained / CHECKPOINTS / "ckpt_001/training_state/position.json").read_bytes()
    assert text == canonical_json(json.loads(text))


def test_the_loss_is_the_cross_entropy_that_transformers_computes(trained: Path) -> None:
    import pyarrow.parquet as pq
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(trained / CHECKPOINTS / "ckpt_000")
    rows = pq.read_table(trained / "runs/tiny/chunks/chunk_001.parquet")["token_ids"].to_pylist()[:4]
    ids = torch.tensor(rows)
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    first = json.loads((trained / "runs/tiny/traces/ckpt_001.jsonl").read_text().splitlines()[0])
    assert float.fromhex(first["loss"]) == pytest.approx(loss, rel=1e-5)


def test_later_steps_and_checkpoints_leave_earlier_segments_as_they_are(tmp_path: Path, trained: Path) -> None:
    longer = tiny_spec(
        lambda text: text.replace("steps: 18", "steps: 30").replace("batch: 4", "batch: [[0, 4], [24, 8]]")
    )
    root = build(tmp_path / "longer", longer, until="ckpt_002")
    for name in ("ckpt_init", "ckpt_000", "ckpt_001", "ckpt_002"):
        assert file_bytes(root / CHECKPOINTS / name) == file_bytes(trained / CHECKPOINTS / name)


def test_batches_may_grow_on_the_way(tmp_path: Path) -> None:
    spec = tiny_spec(lambda text: text.replace("batch: 4", "batch: [[0, 2], [4, 6]]"))
    root = build(tmp_path / "growing", spec, until="ckpt_000")
    lines = (root / "runs/tiny/traces/ckpt_000.jsonl").read_text().splitlines()
    assert [json.loads(line)["tokens"] for line in lines] == [32, 64, 96, 128, 224, 320]


def test_rows_without_a_label_of_their_own_are_shifted_inside(tmp_path: Path) -> None:
    spec = tiny_spec(lambda text: text.replace("row_len: 17", "row_len: 16"))
    root = build(tmp_path / "short", spec, until="ckpt_000")
    assert (root / CHECKPOINTS / "ckpt_000/model.safetensors").exists()


def test_bfloat16_computes_with_fp32_weights(tmp_path: Path) -> None:
    spec = tiny_spec(lambda text: text.replace("precision: float32", "precision: bfloat16-mixed"))
    root = build(tmp_path / "mixed", spec, until="ckpt_000")
    weights = load_file(root / CHECKPOINTS / "ckpt_000/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_run_starts_from_the_weights_of_its_parent_run(tmp_path: Path, trained: Path) -> None:
    root = tmp_path / "family"
    shutil.copytree(trained, root)
    start = "runs:\n"
    text_of_child = "  - name: child\n    parent: {run: tiny, step: 12}"

    def with_child(text: str) -> str:
        head, rest = text.split(start)
        body, tail = rest.split("evaluations:")
        return head + start + body + body.replace("  - name: tiny", text_of_child) + "evaluations:" + tail

    spec = tiny_spec(with_child)
    folder = initialize_run(spec, spec.run("child"), root)
    child, parent = read_position(folder, "child"), read_position(root / CHECKPOINTS / "ckpt_001", "parent")
    assert child.tensors.weights == parent.tensors.weights == child.parent_sha256
    assert (child.parent, child.step) == ("tiny/ckpt_001", 0)


def test_a_segment_can_be_trained_again_over_itself(half_trained: Path, spec: ReleaseSpec, trained: Path) -> None:
    for _ in range(2):
        train(spec, half_trained, "ckpt_001")
    assert file_bytes(half_trained / CHECKPOINTS / "ckpt_001") == file_bytes(trained / CHECKPOINTS / "ckpt_001")


def test_progress_is_told_after_each_step(half_trained: Path, spec: ReleaseSpec) -> None:
    told: list[tuple[int, int]] = []
    train(spec, half_trained, "ckpt_001", progress=lambda done, total, _loss: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("scratch", [False, True])
def test_a_loss_that_is_no_number_leaves_nothing(tmp_path: Path, scratch: bool) -> None:
    spec = tiny_spec(
        lambda text: text.replace("type: cosine, peak: 1.0e-2, end: 1.0e-3", "type: constant, peak: 1.0e+30").replace(
            "warmup: 3, horizon: 18", "warmup: 0"
        )
    )
    root = build_inputs(tmp_path / "release", spec)
    initialize_run(spec, spec.all_runs()[0], root)
    before = file_bytes(root)
    folder = tmp_path / "scratch" if scratch else None
    with pytest.raises(NonFiniteLossError) as caught:
        train(spec, root, "ckpt_000", scratch=folder, snapshot_steps=1)
    error = caught.value
    assert error.run == "tiny"
    assert error.rows == (error.step * 4, error.step * 4 + 3)
    for part in ("step 1", "rows 4 to 7", "runs/tiny/chunks/chunk_000.parquet", "open360 pull . --step 1"):
        assert part in str(error)
    assert file_bytes(root) == before
    assert not list((root / "runs").rglob("*.partial"))
    assert not (tmp_path / "scratch").exists() or not list((tmp_path / "scratch").rglob("*.safetensors"))


def flip_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damaged",
    [
        f"{CHECKPOINTS}/ckpt_000/model.safetensors",
        f"{CHECKPOINTS}/ckpt_000/training_state/optimizer.safetensors",
        f"{CHECKPOINTS}/ckpt_000/training_state/rng.safetensors",
        f"{CHECKPOINTS}/ckpt_000/training_state/position.json",
        "runs/tiny/chunks/chunk_001.parquet",
        "runs/tiny/steps/chunk_001.parquet",
    ],
)
def test_a_flipped_byte_in_an_input_is_refused_before_the_first_step(
    half_trained: Path, spec: ReleaseSpec, damaged: str
) -> None:
    flip_in_the_middle(half_trained / damaged)
    with pytest.raises(Open360Error) as caught:
        train(spec, half_trained, "ckpt_001", progress=lambda *_: pytest.fail("a step was made"))
    assert damaged.rsplit("/", 1)[-1] in str(caught.value)
    assert not (half_trained / CHECKPOINTS / "ckpt_001").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", 5),
        ("next_row", 25),
        ("run", "other"),
        ("checkpoint", "ckpt_007"),
        ("determinism", "portable"),
        ("spec_sha256", "0" * 64),
    ],
)
def test_a_parent_of_another_place_or_spec_is_refused(
    half_trained: Path, spec: ReleaseSpec, field: str, value: object
) -> None:
    path = half_trained / CHECKPOINTS / "ckpt_000/training_state/position.json"
    path.write_bytes(canonical_json({**json.loads(path.read_bytes()), field: value}))
    with pytest.raises(IntegrityError, match=field):
        train(spec, half_trained, "ckpt_001")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight_decay: 0.1", "weight_decay: 0.2"),
        ("peak: 1.0e-2", "peak: 1.1e-2"),
        ("seed: 7", "seed: 8"),
        ("batch: 4", "batch: [[0, 4], [3, 4]]"),
        ("vocab_size: 300", "vocab_size: 301"),
    ],
)
def test_a_changed_setting_is_refused_until_the_parent_is_trained_with_it(
    half_trained: Path, old: str, new: str
) -> None:
    with pytest.raises(IntegrityError, match="spec_sha256"):
        train(tiny_spec(lambda text: text.replace(old, new)), half_trained, "ckpt_001")


@pytest.mark.parametrize(
    "missing",
    [
        f"{CHECKPOINTS}/ckpt_000/training_state/position.json",
        f"{CHECKPOINTS}/ckpt_000/training_state/optimizer.safetensors",
        "runs/tiny/chunks/chunk_001.parquet",
        "runs/tiny/steps/chunk_001.parquet",
        "corpora/toy/tokenizer/tokenizer.json",
    ],
)
def test_a_missing_input_is_named(half_trained: Path, spec: ReleaseSpec, missing: str) -> None:
    (half_trained / missing).unlink()
    with pytest.raises(MissingInputError, match=missing.rsplit("/", 1)[-1]):
        train(spec, half_trained, "ckpt_001")
    assert not (half_trained / CHECKPOINTS / "ckpt_001").exists()


def test_what_a_killed_process_left_beside_the_outputs_goes(half_trained: Path, spec: ReleaseSpec) -> None:
    left = half_trained / CHECKPOINTS / ".ckpt_001.abcd1234.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    trace = half_trained / "runs/tiny/traces/.ckpt_001.jsonl.abcd1234.partial"
    trace.write_text("half")
    train(spec, half_trained, "ckpt_001")
    assert not left.exists()
    assert not trace.exists()


def test_records_tell_profile_host_and_speed_and_lie_outside_the_outputs(trained: Path) -> None:
    record = json.loads((trained / "records/tiny/ckpt_001.json").read_bytes())
    assert record["profile"]["torch"] == torch.__version__
    assert record["profile"]["threads"] == 1
    assert record["host"]
    assert len(record["tokens_per_second"]) == 6
    assert record["code"] is None
    assert not [name for name in file_bytes(trained / CHECKPOINTS / "ckpt_001") if "record" in name]


def test_records_tell_the_commit_of_a_release_that_is_a_git_repository(half_trained: Path, spec: ReleaseSpec) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", *identity, "-C", str(half_trained), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (half_trained / ".gitignore").write_text("runs/\ncorpora/\nrecords/\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "start")
    train(spec, half_trained, "ckpt_001")
    record = json.loads((half_trained / "records/tiny/ckpt_001.json").read_bytes())
    assert record["code"] == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (half_trained / "notes.txt").write_text("new\n")
    train(spec, half_trained, "ckpt_002")
    assert json.loads((half_trained / "records/tiny/ckpt_002.json").read_bytes())["code"]["dirty"] is True


def test_a_loaded_checkpoint_is_the_state_that_was_saved(trained: Path) -> None:
    checkpoint = load_checkpoint(trained / CHECKPOINTS / "ckpt_002", "ckpt_002")
    assert set(checkpoint.state.rng) == {"torch"}
    steps = {name: tensor for name, tensor in checkpoint.state.optimizer.items() if name.startswith("step.")}
    assert {tensor.item() for tensor in steps.values()} == {18.0}


@pytest.mark.parametrize("peak", ["3.0e+37", "3.0e+38"])
def test_weights_that_the_last_update_breaks_leave_nothing(tmp_path: Path, peak: str) -> None:
    spec = tiny_spec(
        lambda text: (
            text.replace("type: cosine, peak: 1.0e-2, end: 1.0e-3", f"type: constant, peak: {peak}")
            .replace("warmup: 3, horizon: 18", "warmup: 0")
            .replace("weight_decay: 0.1", "weight_decay: 100.0")
            .replace("steps: 18", "steps: 1")
            .replace("every: 6", "every: 1")
        )
    )
    root = build_inputs(tmp_path / "release", spec)
    run = spec.all_runs()[0]
    initialize_run(spec, run, root)
    before = file_bytes(root)
    with pytest.raises(NonFiniteWeightsError):
        train_segment(spec, run, segments(run, spec.corpus_of(run))[0], root, scratch=None)
    assert file_bytes(root) == before
