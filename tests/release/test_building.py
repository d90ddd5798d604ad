"""The manifest: what it says, and that it says it the same way every time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from open360.release.building import MissingPartError, build_manifest
from open360.schema.digests import TensorFileError
from open360.schema.errors import SpecError
from open360.schema.manifest import Manifest
from open360.schema.schedule import learning_rate
from open360.schema.serialization import dump_json, load_manifest, load_spec
from tests.support.tiny_release import build_tiny_release


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


@pytest.fixture
def tiny(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "tiny")
    return tmp_path / "tiny"


def _build(folder: Path) -> Manifest:
    spec_bytes = (folder / "release.yaml").read_bytes()
    code = json.loads((folder / "code.json").read_bytes())
    return build_manifest(load_spec(spec_bytes), folder, spec_bytes=spec_bytes, code=code)


def test_the_same_files_give_the_same_bytes_wherever_they_lie(tiny: Path, tmp_path: Path) -> None:
    first = dump_json(_build(tiny))
    moved = tmp_path / "another place"
    shutil.copytree(tiny, moved)
    assert dump_json(_build(moved)) == first == dump_json(_build(tiny)) == (tiny / "manifest.json").read_bytes()


def test_a_manifest_reads_back_as_it_was(tiny: Path) -> None:
    manifest = _build(tiny)
    assert load_manifest(dump_json(manifest)) == manifest


def test_every_file_of_the_release_is_in_the_manifest_once(tiny: Path) -> None:
    (tiny / "corpora" / "words" / "sources").mkdir()
    (tiny / "corpora" / "words" / "sources" / "prose.zip").write_bytes(b"downloaded")
    (tiny / "corpora" / ".gitignore").write_text("/words")
    (tiny / "records").mkdir()
    (tiny / "records" / "host.json").write_text("{}")
    here = {path.relative_to(tiny).as_posix() for path in tiny.rglob("*") if path.is_file()}
    left_out = {"manifest.json", "corpora/words/sources/prose.zip", "corpora/.gitignore", "records/host.json"}
    left_out |= {path for path in here if path.startswith(".scratch/")}
    paths = [record.path for record in _build(tiny).all_files()]
    assert sorted(paths) == sorted(here - left_out)


def test_a_checkpoint_holds_what_the_spec_and_its_files_say(tiny: Path) -> None:
    spec = load_spec((tiny / "release.yaml").read_bytes())
    run = _build(tiny).run("tiny")
    initial, _, middle, last = run.checkpoints
    assert (initial.step, initial.learning_rate, initial.parent, initial.chunk, initial.trace) == (
        0,
        None,
    ) + (None,) * 3
    assert (middle.step, middle.tokens, middle.first_row, middle.end_row) == (4, 64, 4, 8)
    assert (middle.parent, middle.chunk) == ("ckpt_000", "chunk_001")
    assert last.learning_rate == learning_rate(spec.run("tiny").schedule, 5)
    assert middle.holds == ("weights", "optimizer", "rng", "position")
    assert middle.metrics == {"loss": 3.4 - 0.04, "perplexity": 26.0}
    assert run.tokens == 96
    assert run.tokens_left_over == 2


def test_counts_of_the_corpus_are_those_of_the_pipeline(tiny: Path) -> None:
    corpus = _build(tiny).corpora[0]
    assert (corpus.documents, corpus.duplicates, corpus.held_out, corpus.tokens) == (4, 1, 1, 110)
    assert corpus.sources[0].bytes == 112


def test_the_lock_that_the_spec_names_is_the_environment(tiny: Path) -> None:
    (tiny / "constraints.txt").write_text("numpy==9\n")
    manifest = _build(tiny)
    record = next(record for record in manifest.files if record.path == "constraints.txt")
    assert manifest.environment_sha256 == record.sha256


@pytest.mark.parametrize(
    "path",
    [
        "constraints.txt",
        "corpora/words/counts.json",
        "corpora/words/tokenizer/tokenizer.json",
        "runs/tiny/packing.json",
        "runs/tiny/chunks/chunk_001.parquet",
        "runs/tiny/steps/chunk_001.parquet",
        "runs/tiny/traces/ckpt_001.jsonl",
        "runs/tiny/checkpoints/ckpt_001/model.safetensors",
    ],
)
def test_what_was_not_built_is_named_with_the_next_step(tiny: Path, path: str) -> None:
    (tiny / path).unlink()
    with pytest.raises(MissingPartError, match="run 'dvc repro' to build it") as raised:
        _build(tiny)
    assert raised.value.path == path


def test_generated_documents_are_read_with_care(tiny: Path) -> None:
    (tiny / "runs" / "tiny" / "packing.json").write_text('{"chunks": 3}')
    with pytest.raises(SpecError, match=r"packing\.json"):
        _build(tiny)


def test_broken_weights_are_an_error_that_names_the_file(tiny: Path) -> None:
    weights = tiny / "runs" / "tiny" / "checkpoints" / "ckpt_001" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(TensorFileError, match=r"model\.safetensors"):
        _build(tiny)


def test_weights_in_several_files_have_one_digest(tiny: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tiny / "runs" / "tiny" / "checkpoints" / "ckpt_001"
    before = _build(tiny).run("tiny").checkpoint("ckpt_001")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    save_file({name: tensors[name] for name in names[::2]}, folder / "model-00001-of-00002.safetensors")
    save_file({name: tensors[name] for name in names[1::2]}, folder / "model-00002-of-00002.safetensors")
    after = _build(tiny).run("tiny").checkpoint("ckpt_001")
    assert after.tensors == before.tensors
    assert {file.path for file in after.files} > {"model-00001-of-00002.safetensors"}
