"""Plans: pure data, made without a Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from open360.release.hub_limits import (
    BYTES_PER_COMMIT,
    FILES_PER_COMMIT,
    MAX_FOLDER_ENTRIES,
    PublishRefusedError,
    batches,
    refuse_what_the_hub_drops,
)
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.placement import Homes, Placement, PlacementError, place
from open360.release.plan import Plan, RemoteRepo, RemoteRevision, difference, make_plan
from open360.release.plan_text import plan_table
from open360.schema.manifest import Manifest
from open360.schema.serialization import load_manifest, load_spec
from open360.schema.spec import ReleaseSpec

MODEL, DATA = Repo(id="lab/tiny", type="model"), Repo(id="lab/tiny-data", type="dataset")


@pytest.fixture(scope="module")
def spec(tiny_original: Path) -> ReleaseSpec:
    return load_spec((tiny_original / "release.yaml").read_bytes())


@pytest.fixture(scope="module")
def manifest(tiny_original: Path) -> Manifest:
    return load_manifest((tiny_original / "manifest.json").read_bytes())


def file(path: str, size: int = 1, digest: str = "a", revision: str = "main") -> Placement:
    return Placement(repo=MODEL, revision=revision, path=path, source=path, bytes=size, sha256=digest * 64)


def remote_of(plan: Plan) -> Mapping[Repo, RemoteRepo]:
    """The Hub as it is after the plan."""
    found: dict[Repo, dict[str, RemoteRevision]] = {}
    for revision in plan.revisions:
        files = {f.path: RemoteFile(bytes=f.bytes, sha256=f.sha256, git_id=None) for f in revision.wanted}
        found.setdefault(revision.repo, {})[revision.revision] = RemoteRevision(commit="c" * 40, files=files)
    return {repo: RemoteRepo(first_commit="f" * 40, revisions=r, tags={}) for repo, r in found.items()}


def test_every_file_of_the_manifest_has_a_place(spec: ReleaseSpec, manifest: Manifest) -> None:
    sources = {placement.source for placement in place(spec, manifest, "lab")}
    assert sources == {record.path for record in manifest.all_files()}


def test_checkpoints_chunks_and_documents_go_where_the_layout_says(spec: ReleaseSpec, manifest: Manifest) -> None:
    places = {(p.source, p.repo, p.revision): p.path for p in place(spec, manifest, "lab")}
    folder = "runs/tiny/checkpoints/ckpt_001"
    assert places[f"{folder}/model.safetensors", MODEL, "ckpt_001"] == "model.safetensors"
    assert places[f"{folder}/training_state/position.json", MODEL, "ckpt_001"] == "training_state/position.json"
    assert places["runs/tiny/chunks/chunk_000.parquet", DATA, "main"] == "chunks/chunk_000.parquet"
    assert places["runs/tiny/steps/chunk_000.parquet", DATA, "main"] == "steps/chunk_000.parquet"
    assert places["corpora/words/tokenizer/tokenizer.json", DATA, "main"] == "corpora/words/tokenizer/tokenizer.json"
    assert places["release.yaml", MODEL, "main"] == "release.yaml"
    assert places["runs/tiny/traces/ckpt_001.jsonl", MODEL, "main"] == "runs/tiny/traces/ckpt_001.jsonl"


def test_main_holds_what_is_needed_to_load_the_last_checkpoint_and_nothing_of_others(
    spec: ReleaseSpec, manifest: Manifest
) -> None:
    on_main = {p.path: p.source for p in place(spec, manifest, "lab") if (p.repo, p.revision) == (MODEL, "main")}
    assert on_main["model.safetensors"] == "runs/tiny/checkpoints/ckpt_002/model.safetensors"
    assert on_main["config.json"] == "runs/tiny/checkpoints/ckpt_002/config.json"
    assert not any("checkpoints/ckpt_001" in source or "training_state" in path for path, source in on_main.items())


def test_to_replaces_every_namespace_and_no_name(spec: ReleaseSpec) -> None:
    assert (Homes(spec).primary.id, Homes(spec).data("tiny").id) == ("open360/tiny", "open360/tiny-data")
    assert (Homes(spec, "lab").primary, Homes(spec, "lab").data("tiny")) == (MODEL, DATA)


def test_a_run_without_a_repository_needs_to(spec: ReleaseSpec) -> None:
    run = spec.runs[0].model_copy(update={"hub": spec.runs[0].hub.model_copy(update={"model": None, "data": None})})
    bare = spec.model_copy(update={"runs": (run,)})
    with pytest.raises(PlacementError, match="--to ORG"):
        Homes(bare)
    assert (Homes(bare, "lab").primary.id, Homes(bare, "lab").data("tiny").id) == ("lab/tiny", "lab/tiny-data")


def test_a_plan_for_an_empty_hub_uploads_everything_in_one_commit_a_checkpoint(
    spec: ReleaseSpec, manifest: Manifest
) -> None:
    plan = make_plan(spec, manifest, {}, "lab")
    assert set(plan.create) == {MODEL, DATA}
    assert plan.repositories[-1] == plan.primary == MODEL
    by_revision = {(r.repo, r.revision): r for r in plan.revisions}
    for name in ("ckpt_init", "ckpt_000", "ckpt_001", "ckpt_002"):
        assert by_revision[MODEL, name].commits == 1
    assert plan.bytes == sum(p.bytes for p in place(spec, manifest, "lab"))
    assert plan.commits == 4 + 1 + 1 + 1
    assert plan.revisions[-1].repo == MODEL
    assert plan.revisions[-1].revision == "main"
    assert plan.hours > 0


def test_a_plan_for_a_hub_that_has_everything_uploads_nothing(spec: ReleaseSpec, manifest: Manifest) -> None:
    done = make_plan(spec, manifest, remote_of(make_plan(spec, manifest, {}, "lab")), "lab")
    assert done.bytes == 0
    assert not done.create
    assert all(revision.difference.empty and revision.commits == 0 for revision in done.revisions)
    assert all(revision.commit == "c" * 40 for revision in done.revisions)


def test_a_plan_is_the_same_text_and_json_every_time(spec: ReleaseSpec, manifest: Manifest) -> None:
    plans = [make_plan(spec, manifest, {}, "lab") for _ in range(2)]
    assert json.dumps(plans[0].as_json()) == json.dumps(plans[1].as_json())
    console = Console(width=140, record=True, file=None, force_terminal=False)
    with console.capture() as shown:
        console.print(plan_table(plans[0]))
    for text in ("lab/tiny", "ckpt_001", "7", "tag v1.0.0", "7 commits"):
        assert text in shown.get()


def test_a_long_series_is_shown_short(spec: ReleaseSpec, manifest: Manifest) -> None:
    run = manifest.runs[0]
    many = tuple(run.checkpoints[1].model_copy(update={"name": f"more_{i:03d}", "trace": None}) for i in range(300))
    long = manifest.model_copy(update={"runs": (run.model_copy(update={"checkpoints": many}),)})
    plan = make_plan(spec, long, {}, "lab")
    assert plan_table(plan).row_count < 70
    assert plan.hours > 2


def test_left_overs_of_an_older_version_are_deleted_where_they_would_mislead() -> None:
    there = {
        path: RemoteFile(bytes=1, sha256="a" * 64, git_id=None)
        for path in (
            "chunks/old.parquet",
            "model-00001-of-00002.safetensors",
            "LICENSE",
            "images/a.png",
            ".gitattributes",
        )
    }
    on_main = difference([file("model.safetensors")], there, whole=False)
    assert on_main.delete == ("chunks/old.parquet", "model-00001-of-00002.safetensors")
    on_branch = difference([file("model.safetensors")], there, whole=True)
    assert set(on_branch.delete) == set(there) - {".gitattributes"}


names = st.sampled_from(["a", "b", "chunks/c", "d/e"])


@given(
    st.dictionaries(names, st.tuples(st.integers(0, 3), st.sampled_from("ab"))),
    st.dictionaries(names, st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", None]))),
    st.booleans(),
)
def test_applying_a_difference_leaves_none(
    wanted: dict[str, tuple[int, str]], there: dict[str, tuple[int, str | None]], whole: bool
) -> None:
    files = [file(path, size, digest) for path, (size, digest) in wanted.items()]
    remote = {
        path: RemoteFile(bytes=size, sha256=None if digest is None else digest * 64, git_id=None)
        for path, (size, digest) in there.items()
    }
    todo = difference(files, remote, whole=whole)
    assert {f.path for f in todo.upload} | {f.path for f in todo.leave} == set(wanted)
    assert not set(todo.delete) & set(wanted)
    after = {path: entry for path, entry in remote.items() if path not in todo.delete}
    after |= {f.path: RemoteFile(bytes=f.bytes, sha256=f.sha256, git_id=None) for f in todo.upload}
    assert difference(files, after, whole=whole).empty


@given(st.lists(st.integers(0, BYTES_PER_COMMIT), max_size=300))
def test_batches_keep_order_and_bounds(sizes: list[int]) -> None:
    files = [file(f"{index}", size) for index, size in enumerate(sizes)]
    found = list(batches(files))
    assert [f for batch in found for f in batch] == files
    assert all(
        len(b) <= FILES_PER_COMMIT and (len(b) == 1 or sum(f.bytes for f in b) <= BYTES_PER_COMMIT) for b in found
    )


@pytest.mark.parametrize("path", [".git/config", "runs/.cache/x", ".gitattributes", "a/.gitignore", ".DS_Store"])
def test_names_that_the_hub_drops_or_reinterprets_are_refused(path: str) -> None:
    with pytest.raises(PublishRefusedError, match="rename or remove"):
        refuse_what_the_hub_drops([file(path)])


def test_a_folder_of_too_many_entries_is_refused() -> None:
    full = [file(f"runs/{index}") for index in range(MAX_FOLDER_ENTRIES)]
    refuse_what_the_hub_drops(full)
    with pytest.raises(PublishRefusedError, match=r"folder 'runs'.*found 10001"):
        refuse_what_the_hub_drops([*full, file("runs/one/more")])


def test_two_files_for_one_place_a_huge_file_and_a_huge_commit_are_refused() -> None:
    with pytest.raises(PublishRefusedError, match="two files want to be 'a'"):
        refuse_what_the_hub_drops([file("a"), file("a", digest="b")])
    with pytest.raises(PublishRefusedError, match="split it"):
        refuse_what_the_hub_drops([file("a", 501 * 10**9)])
    with pytest.raises(PublishRefusedError, match="in one commit"):
        refuse_what_the_hub_drops([file(f"{i // 1000}/{i}", revision="ckpt") for i in range(25_001)])


def test_all_refusals_are_told_at_once() -> None:
    with pytest.raises(PublishRefusedError) as caught:
        refuse_what_the_hub_drops([file(".gitignore"), file("b", 501 * 10**9)])
    assert len(caught.value.problems) == 2
