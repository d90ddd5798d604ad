"""What a survey of the Hub costs: each thing asked for once, and never again when it is cached; known beforehand."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release import survey as survey_module
from open360.release.budget import Budget, budget_of, known_budget
from open360.release.findings import EvidenceLevel
from open360.release.foreign_target import ForeignTarget
from open360.release.hub import HubAnswerError
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.hub_target import HubTarget
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.pacing import Quota
from open360.release.read_cache import ReadCache
from open360.release.remote_listing import at_once
from open360.release.survey import Survey, decoded_tree, encoded_tree
from open360.release.targets import FolderTarget, Target
from open360.release.validation import validate
from tests.support.big_hub import calls, put_amber, put_own
from tests.support.hub_control import HubControl
from tests.support.hub_folder import HubFolder
from tests.support.page_server import page_server

REPO = Repo(id="lab/model", type="model")
DATA = Repo(id="lab/data", type="dataset")
COUNT = 360


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[HubControl, HubFolder, dict[str, str]]]:
    """A Hub with a model of four branches, of which two hold equal files, and a data repository."""
    folder = HubFolder(tmp_path / "hub")
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    heads = folder.write("lab/model", {name: {**files, "name": name[0].encode()} for name in ("a1", "a2", "b", "c")})
    folder.write("datasets/lab/data", {"main": {"README.md": b"data"}})
    with running_hub(tmp_path / "hub", ["--allow-faults"]) as running:
        yield HubControl(running=running), folder, heads


def test_each_commit_is_listed_once_and_from_the_cache_not_at_all(
    small: tuple[HubControl, HubFolder, dict[str, str]],
) -> None:
    hub, _, heads = small
    wanted = [(REPO, name) for name in ("a1", "a2", "b", "c", "nothing")] + [(DATA, "main"), (REPO, heads["a1"])]
    first = Survey(hub.client())
    hub.count_from_now()
    found = first.revisions(wanted)
    assert first.revisions(wanted) == found
    assert found[REPO, "nothing"] is None
    commits = {heads[name] for name in ("a1", "a2", "b", "c")}
    assert calls(hub.traffic()) == {"list_refs": 2, "list_tree": len(commits) + 1}
    hub.count_from_now()
    assert Survey(hub.client()).revisions(wanted) == found
    assert calls(hub.traffic()) == {"list_refs": 2}


def test_a_damaged_entry_is_asked_for_again_and_mended(
    small: tuple[HubControl, HubFolder, dict[str, str]], own_cache: Path
) -> None:
    hub, _, _ = small
    found = Survey(hub.client()).revision(REPO, "b")
    (entry,) = [path for path in own_cache.rglob("*") if path.is_file()]
    for damage in (b"", b"x" * 40, entry.read_bytes()[:-1], entry.read_bytes() + b" "):
        entry.write_bytes(damage)
        hub.count_from_now()
        assert Survey(hub.client()).revision(REPO, "b") == found
        assert calls(hub.traffic()) == {"list_refs": 1, "list_tree": 1}
    hub.count_from_now()
    assert Survey(hub.client()).revision(REPO, "b") == found
    assert calls(hub.traffic()) == {"list_refs": 1}


def test_a_whole_entry_that_is_no_tree_is_asked_for_again(small: tuple[HubControl, HubFolder, dict[str, str]]) -> None:
    hub, _, heads = small
    survey = Survey(hub.client())
    for wrong in (b"", b"{", b"{}x", b"[[1]]", b'[["a", "b", null, null]]', b'[["a", 1, 2, null]]', b"[" * 100_000):
        survey.cache.keep(survey._tree_key((REPO, heads["b"])), wrong)
        listed = Survey(hub.client()).revision(REPO, "b")
        assert listed is not None
        assert set(listed.files) == {"config.json", "model.safetensors", "name"}


def test_equal_files_of_many_revisions_are_read_once_also_by_many_threads(
    small: tuple[HubControl, HubFolder, dict[str, str]],
) -> None:
    hub, _, _ = small
    survey = Survey(hub.client())
    listed = [survey.revision(REPO, name) for name in ("a1", "a2", "b", "c")] * 8
    hub.count_from_now()
    read = at_once(lambda one: survey.read(one, "config.json", 100), [one for one in listed if one is not None])
    assert read == [b"{}"] * 32
    assert calls(hub.traffic()) == {"resolve_file": 1}


def test_bytes_that_are_not_the_listed_ones_are_not_kept(
    small: tuple[HubControl, HubFolder, dict[str, str]], tmp_path: Path
) -> None:
    hub, folder, _ = small
    survey = Survey(hub.client())
    listed = survey.revision(REPO, "b")
    assert listed is not None
    lie = RemoteFile(bytes=2, sha256="0" * 64, git_id=None)
    assert survey.read_at(REPO, listed.commit, "config.json", 100, lie) == b"{}"
    assert survey.cache.find((hub.url, "model", REPO.id, "0" * 64)) is None
    assert folder.root == tmp_path / "hub"


def test_after_an_error_nothing_more_is_called() -> None:
    asked: list[int] = []
    released = threading.Event()

    def call(number: int) -> int:
        asked.append(number)
        if number == 3:
            raise HubAnswerError("thing", "hub", "wrong")
        released.wait(30)
        return number

    given_up: list[bool] = []
    try:
        with pytest.raises(HubAnswerError):
            at_once(call, range(10_000), give_up=lambda: given_up.append(True))
    finally:
        released.set()
    assert len(asked) < 100
    assert given_up == [True]


def test_a_survey_holds_so_many_files_and_no_more(
    small: tuple[HubControl, HubFolder, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, _, _ = small
    monkeypatch.setattr(survey_module, "MAX_FILES", 8)
    with pytest.raises(HubAnswerError, match="at most 8 files"):
        Survey(hub.client()).revisions([(REPO, name) for name in ("a1", "b", "c")])


def test_progress_tells_every_revision(small: tuple[HubControl, HubFolder, dict[str, str]]) -> None:
    hub, _, _ = small
    told: list[tuple[int, int, str]] = []
    Survey(hub.client(), progress=lambda *what: told.append(what)).revisions([(REPO, n) for n in ("a1", "b", "c")])
    assert [(done, total) for done, total, _ in told] == [(1, 3), (2, 3), (3, 3)]
    assert {text for _, _, text in told} <= {"a1", "b", "c"}


FILES = st.builds(
    RemoteFile,
    bytes=st.integers(0, 1 << 50),
    sha256=st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64)),
    git_id=st.one_of(st.none(), st.text("0123456789abcdef", min_size=40, max_size=40)),
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), FILES, max_size=20))
def test_a_tree_comes_back_from_the_cache_as_it_was(tree: dict[str, RemoteFile]) -> None:
    assert decoded_tree(encoded_tree(tree)) == tree


@given(st.binary(max_size=200))
def test_no_bytes_in_the_cache_break_anything(data: bytes) -> None:
    tree = decoded_tree(data)
    assert tree is None or encoded_tree(tree)


# The cache


def test_a_cache_stays_within_its_bound_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path, max_bytes=64_000)
    for number in range(100):
        cache.keep((str(number),), bytes(1_000))
        path = cache._path((str(number),))
        if path.exists():
            os.utime(path, (number, number))
    cache.prune()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 64_000
    assert cache.find(("99",)) == bytes(1_000)
    assert cache.find(("0",)) is None


def test_what_killed_processes_have_left_is_removed(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path)
    cache.keep(("one",), b"1")
    old, new = (cache._path(("one",)).parent / name for name in ("old.partial", "new.partial"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    cache.prune()
    assert (old.exists(), new.exists(), cache.find(("one",))) == (False, True, b"1")


def test_many_writers_of_one_entry_leave_one_whole_entry(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path)
    at_once(lambda number: cache.keep(("same",), bytes([number % 7]) * 50_000), range(200))
    found = cache.find(("same",))
    assert found is not None
    assert len(found) == 50_000
    assert len(set(found)) == 1
    assert not list(tmp_path.rglob("*.partial"))


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "reads").write_text("in the way")
    cache = ReadCache(tmp_path)
    cache.keep(("one",), b"1")
    assert cache.find(("one",)) is None
    assert not cache.has(("one",))


# Releases of real size: calls are counted, time is not


def _look(target: str, spec: Path | None, hub: HubControl) -> tuple[Target, dict[str, int]]:
    hub.count_from_now()
    opened = open_any_target(target, spec=spec, endpoint=hub.url)
    report = validate(opened, level=EvidenceLevel.LISTED)
    assert report.findings == ()
    assert report.spec_origin is not None or report.checked.listed_files > 12 * COUNT
    return opened, calls(hub.traffic())


def test_amber_in_real_size_costs_one_call_a_revision_and_from_the_cache_two(tmp_path: Path) -> None:
    with page_server() as pages:
        spec = tmp_path / "spec.yaml"
        spec.write_bytes(put_amber(HubFolder(tmp_path / "hub"), pages, COUNT))
        with running_hub(tmp_path / "hub") as running:
            hub = HubControl(running=running)
            _, cold = _look("LLM360/AmberTiny", spec, hub)
            assert cold["list_tree"] <= COUNT + 20
            assert sum(cold.values()) <= COUNT + 20
            opened, warm = _look("LLM360/AmberTiny", spec, hub)
            assert sum(warm.values()) <= 5
            assert isinstance(opened, ForeignTarget)
            assert budget_of(opened).cached == budget_of(opened).revisions == COUNT + 2


def test_a_release_of_our_own_in_real_size_costs_no_more(tmp_path: Path) -> None:
    repo = put_own(HubFolder(tmp_path / "hub"), COUNT)
    with running_hub(tmp_path / "hub") as running:
        hub = HubControl(running=running)
        _, cold = _look(repo, None, hub)
        assert cold["list_tree"] <= COUNT + 20
        assert sum(cold.values()) <= COUNT + 20
        opened, warm = _look(repo, None, hub)
        assert sum(warm.values()) <= 5
        assert isinstance(opened, HubTarget)
        hub.count_from_now()
        assert len(open_any_target(repo, endpoint=hub.url).listing()) > 12 * COUNT
        assert sum(calls(hub.traffic()).values()) <= 2


# The budget


@given(st.integers(0, 50), st.integers(0, 10_000), st.data(), st.sampled_from([None, 20, 500, 1_000]))
def test_a_budget_is_counts_of_what_is_wanted_less_what_is_cached(
    repositories: int, revisions: int, data: st.DataObject, calls_allowed: int | None
) -> None:
    cached = data.draw(st.integers(0, revisions))
    quota = Quota(calls=calls_allowed, seconds=300) if calls_allowed is not None else None
    budget = Budget(repositories=repositories, revisions=revisions, cached=cached, quota=quota)
    assert budget.calls == repositories + revisions - cached
    if budget.seconds is not None and calls_allowed is not None:
        assert budget.seconds * calls_allowed >= budget.calls * 300
        assert budget.seconds <= (budget.calls // calls_allowed + 1) * 300


def test_a_budget_is_said_in_one_line() -> None:
    quota = Quota(calls=500, seconds=300)
    assert str(Budget(repositories=12, revisions=360, cached=0, quota=quota)) == (
        "12 repositories, 360 revisions: about 372 calls, "
        "under 5 minutes at the Hub's quota of 500 per 5 minutes; cached: 0"
    )
    assert "under 40 minutes" in str(Budget(repositories=1, revisions=3_600, cached=0, quota=quota))
    assert "under 6.0 hours" in str(Budget(repositories=1, revisions=35_999, cached=0, quota=quota))
    assert str(Budget(repositories=1, revisions=1, cached=1, quota=None)) == (
        "1 repository, 1 revision: about 1 call; cached: 1"
    )


def test_a_folder_has_no_budget(tmp_path: Path) -> None:
    assert known_budget(FolderTarget(tmp_path)) is None
