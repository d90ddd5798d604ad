"""Differences of two releases: laws on any contents, and releases in folders, published, and of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from open360.release.cli.main import cli
from open360.release.differences import Comparison, Difference, compare, comparison_text, is_same
from open360.release.hub_objects import RemoteFile
from open360.release.publishing import publish
from open360.release.release_contents import ReleaseContents, ReleasePart, fields_of
from open360.schema.serialization import load_spec
from tests.release.conftest import PublishedRelease
from tests.support.hub_control import QUICK, HubControl
from tests.support.hub_folder import Content, HubFolder

NAMES = st.sampled_from(["a", "b", "c", "model.safetensors", "config.json"])
REMOTE_FILES = st.builds(
    RemoteFile,
    bytes=st.integers(0, 3),
    sha256=st.one_of(st.none(), st.sampled_from(["1" * 64, "2" * 64])),
    git_id=st.one_of(st.none(), st.sampled_from(["3" * 40, "4" * 40])),
)
FILES = st.dictionaries(NAMES, REMOTE_FILES, max_size=4)
PARTS = st.lists(
    st.builds(
        ReleasePart,
        group=st.sampled_from(["run", "other"]),
        name=st.sampled_from(["step1", "step2", "step3"]),
        files=FILES,
        facts=st.dictionaries(st.sampled_from(["step", "tokens"]), st.integers(0, 2)),
    ),
    max_size=5,
    unique_by=lambda part: (part.group, part.name),
).map(tuple)
CONTENTS = st.builds(
    ReleaseContents,
    label=st.sampled_from(["one", "two"]),
    fields=st.dictionaries(
        st.sampled_from(["name", "runs/a/batch"]), st.one_of(st.integers(0, 2), st.lists(st.text()))
    ),
    checkpoints=PARTS,
    chunks=PARTS,
    files=FILES,
)


@given(contents=CONTENTS)
def test_a_release_does_not_differ_from_itself(contents: ReleaseContents) -> None:
    assert compare(contents, contents).differences == ()


@given(first=CONTENTS, second=CONTENTS)
def test_comparing_the_other_way_round_mirrors_the_differences(first: ReleaseContents, second: ReleaseContents) -> None:
    there, back = compare(first, second), compare(second, first)
    assert back == there.mirrored()
    assert back.mirrored() == there


@given(first=CONTENTS, second=CONTENTS)
def test_every_file_is_told_of_once(first: ReleaseContents, second: ReleaseContents) -> None:
    told = [d for d in compare(first, second).differences if d.thing == "file" and d.within is None]
    before = [d.name for d in told if d.change != "extra"]
    after = [d.after if d.change == "renamed" else d.name for d in told if d.change != "missing"]
    assert len(before) == len(set(before))
    assert len(after) == len(set(after))
    assert set(before) >= first.files.keys() - second.files.keys()
    assert set(after) >= second.files.keys() - first.files.keys()


@given(first=CONTENTS, second=CONTENTS)
def test_any_comparison_can_be_told(first: ReleaseContents, second: ReleaseContents) -> None:
    comparison = compare(first, second)
    assert comparison_text(comparison).count("\n") >= len(comparison.differences) + 2
    assert len(json.loads(json.dumps(comparison.plain()))["differences"]) == len(comparison.differences)


@given(files=FILES, path=NAMES, to=st.sampled_from(["x", "y"]))
def test_a_rename_is_told_as_a_rename(files: dict[str, RemoteFile], path: str, to: str) -> None:
    moved = RemoteFile(bytes=5, sha256="5" * 64, git_id=None)
    first, second = held({**files, path: moved}), held({**{k: v for k, v in files.items() if k != path}, to: moved})
    (renamed,) = compare(first, second).differences
    assert (renamed.change, renamed.name, renamed.after) == ("renamed", path, to)


def held(files: dict[str, RemoteFile], checkpoints: tuple[ReleasePart, ...] = ()) -> ReleaseContents:
    return ReleaseContents(label="x", fields={}, checkpoints=checkpoints, chunks=(), files=files)


def large(digit: str, size: int = 5) -> RemoteFile:
    return RemoteFile(bytes=size, sha256=digit * 64, git_id=None)


def test_a_checkpoint_is_known_by_its_weights_under_another_name() -> None:
    config, other = RemoteFile(bytes=2, sha256=None, git_id="1" * 40), RemoteFile(bytes=2, sha256=None, git_id="2" * 40)
    first = ReleasePart(group="run", name="a", files={"model.safetensors": large("1"), "config.json": config})
    second = ReleasePart(group="run", name="b", files={"model.safetensors": large("1"), "config.json": other})
    found = [(d.change, d.thing, d.name) for d in compare(held({}, (first,)), held({}, (second,))).differences]
    assert found == [("renamed", "checkpoint", "a"), ("altered", "file", "config.json")]


def test_the_name_of_the_only_run_does_not_matter() -> None:
    first = ReleasePart(group="model", name="step1", files={"model.safetensors": large("1")}, facts={"step": 1})
    second = ReleasePart(group="mirror", name="step1", files={"model.safetensors": large("1")}, facts={"step": 2})
    (found,) = compare(held({}, (first,)), held({}, (second,))).differences
    assert (found.change, found.thing, found.name, found.within, found.before, found.after) == (
        "altered",
        "field",
        "step",
        "step1",
        1,
        2,
    )


def test_what_two_sides_know_by_different_digests_is_said_not_to_be_compared() -> None:
    small, stored_large = RemoteFile(bytes=2, sha256=None, git_id="1" * 40), large("1", 2)
    assert is_same(small, stored_large) is None
    assert is_same(small, RemoteFile(bytes=2, sha256="1" * 64, git_id="2" * 40)) is None
    assert is_same(small, RemoteFile(bytes=3, sha256=None, git_id=None)) is False
    comparison = compare(held({"a": small}), held({"a": stored_large}))
    assert comparison.differences == ()
    assert "1 file of equal size" in comparison.unsaid[0]


def test_fields_of_a_spec_go_by_the_names_of_things() -> None:
    spec = load_spec(b"{open360: 1, name: a, runs: [{name: r, objective: pretrain, batch: 8}], links: []}")
    fields = fields_of(spec)
    assert fields["runs/r/batch"] == 8
    assert fields["runs/r/objective"] == "pretrain"


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["diff", *words])
    assert result.exit_code in (0, 1), (result.output, result.exception)
    return result.exit_code, result.output


def read(*words: str) -> Comparison:
    code, text = run(*words, "--json")
    plain = json.loads(text)
    found = tuple(Difference(**difference) for difference in plain["differences"])
    assert code == (1 if found else 0)
    assert sum(plain["counts"].values()) == len(found)
    return Comparison(first=plain["first"], second=plain["second"], differences=found, equal=plain["equal"])


def told(comparison: Comparison) -> list[tuple[str, str, str]]:
    return [(d.change, d.thing, d.name if d.within is None else f"{d.within}/{d.name}") for d in comparison.differences]


def test_a_folder_equals_itself_and_its_published_release(
    tiny: Path, published: PublishedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", published.hub.url)
    assert run(str(tiny), str(tiny))[0] == 0
    comparison = read(str(tiny), published.repo)
    assert comparison.differences == ()
    assert comparison.equal["checkpoint"] > 1


def test_what_was_done_to_a_folder_is_told(tiny: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(tiny, tmp_path / "changed"))
    manifest = json.loads((changed / "manifest.json").read_text())
    run_record = manifest["runs"][0]
    first, second = (changed / checkpoint["folder"] for checkpoint in run_record["checkpoints"][:2])
    (first / "config.json").write_text("{}")
    shutil.rmtree(second)
    name = run_record["name"]
    (changed / run_record["chunks"][0]["file"]["path"]).unlink()
    spec = changed / "release.yaml"
    spec.write_text(spec.read_text().replace("version: 1.0.0", "version: 1.0.1") + "\ncitation: none\n")

    comparison = read(str(tiny), str(changed))
    found = told(comparison)
    assert ("extra", "field", "citation") in found
    assert ("missing", "checkpoint", run_record["checkpoints"][1]["name"]) in found
    assert ("altered", "file", f"{run_record['checkpoints'][0]['name']}/config.json") in found
    assert ("missing", "file", f"{run_record['chunks'][0]['name']}/chunk") in found
    assert name
    assert comparison.mirrored().differences == read(str(changed), str(tiny)).differences


def test_two_versions_are_compared_by_tag(tiny: Path, hub: HubControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    publish(tiny, hub.client(), to="lab", patience=QUICK)
    tag = json.loads((tiny / "manifest.json").read_text())["version"]
    assert run(f"lab/tiny@v{tag}", "lab/tiny")[0] == 0
    assert run("lab/tiny", "lab/tiny", "--tag-a", f"v{tag}")[0] == 0
    wrong = CliRunner().invoke(cli, ["diff", f"lab/tiny@v{tag}", "lab/tiny", "--tag-a", "v9.9.9"])
    assert wrong.exit_code == 2
    missing = CliRunner().invoke(cli, ["diff", "lab/tiny@v9.9.9", "lab/tiny"])
    assert missing.exception is not None


def revisions(*steps: int) -> dict[str, dict[str, Content]]:
    found: dict[str, dict[str, Content]] = {
        f"step{step}": {"config.json": b"{}", "model.safetensors": b"weights %d" % step} for step in steps
    }
    return {"main": found[f"step{steps[-1]}"], **found}


def test_a_release_of_others_equals_its_mirror(hub: HubControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    folder = HubFolder(hub.running.directory)
    folder.write("lab/model", revisions(1, 2, 3))
    folder.write("mirror/model", revisions(1, 2, 3))
    code, text = run("lab/model", "mirror/model")
    assert code == 0, text
    assert "equal: 0 fields, 4 checkpoints" in text


def test_a_bad_mirror_of_others_is_told_from_listings_alone(hub: HubControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    folder = HubFolder(hub.running.directory)
    folder.write("lab/model", revisions(1, 2, 3, 4))
    bad = revisions(1, 2, 3, 4)
    bad["step2"] = {**bad["step2"], "config.json": b"[]"}
    bad["step3"] = {**bad["step3"], "model.safetensors": b"weights 4"}
    bad["ckpt-1"] = bad.pop("step1")
    bad["more"] = {"README.md": b"x"}
    folder.write("mirror/copy", bad)
    hub.count_from_now()
    comparison = read("lab/model", "mirror/copy")
    assert told(comparison) == [
        ("extra", "checkpoint", "more"),
        ("renamed", "checkpoint", "step1"),
        ("altered", "file", "step2/config.json"),
        ("altered", "file", "step3/model.safetensors"),
    ]
    assert not any(call["path"].endswith(".safetensors") for call in hub.traffic())
    assert told(comparison.mirrored()) == told(read("mirror/copy", "lab/model"))
