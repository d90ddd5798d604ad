"""What a release holds, as data and as tables."""

from __future__ import annotations

import pytest

from open360.release.showing import summarize, summary_text
from open360.schema.manifest import Manifest, Publication
from open360.schema.serialization import canonical_json, load_manifest, load_spec
from open360.schema.spec import ReleaseSpec
from tests.support.tiny_release import SPEC, build_tiny_release


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReleaseSpec, Manifest]:
    folder = build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")
    return load_spec(SPEC.encode()), load_manifest((folder / "manifest.json").read_bytes())


def test_a_built_release_shows_what_was_built(documents: tuple[ReleaseSpec, Manifest]) -> None:
    summary = summarize(*documents)
    canonical_json(summary)
    assert summary["form"] == "built"
    assert summary["corpora"][0]["sources"][0]["tokens"] == 110
    (run,) = summary["runs"]
    assert [point["name"] for point in run["checkpoints"]] == ["ckpt_init", "ckpt_000", "ckpt_001", "ckpt_002"]
    assert run["checkpoints"][3]["metrics"]["loss"] == pytest.approx(3.34)
    text = summary_text(summary)
    assert "3 chunks of 12 rows" in text
    assert "chunk_002" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_draft_shows_what_is_declared(documents: tuple[ReleaseSpec, Manifest]) -> None:
    summary = summarize(documents[0], None)
    canonical_json(summary)
    assert summary["form"] == "declared"
    assert summary["repositories"] == [
        {"repo": "open360/tiny", "repo_type": "model", "revision": None, "commit": None},
        {"repo": "open360/tiny-data", "repo_type": "dataset", "revision": None, "commit": None},
    ]
    (run,) = summary["runs"]
    assert [(point["name"], point["step"], point["tokens"]) for point in run["checkpoints"]][-1] == ("ckpt_002", 6, 96)
    assert "ckpt_002" in summary_text(summary)


def test_a_published_checkpoint_shows_its_commit(documents: tuple[ReleaseSpec, Manifest]) -> None:
    spec, manifest = documents
    at = Publication(repo="open360/tiny", repo_type="model", revision="ckpt_002", commit="c0ffee" + "0" * 34)
    run = manifest.runs[0]
    last = run.checkpoints[-1].model_copy(update={"published": at})
    run = run.model_copy(update={"checkpoints": (*run.checkpoints[:-1], last)})
    summary = summarize(spec, manifest.model_copy(update={"runs": (run,)}))
    assert summary["runs"][0]["checkpoints"][-1]["commit"] == at.commit
    assert "c0ffee000000" in summary_text(summary)


def test_a_long_series_shows_both_ends() -> None:
    text = SPEC.replace("steps: 6", "steps: 600").replace("horizon: 6", "horizon: 600").replace("03d", "04d")
    shown = summary_text(summarize(load_spec(text.encode()), None))
    assert "ckpt_0000" in shown
    assert "ckpt_0299" in shown
    assert "… 277 more" in shown
    assert "ckpt_0150" not in shown


def test_a_draft_that_says_little_is_shown_too() -> None:
    summary = summarize(load_spec(b"open360: 1\nname: x\nruns:\n  - {name: a, objective: pretrain}\n"), None)
    text = summary_text(summary)
    assert "run a: pretrain" in text
    assert "licences: none declared" in text


def test_names_cannot_steer_the_terminal() -> None:
    spec = load_spec(b'open360: 1\nname: x\ndescription: "a\\e[31mb"\n')
    assert "\x1b" not in summary_text(summarize(spec, None))
