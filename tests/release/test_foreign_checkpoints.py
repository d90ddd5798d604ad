"""Pulling checkpoints of releases of others: at their commit, compared with the listing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from open360.release.foreign_checkpoints import prepare_checkpoint, pull_checkpoint, weight_paths
from open360.release.hub_objects import RemoteFile
from open360.release.pull_selection import SelectionError
from open360.release.targets import TargetError
from open360.schema.errors import IntegrityError
from tests.support.foreign_release import RELEASES, change, weights_of
from tests.support.hub_control import HubControl
from tests.support.hub_folder import Swapped
from tests.support.opened_release import Opened, open_release
from tests.support.page_server import Pages, page_server


@pytest.fixture
def pages() -> Iterator[Pages]:
    with page_server() as running:
        yield running


def pull(there: Opened, out: Path, checkpoint: str, what: Any = "weights", **options: Any) -> Any:
    return pull_checkpoint(*prepare_checkpoint(there.target, checkpoint, what, **options), out)


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"provenance.json"}


def test_weights_are_what_loading_needs_at_their_commit(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("amber", hub, pages, tmp_path)
    pull(there, tmp_path / "out", "ckpt_002")
    files = there.release.repos["LLM360/AmberTiny"]["ckpt_002"]
    assert names_in(tmp_path / "out") == set(files) - {"optimizer.safetensors"}
    for name in names_in(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == files[name]
    run = there.target.document.spec.run("amber-tiny")
    for name, weight in load_file(tmp_path / "out/model.safetensors").items():
        np.testing.assert_array_equal(weight, weights_of(1, 6)[name])
    record = json.loads((tmp_path / "out/provenance.json").read_text())
    assert run.series is not None
    assert record["repositories"][0]["commit"] == run.series.commits["ckpt_002"]
    proofs = {source["path"].rsplit("/", 1)[1]: source["verified_by"] for source in record["sources"]}
    assert proofs["model.safetensors"] == "sha256 of the Hub"
    assert proofs["config.json"] == "git's id of the Hub"


@pytest.mark.long
def test_from_pretrained_works_on_pulled_weights(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    there = open_release("pythia", hub, pages, tmp_path)
    pull(there, tmp_path / "out", "step8")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    weight = model.state_dict()["model.norm.weight"].numpy()
    np.testing.assert_array_equal(weight, weights_of(1, 8)["model.norm.weight"])


@pytest.mark.parametrize(("what", "expected"), [("optimizer", {"optimizer.safetensors"}), ("all", None)])
def test_the_state_of_the_trainer_is_had_where_it_is_published(
    what: str, expected: set[str] | None, hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("amber", hub, pages, tmp_path)
    pull(there, tmp_path / "out", "ckpt_003", what)
    assert names_in(tmp_path / "out") == (expected or set(there.release.repos["LLM360/AmberTiny"]["ckpt_003"]))


def test_where_the_trainers_own_checkpoint_is_is_told_when_it_is_elsewhere(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("olmo", hub, pages, tmp_path)
    with pytest.raises(SelectionError, match=r"optimizer included, is at .*/peteish/step6-unsharded"):
        prepare_checkpoint(there.target, "stage1-step6-tokens4B", "optimizer")


@pytest.mark.parametrize(
    ("name", "checkpoint", "metric", "value"),
    [("pythia", "step4", "acc", 0.54), ("amber", "ckpt_001", "acc_norm", 0.29), ("k2", "ckpt_002", "acc_norm", 0.29)],
)
def test_scores_are_those_of_the_checkpoint(
    name: str, checkpoint: str, metric: str, value: float, hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release(name, hub, pages, tmp_path)
    pull(there, tmp_path / "out", checkpoint, "metrics")
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert [(one["metric"], [score["value"] for score in one["scores"]]) for one in found["evaluations"]] == [
        (metric, [pytest.approx(value)])
    ]


def test_only_the_asked_revision_is_listed(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    hub.count_from_now()
    pull_, _ = prepare_checkpoint(there.target, "step8", "weights")
    assert sum(entry["count"] for entry in hub.traffic()) == 2  # refs and one tree
    assert pull_.bytes == sum(file.bytes for file in pull_.whole)


def test_a_branch_that_has_moved_is_read_where_the_spec_pins_it(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["pythia"]()
    change(release, [{"move": "EleutherAI/pythia-nano@step8"}])
    there = open_release("pythia", hub, pages, tmp_path, release)
    done = pull(there, tmp_path / "out", "step8")
    assert "NOTES.md" not in names_in(tmp_path / "out")
    assert "'step8' of EleutherAI/pythia-nano stands for" in done.notes[0]


def test_bytes_that_are_not_the_listed_ones_are_found(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["pythia"]()
    branch = release.repos["EleutherAI/pythia-nano"]["step8"]
    data = branch["model.safetensors"]
    assert isinstance(data, bytes)
    branch["model.safetensors"] = Swapped(listed=data, served=data[:-1] + bytes([data[-1] ^ 1]))
    there = open_release("pythia", hub, pages, tmp_path, release)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        pull(there, tmp_path / "out", "step8")
    assert not (tmp_path / "out").exists()


def test_a_revision_that_is_not_published_is_named(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["pythia"]()
    del release.repos["EleutherAI/pythia-nano"]["step4"]
    there = open_release("pythia", hub, pages, tmp_path, release)
    with pytest.raises(TargetError, match="expected the revision 'step4' of EleutherAI/pythia-nano"):
        prepare_checkpoint(there.target, "step4", "weights")


def listed(*names: str) -> dict[str, RemoteFile]:
    return {name: RemoteFile(bytes=1, sha256=None, git_id=None) for name in names}


def test_weights_are_taken_in_one_form_and_without_what_loading_does_not_need() -> None:
    common = ("config.json", "tokenizer.json", "tokenizer.model", "modeling_x.py", "merges.txt", "chat_template.jinja")
    others = ("README.md", ".gitattributes", "flax_model.msgpack", "tf_model.h5", "onnx/model.onnx", "optimizer.pt",
              "training_args.bin", "pytorch_model.bin", "rng_state.pth", "original/params.json")  # fmt: skip
    tensors = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
    assert weight_paths(listed(*common, *others, *tensors)) == sorted([*common, *tensors])
    assert weight_paths(listed(*common, *others)) == sorted([*common, "pytorch_model.bin"])
    shards = ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json")
    assert weight_paths(listed("config.json", *shards)) == sorted(["config.json", *shards])
    assert weight_paths(listed("config.json", "README.md")) == []
