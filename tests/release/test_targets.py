"""Folders as targets, and the choice between a folder and the Hub."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.hub import HubUnavailableError
from open360.release.hub_target import NotVisibleError, newest_version, version_key
from open360.release.targets import (
    FileBoundsError,
    FolderTarget,
    MissingFileError,
    TargetError,
    UnsafePathError,
    open_target,
)
from open360.schema.manifest import FileRecord
from open360.schema.serialization import load_manifest
from tests.release.conftest import PublishedRelease
from tests.support.hub_control import HubControl


def test_a_folder_is_read_by_release_paths(tiny: Path) -> None:
    target = open_target(str(tiny))
    assert isinstance(target, FolderTarget)
    assert target.spec_bytes() == (tiny / "release.yaml").read_bytes()
    assert target.manifest_bytes() == (tiny / "manifest.json").read_bytes()
    assert target.read_range("release.yaml", 2, 9) == (tiny / "release.yaml").read_bytes()[2:9]
    assert target.local_path("release.yaml") == (tiny / "release.yaml").resolve()


def test_a_listing_of_a_folder_has_every_file_of_the_manifest_with_its_size(tiny: Path) -> None:
    listing = FolderTarget(tiny).listing()
    manifest = load_manifest((tiny / "manifest.json").read_bytes())
    for record in manifest.all_files():
        assert listing[record.path].bytes == record.bytes
        assert listing[record.path].sha256 is None


def test_a_listing_of_a_folder_leaves_out_what_is_no_part_of_the_release(tiny: Path) -> None:
    (tiny / "src").mkdir()
    (tiny / "src" / "train.py").write_text("pass")
    (tiny / "runs" / ".hidden").write_text("")
    (tiny / "records").mkdir()
    (tiny / "records" / "host.json").write_text("{}")
    (tiny / "runs" / "tiny" / "notes.txt").write_text("of the release")
    listing = FolderTarget(tiny).listing()
    assert "runs/tiny/notes.txt" in listing
    assert not {"src/train.py", "runs/.hidden", "records/host.json"} & set(listing)


def test_a_file_larger_than_the_reader_takes_is_refused(tiny: Path) -> None:
    with pytest.raises(FileBoundsError, match="at most 10 bytes"):
        FolderTarget(tiny).read("release.yaml", 10)


@pytest.mark.parametrize(("begin", "end"), [(0, 10**9), (5, 4), (-1, 4)])
def test_a_range_outside_the_file_is_refused(tiny: Path, begin: int, end: int) -> None:
    with pytest.raises(FileBoundsError):
        FolderTarget(tiny).read_range("release.yaml", begin, end)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "runs/../../secret", "", "a//b", "~/x", "a\\b", "a\0b"])
def test_a_path_that_leaves_the_folder_is_refused(tiny: Path, path: str) -> None:
    with pytest.raises(UnsafePathError):
        FolderTarget(tiny).read(path, 100)


def test_a_link_that_leaves_the_folder_is_refused_and_not_listed(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tiny / "runs" / "link.json").symlink_to(tmp_path / "secret")
    (tiny / "corpora" / "folder").symlink_to(tmp_path)
    target = FolderTarget(tiny)
    for path in ("runs/link.json", "corpora/folder/secret"):
        with pytest.raises(UnsafePathError):
            target.read(path, 100)
        assert path not in target.listing()


def test_a_link_inside_the_folder_is_followed(tiny: Path) -> None:
    (tiny / "runs" / "link.yaml").symlink_to(tiny / "release.yaml")
    assert FolderTarget(tiny).read("runs/link.yaml", 10_000) == (tiny / "release.yaml").read_bytes()


def test_a_loop_of_links_is_an_error_of_ours(tiny: Path) -> None:
    (tiny / "runs" / "a").symlink_to(tiny / "runs" / "b")
    (tiny / "runs" / "b").symlink_to(tiny / "runs" / "a")
    with pytest.raises(TargetError):
        FolderTarget(tiny).read("runs/a", 100)


def test_a_missing_file_is_named(tiny: Path) -> None:
    with pytest.raises(MissingFileError, match=r"runs/tiny/nothing\.json"):
        FolderTarget(tiny).read("runs/tiny/nothing.json", 100)


def test_a_folder_without_a_spec_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="open360 init"):
        FolderTarget(tmp_path).spec_bytes()
    assert FolderTarget(tmp_path).manifest_bytes() is None


def test_an_unreadable_manifest_does_not_hide_the_listing(tiny: Path) -> None:
    (tiny / "manifest.json").write_text("{")
    assert "release.yaml" in FolderTarget(tiny).listing()


def test_a_download_from_a_folder_is_a_copy(tiny: Path, tmp_path: Path) -> None:
    data = (tiny / "code.json").read_bytes()
    record = FileRecord(path="code.json", bytes=len(data), sha256="0" * 64)
    copy = FolderTarget(tiny).download(record, tmp_path / "out")
    assert copy == tmp_path / "out" / "code.json"
    assert copy.read_bytes() == data
    with pytest.raises(FileBoundsError):
        FolderTarget(tiny).download(record.model_copy(update={"bytes": 1}), tmp_path / "out")


@pytest.mark.parametrize("text", ["no-such-folder", "./nothing", "a/b/c", ""])
def test_what_is_neither_a_folder_nor_a_repository_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text == "":
        text = "x y"
    with pytest.raises(TargetError, match="found neither"):
        open_target(text)


def test_a_folder_comes_before_a_repository_of_that_name(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny.parent / "lab").mkdir()
    tiny.rename(tiny.parent / "lab" / "tiny")
    monkeypatch.chdir(tiny.parent)
    assert isinstance(open_target("lab/tiny", endpoint="http://127.0.0.1:9"), FolderTarget)


def test_the_hub_lists_and_serves_what_the_folder_holds(published: PublishedRelease) -> None:
    target = open_target(published.repo, endpoint=published.hub.url)
    folder = FolderTarget(published.root)
    there, here = target.listing(), folder.listing()
    assert set(there) == set(here)
    manifest = load_manifest((published.root / "manifest.json").read_bytes())
    for record in manifest.all_files():
        assert there[record.path].bytes == record.bytes
        assert there[record.path].sha256 in (None, record.sha256)
        assert target.read(record.path, record.bytes) == folder.read(record.path, record.bytes)
    assert any(file.sha256 is not None for file in there.values())
    assert target.local_path("release.yaml") is None


def test_a_listing_of_the_hub_costs_one_tree_call_a_revision(published: PublishedRelease) -> None:
    target = open_target(published.repo, endpoint=published.hub.url)
    published.hub.count_from_now()
    target.listing()
    trees = sum(entry["count"] for entry in published.hub.traffic() if "/tree/" in entry["path"])
    assert trees == 4 + 1 + 1  # checkpoints, data, main


def test_files_of_a_revision_that_the_manifest_does_not_name_are_listed(published: PublishedRelease) -> None:
    target = open_target(published.repo, endpoint=published.hub.url)
    data = json.loads(target.read("manifest.json", 1 << 20))
    checkpoint = data["runs"][0]["checkpoints"][0]
    checkpoint["files"] = checkpoint["files"][:1]
    target.__dict__["manifest"] = load_manifest(json.dumps(data).encode())
    assert f"{checkpoint['folder']}/model.safetensors" in target.listing()


def test_a_file_that_the_hub_does_not_have_is_missing_as_in_a_folder(published: PublishedRelease) -> None:
    target = open_target(published.repo, endpoint=published.hub.url)
    with pytest.raises(MissingFileError):
        target.read("runs/tiny/nothing.json", 100)
    with pytest.raises(UnsafePathError):
        target.read("../x", 100)


def test_a_release_is_opened_at_a_tag_or_a_commit(published: PublishedRelease) -> None:
    by_tag = open_target(published.repo, tag="v1.0.0", endpoint=published.hub.url)
    assert by_tag.label == "lab/tiny@v1.0.0"
    commit = published.hub.client().refs(by_tag.repo).tags["v1.0.0"]  # type: ignore[attr-defined]
    published.hub.count_from_now()
    by_commit = open_target(published.repo, tag=commit, endpoint=published.hub.url)
    assert not published.hub.traffic()
    assert by_commit.spec_bytes() == by_tag.spec_bytes()


def test_a_repository_without_a_version_tag_shows_no_release(hub: HubControl) -> None:
    from open360.release.hub_objects import Repo

    client, repo = hub.client(), Repo(id="lab/tiny", type="model")
    client.create_repo(repo, private=False)
    with pytest.raises(NotVisibleError, match="no release is visible"):
        open_target("lab/tiny", endpoint=hub.url)
    client.create_tag(repo, "draft", client.commit_of(repo, "main"), "")
    with pytest.raises(NotVisibleError):
        open_target("lab/tiny", endpoint=hub.url)
    with pytest.raises(NotVisibleError, match=r"expected the tag 'v2\.0\.0', found draft"):
        open_target("lab/tiny", tag="v2.0.0", endpoint=hub.url)
    assert open_target("lab/tiny", tag="draft", endpoint=hub.url).manifest_bytes() is None


def test_a_hub_that_is_down_is_an_error_that_says_so() -> None:
    with pytest.raises(HubUnavailableError, match="see that the Hub is up"):
        open_target("lab/tiny", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("tags", "newest"),
    [
        (["v1.2.0", "v1.10.0", "v1.9.9"], "v1.10.0"),
        (["v1.0.0", "v2.0.0-rc.1"], "v1.0.0"),
        (["v1.0.0-rc.2", "v1.0.0-rc.10", "v1.0.0-alpha"], "v1.0.0-rc.10"),
        (["draft", "1.0.0", "v01.0.0", "v1.0"], None),
        ([], None),
    ],
)
def test_the_newest_version_follows_semver(tags: list[str], newest: str | None) -> None:
    assert newest_version(tags) == newest


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)), min_size=1))
def test_the_newest_version_is_the_greatest_triple(versions: list[tuple[int, int, int]]) -> None:
    tags = [f"v{a}.{b}.{c}" for a, b, c in versions]
    assert newest_version(tags) == "v{}.{}.{}".format(*max(versions))


def test_precedence_of_pre_releases_is_that_of_the_semver_specification() -> None:
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    order += ["1.0.0-rc.1", "1.0.0"]
    keys = [version_key(f"v{version}") for version in order]
    assert all(a is not None and b is not None and a < b for a, b in itertools.pairwise(keys))
