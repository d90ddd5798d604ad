"""Publishing against a Hub that fails: whole or invisible, never twice, never half."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from open360.release.hub import (
    Hub,
    HubAuthError,
    HubConflictError,
    HubNotFoundError,
    HubRateLimitedError,
    HubUnavailableError,
)
from open360.release.hub_objects import RemoteFile, Repo, Upload, git_id_of
from open360.release.hub_patience import Patience
from open360.release.hub_target import HubTarget, NotVisibleError
from open360.release.local_hub import running_hub
from open360.release.publishing import PublishRefusedError, PublishResult, publish
from open360.release.targets import open_target
from open360.schema.errors import IntegrityError
from open360.schema.manifest import Manifest
from open360.schema.serialization import load_manifest
from tests.support.hub_control import QUICK, HubControl
from tests.support.tiny_release import write_manifest

MODEL, DATA = Repo(id="lab/tiny", type="model"), Repo(id="lab/tiny-data", type="dataset")
CHECKPOINTS = ["ckpt_init", "ckpt_000", "ckpt_001", "ckpt_002"]


def run(folder: Path, hub: HubControl, **settings: object) -> PublishResult:
    return publish(folder, hub.client(), to="lab", patience=QUICK, **settings)  # type: ignore[arg-type]


def visible(hub: HubControl) -> bool:
    try:
        open_target("lab/tiny", endpoint=hub.url)
    except (NotVisibleError, HubNotFoundError):
        return False
    return True


def history(client: Hub, repo: Repo, revision: str) -> int:
    return len(client._api.list_repo_commits(repo.id, repo_type=repo.type, revision=revision))


def check_complete(folder: Path, hub: HubControl, *, commits: dict[str, int] | None = None) -> Manifest:
    """Every file of the local manifest is on the Hub under the commit that the published one names."""
    local = load_manifest((folder / "manifest.json").read_bytes())
    target = open_target("lab/tiny", endpoint=hub.url)
    assert isinstance(target, HubTarget)
    client = hub.client()
    trees: dict[tuple[Repo, str], dict[str, RemoteFile]] = {}
    for record in local.all_files():
        repo, commit, path = target.locate(record.path)
        tree = trees.setdefault((repo, commit), client.tree(repo, commit))
        if tree[path].sha256 is not None:
            assert tree[path].sha256 == record.sha256, record.path
        else:
            assert tree[path].git_id == git_id_of((folder / record.path).read_bytes()), record.path
    for checkpoint in target.manifest.runs[0].checkpoints:
        assert checkpoint.published is not None
        there = set(trees[MODEL, checkpoint.published.commit]) - {".gitattributes"}
        assert there == {file.path for file in checkpoint.files}
    for name, count in (commits or {}).items():
        assert history(client, MODEL, name) == count, name
    assert all("v1.0.0" in client.refs(repo).tags for repo in (MODEL, DATA))
    return target.manifest


def test_a_release_is_published_and_a_second_time_nothing_is_changed(tiny: Path, hub: HubControl) -> None:
    first = run(tiny, hub)
    assert first.changed
    manifest = check_complete(tiny, hub, commits=dict.fromkeys(CHECKPOINTS, 2))
    assert first.manifest == manifest
    assert manifest.published is not None
    assert manifest.published.primary == "lab/tiny"
    refs = {repo: hub.client().refs(repo) for repo in (MODEL, DATA)}
    hub.count_from_now()
    second = run(tiny, hub)
    assert not second.changed
    assert second.manifest == manifest
    assert second.plan.complete
    assert second.plan.bytes == second.plan.commits == 0
    assert hub.writes() == 0
    assert {repo: hub.client().refs(repo) for repo in (MODEL, DATA)} == refs


def test_the_published_manifest_is_the_built_one_plus_commits(tiny: Path, hub: HubControl) -> None:
    run(tiny, hub)
    built = json.loads((tiny / "manifest.json").read_text())
    target = open_target("lab/tiny", endpoint=hub.url)
    published = json.loads(target.manifest_bytes() or b"")
    places = {entry["repo"]: entry for entry in published["published"]["repositories"]}
    refs = hub.client().refs(MODEL)
    for record in published["runs"][0]["checkpoints"]:
        assert record.pop("published")["commit"] == refs.branches[record["name"]]
    for record in published["runs"][0]["chunks"]:
        assert record.pop("published")["commit"] == places["lab/tiny-data"]["commit"]
    assert published.pop("published")["tag"] == "v1.0.0"
    assert {**published, "form": "built"} == built


def test_a_checkpoint_branch_starts_at_the_first_commit_and_holds_its_own_files_only(
    tiny: Path, hub: HubControl
) -> None:
    run(tiny, hub)
    client = hub.client()
    for name in CHECKPOINTS:
        commits = client._api.list_repo_commits("lab/tiny", revision=name)
        assert commits[-1].commit_id == client.first_commit(MODEL)
        assert len(commits) == 2
        assert "release.yaml" not in client.tree(MODEL, commits[0].commit_id)


def test_the_last_checkpoint_loads_from_main_without_a_revision(tiny: Path, hub: HubControl) -> None:
    run(tiny, hub)
    client = hub.client()
    on_main = client.tree(MODEL, client.refs(MODEL).branches["main"])
    on_branch = client.tree(MODEL, client.refs(MODEL).branches["ckpt_002"])
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert on_main[name] == on_branch[name]
    assert not any(path.startswith("training_state") for path in on_main)


def test_the_git_commit_of_the_folder_is_recorded_with_its_dirt(tiny: Path, hub: HubControl) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", str(tiny), *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "release")
    (tiny / "notes.txt").write_text("not committed")
    published = run(tiny, hub).manifest
    assert published is not None
    assert published.published is not None
    assert published.published.code_commit == git("rev-parse", "HEAD")
    assert published.published.code_swhid == f"swh:1:rev:{published.published.code_commit}"
    assert published.published.dirty is True


def test_a_dry_run_changes_nothing(tiny: Path, hub: HubControl) -> None:
    result = run(tiny, hub, dry_run=True)
    assert not result.changed
    assert result.manifest is None
    assert result.plan.commits == 7
    with pytest.raises(HubNotFoundError):
        hub.client().refs(MODEL)
    assert hub.writes() == 0


def test_records_and_the_report_are_published_and_are_no_part_of_the_version(tiny: Path, hub: HubControl) -> None:
    (tiny / "report.json").write_text('{"report_version": 1}\n')
    (tiny / "records").mkdir()
    (tiny / "records" / "train.json").write_text('{"cpu": "one"}\n')
    run(tiny, hub)
    target = open_target("lab/tiny", endpoint=hub.url)
    assert target.read("records/train.json", 100) == b'{"cpu": "one"}\n'
    assert target.read("report.json", 100) == b'{"report_version": 1}\n'
    (tiny / "records" / "train.json").write_text('{"cpu": "another"}\n')
    assert not run(tiny, hub).changed


def test_progress_ends_with_every_byte_done(tiny: Path, hub: HubControl) -> None:
    told: list[tuple[int, int, str]] = []
    result = run(tiny, hub, progress=lambda *entry: told.append(entry))
    assert told[-1][0] == told[-1][1] >= result.plan.bytes
    assert [entry[0] for entry in told] == sorted(entry[0] for entry in told)


# Refusals


def test_a_release_with_errors_is_refused_before_anything_is_asked(tiny: Path, hub: HubControl) -> None:
    with pytest.raises(PublishRefusedError, match="2 errors"):
        run(tiny, hub, report_errors=2)
    assert not hub.traffic()


def test_a_folder_without_a_manifest_or_with_a_stale_one_is_refused(tiny: Path, hub: HubControl) -> None:
    with (tiny / "release.yaml").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(PublishRefusedError, match="changed since"):
        run(tiny, hub)
    (tiny / "manifest.json").unlink()
    with pytest.raises(PublishRefusedError, match="dvc repro"):
        run(tiny, hub)


def test_missing_and_resized_files_are_refused_at_once_with_their_names(tiny: Path, hub: HubControl) -> None:
    (tiny / "runs/tiny/checkpoints/ckpt_001/model.safetensors").unlink()
    with (tiny / "runs/tiny/chunks/chunk_000.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(PublishRefusedError) as caught:
        run(tiny, hub)
    assert len(caught.value.problems) == 2
    assert hub.writes() == 0


@pytest.mark.parametrize(
    "path", ["runs/tiny/checkpoints/ckpt_001/model.safetensors", "runs/tiny/traces/ckpt_001.jsonl", "code.json"]
)
def test_a_flipped_byte_is_found_as_it_is_sent_and_nothing_becomes_visible(
    tiny: Path, hub: HubControl, path: str
) -> None:
    data = bytearray((tiny / path).read_bytes())
    data[-3] ^= 1
    (tiny / path).write_bytes(data)
    with pytest.raises(IntegrityError, match="dvc repro"):
        run(tiny, hub)
    assert not visible(hub)


def test_a_small_file_that_changed_after_publishing_is_told_as_local(tiny: Path, hub: HubControl) -> None:
    run(tiny, hub)
    path = tiny / "runs/tiny/traces/ckpt_001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(IntegrityError, match=r"traces/ckpt_001\.jsonl.*dvc repro"):
        run(tiny, hub)


def test_other_content_under_an_existing_version_is_refused(tiny: Path, hub: HubControl) -> None:
    run(tiny, hub)
    (tiny / "constraints.txt").write_text("numpy==2.4.7\n")
    write_manifest(tiny)
    before = hub.client().refs(MODEL)
    with pytest.raises(PublishRefusedError, match=r"v1\.0\.0 already.*\n.*raise 'version'"):
        run(tiny, hub)
    assert hub.client().refs(MODEL) == before


def test_a_file_that_the_hub_would_drop_is_refused_in_the_plan(tiny: Path, hub: HubControl) -> None:
    (tiny / "corpora/words/tokenizer/.gitattributes").write_text("* -text\n")
    manifest = json.loads((tiny / "manifest.json").read_text())
    record = {
        "path": "corpora/words/tokenizer/.gitattributes",
        "bytes": 8,
        "sha256": hashlib.sha256(b"* -text\n").hexdigest(),
    }
    manifest["files"].append(record)
    (tiny / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PublishRefusedError, match="gitattributes"):
        run(tiny, hub)


# A later version


def test_a_later_version_appends_commits_where_something_changed_and_the_older_one_stays(
    tiny: Path, hub: HubControl
) -> None:
    first = run(tiny, hub).manifest
    assert first is not None
    spec = (tiny / "release.yaml").read_text().replace("version: 1.0.0", "version: 1.1.0")
    (tiny / "release.yaml").write_text(spec)
    extra = tiny / "runs/tiny/checkpoints/ckpt_001/notes.json"
    extra.write_text("{}")
    (tiny / "corpora/words/extra.json").write_text("{}")
    write_manifest(tiny)
    second = run(tiny, hub)
    assert second.changed
    changed = {r.revision for r in second.plan.revisions if r.repo == MODEL and not r.difference.empty}
    assert changed == {"ckpt_001", "main"}
    client = hub.client()
    assert [history(client, MODEL, name) for name in CHECKPOINTS] == [2, 2, 3, 2]
    old = open_target("lab/tiny", tag="v1.0.0", endpoint=hub.url)
    assert isinstance(old, HubTarget)
    assert old.manifest == first
    assert "runs/tiny/checkpoints/ckpt_001/notes.json" not in old.listing()
    new = open_target("lab/tiny", endpoint=hub.url)
    assert new.label == "lab/tiny@v1.1.0"
    assert "runs/tiny/checkpoints/ckpt_001/notes.json" in new.listing()
    extra.unlink()
    (tiny / "release.yaml").write_text(spec.replace("version: 1.1.0", "version: 1.2.0"))
    (tiny / "corpora/words/extra.json").unlink()
    write_manifest(tiny)
    run(tiny, hub)
    newest = open_target("lab/tiny", endpoint=hub.url).listing()
    assert "runs/tiny/checkpoints/ckpt_001/notes.json" not in newest
    assert "corpora/words/extra.json" not in newest


# A tree of runs


def add_child_run(folder: Path, hub: str = "{model: open360/chat, data: open360/chat-data}") -> None:
    """Give the release a second run that starts from the first, with data and repositories of its own."""
    text = (folder / "release.yaml").read_text()
    begin, end = text.index("  - name: tiny\n    objective"), text.index("evaluations:")
    child = text[begin:end].replace("name: tiny", "name: chat").replace("runs/tiny/", "runs/chat/")
    child = child.replace("{model: open360/tiny, data: open360/tiny-data}", hub)
    child = child.replace("    objective: pretrain\n", "    objective: pretrain\n    parent: {run: tiny, step: 6}\n")
    (folder / "release.yaml").write_text(text[:end] + child + text[end:])
    shutil.copytree(folder / "runs/tiny", folder / "runs/chat")
    write_manifest(folder)


def test_every_run_of_a_tree_is_published_in_repositories_of_its_own(tiny: Path, hub: HubControl) -> None:
    add_child_run(tiny)
    assert run(tiny, hub).changed
    client, local = hub.client(), load_manifest((tiny / "manifest.json").read_bytes())
    target = open_target("lab/tiny", endpoint=hub.url)
    assert set(target.listing()) >= {record.path for record in local.all_files()}
    for record in local.all_files():
        assert target.read(record.path, record.bytes) == (tiny / record.path).read_bytes(), record.path
    repos = [MODEL, DATA, Repo(id="lab/chat", type="model"), Repo(id="lab/chat-data", type="dataset")]
    assert all("v1.0.0" in client.refs(repo).tags for repo in repos)
    card = client.read(repos[2], client.commit_of(repos[2], "main"), "README.md", 1 << 20)
    assert b'base_model: "lab/tiny"' in card
    assert not any(path.startswith("corpora/") for path in client.tree(repos[3], client.commit_of(repos[3], "main")))
    hub.count_from_now()
    assert not run(tiny, hub).changed
    assert hub.writes() == 0


def test_two_runs_that_would_write_over_each_other_are_refused(tiny: Path, hub: HubControl) -> None:
    add_child_run(tiny, "{model: open360/tiny, data: open360/tiny-data}")
    with pytest.raises(PublishRefusedError, match="two files want to be"):
        run(tiny, hub)
    assert hub.writes() == 0


# Failures on the way


def test_a_refused_token_is_an_error_and_nothing_is_visible(tiny: Path, hub: HubControl) -> None:
    hub.fault("status", "/commit/", status=401)
    with pytest.raises(HubAuthError, match="HF_TOKEN"):
        run(tiny, hub)
    assert not visible(hub)
    run(tiny, hub)
    check_complete(tiny, hub, commits=dict.fromkeys(CHECKPOINTS, 2))


FAILURES = [
    ("status", "/repos/create"),
    ("status", "/commit/ckpt_001"),
    ("cut", "models/lab/tiny/commit/main"),
    ("cut", "/preupload/ckpt_init"),
    ("lose_answer", "/repos/create"),
    ("lose_answer", "/branch/ckpt_000"),
    ("lose_answer", "/commit/ckpt_000"),
    ("lose_answer", "datasets/lab/tiny-data/commit/main"),
    ("lose_answer", "models/lab/tiny/commit/main"),
    ("lose_answer", "datasets/lab/tiny-data/tag/"),
    ("lose_answer", "models/lab/tiny/tag/"),
]


def survives(folder: Path, hub: HubControl, failures: list[tuple[str, str]]) -> None:
    for action, place in failures:
        hub.fault(action, place, method="POST", status=503)
    assert run(folder, hub).changed
    assert hub.waiting_faults() == 0
    check_complete(folder, hub, commits={**dict.fromkeys(CHECKPOINTS, 2), "main": 3})
    assert history(hub.client(), DATA, "main") == 2


def test_failures_and_lost_answers_on_the_way_cost_no_second_commit(tiny: Path, hub: HubControl) -> None:
    survives(tiny, hub, FAILURES)


@pytest.mark.long
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_on_the_way_costs_no_second_commit(tiny: Path, hub: HubControl, failure: tuple[str, str]) -> None:
    survives(tiny, hub, [failure])


def test_too_many_commits_are_waited_for_and_the_reason_is_told(tiny: Path, hub: HubControl) -> None:
    hub.fault("status", "/commit/ckpt_001", status=429, headers={"Retry-After": "1"})
    told: list[str] = []
    run(tiny, hub, progress=lambda _done, _total, text: told.append(text))
    assert any("waiting 1 s" in text and "128 commits an hour" in text for text in told)
    check_complete(tiny, hub, commits=dict.fromkeys(CHECKPOINTS, 2))


def test_a_wait_beyond_the_limit_ends_with_the_time_to_come_back(tiny: Path, hub: HubControl) -> None:
    hub.fault("status", "/commit/ckpt_001", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(HubRateLimitedError, match="3600 seconds"):
        run(tiny, hub)
    assert not visible(hub)


def test_a_hub_that_stays_down_ends_in_an_error_and_the_same_call_goes_on(tiny: Path, hub: HubControl) -> None:
    hub.fault("status", "/commit/ckpt_002", status=503, times=100)
    with pytest.raises(HubUnavailableError, match="goes on"):
        run(tiny, hub)
    hub.clear_faults()
    assert not visible(hub)
    hub.count_from_now()
    plan = run(tiny, hub).plan
    left = {r.revision for r in plan.revisions if r.difference.empty}
    assert left == {"main", "ckpt_000", "ckpt_001"}
    check_complete(tiny, hub, commits=dict.fromkeys(CHECKPOINTS, 2))


def test_somebody_elses_commit_on_a_checkpoint_branch_is_put_right(tiny: Path, hub: HubControl) -> None:
    hub.fault("status", "/commit/ckpt_002", status=503, times=100)
    with pytest.raises(HubUnavailableError):
        run(tiny, hub)
    hub.clear_faults()
    client = hub.client()
    head = client.commit_of(MODEL, "ckpt_001")
    data = b"{}"
    stranger = Upload(path="config.json", source=data, sha256=hashlib.sha256(data).hexdigest())
    client.commit(client.prepare_commit(MODEL, "ckpt_001", [stranger]), delete=[], message="x", parent=head)
    run(tiny, hub)
    check_complete(tiny, hub, commits={"ckpt_001": 4})


def test_a_branch_that_moves_under_the_publisher_is_looked_at_again(
    tiny: Path, hub: HubControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Hub.commit
    others: list[str] = []

    def commit_after_somebody_else(self: Hub, prepared: object, **settings: object) -> str:
        if prepared.branch == "ckpt_001" and not others:  # type: ignore[attr-defined]
            data = b"stranger"
            upload = Upload(path="stranger.txt", source=data, sha256=hashlib.sha256(data).hexdigest())
            made = self.prepare_commit(MODEL, "ckpt_001", [upload])
            others.append(commit(self, made, delete=[], message="x", parent=self.commit_of(MODEL, "ckpt_001")))
        return commit(self, prepared, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Hub, "commit", commit_after_somebody_else)
    run(tiny, hub)
    assert others
    check_complete(tiny, hub, commits={"ckpt_001": 3})


def test_a_tag_of_another_content_on_the_data_repository_is_refused(tiny: Path, hub: HubControl) -> None:
    client = hub.client()
    client.create_repo(DATA, private=False)
    client.create_tag(DATA, "v1.0.0", client.first_commit(DATA), "")
    with pytest.raises(PublishRefusedError, match="other content"):
        run(tiny, hub)
    assert not visible(hub)


def test_a_publication_that_lost_a_file_is_told(tiny: Path, tmp_path: Path) -> None:
    with running_hub(tmp_path / "store") as running:
        hub = HubControl(running=running)
        run(tiny, hub)
        commit = hub.client().refs(MODEL).branches["ckpt_000"]
    stored = next((tmp_path / "store").rglob(f"{commit}.json"))
    entry = json.loads(stored.read_text())
    del entry["files"]["model.safetensors"]
    stored.chmod(0o644)
    stored.write_text(json.dumps(entry))
    with running_hub(tmp_path / "store") as running, pytest.raises(IntegrityError, match=r"model\.safetensors"):
        run(tiny, HubControl(running=running))


# Death on the way


POINTS = [  # in the order in which a publisher comes to them
    "/repos/create",
    "datasets/lab/tiny-data/commit/main",
    "/branch/ckpt_001",
    "/preupload/ckpt_001",
    "/commit/ckpt_001",
    "models/lab/tiny/commit/main",
    "datasets/lab/tiny-data/tag/",
    "models/lab/tiny/tag/",
]


def kill_at(hub: HubControl, folder: Path, fault: Callable[[], None], times: int = 1) -> None:
    """Kill a publisher that has met the fault and pauses before it goes on."""
    fault()
    publisher = hub.start_publisher(folder, "lab", pause=120.0)
    try:
        hub.wait_until_met(publisher)
    finally:
        publisher.kill()
        publisher.communicate()


def killed_and_continued(hub: HubControl, folder: Path, point: str, action: str) -> None:
    kill_at(hub, folder, lambda: hub.fault(action, point, method="POST", status=503))
    after_the_last_act = action == "lose_answer" and point == "models/lab/tiny/tag/"
    assert visible(hub) == after_the_last_act
    result = run(folder, hub)
    assert result.changed != after_the_last_act
    check_complete(folder, hub, commits={**dict.fromkeys(CHECKPOINTS, 2), "main": 3})
    assert history(hub.client(), DATA, "main") == 2
    hub.count_from_now()
    assert not run(folder, hub).changed
    assert hub.writes() == 0


@pytest.mark.parametrize(
    ("point", "action"), [("/commit/ckpt_001", "status"), ("models/lab/tiny/commit/main", "lose_answer")]
)
def test_a_killed_publisher_leaves_nothing_visible_and_the_next_one_completes(
    tiny: Path, hub: HubControl, point: str, action: str
) -> None:
    killed_and_continued(hub, tiny, point, action)


@pytest.mark.long
@pytest.mark.parametrize("action", ["status", "lose_answer"])
@pytest.mark.parametrize("point", POINTS)
def test_a_publisher_may_be_killed_before_and_after_every_write(
    tiny: Path, hub: HubControl, point: str, action: str
) -> None:
    killed_and_continued(hub, tiny, point, action)


@pytest.mark.long
def test_a_publisher_may_be_killed_again_and_again(tiny: Path, hub: HubControl) -> None:
    for point in POINTS:
        kill_at(hub, tiny, lambda point=point: hub.fault("status", point, method="POST", status=503))  # type: ignore[misc]
        assert not visible(hub)
    run(tiny, hub)
    check_complete(tiny, hub, commits={**dict.fromkeys(CHECKPOINTS, 2)})


def test_two_publishers_of_one_release_at_once_end_with_one_publication(tiny: Path, hub: HubControl) -> None:
    publishers = [hub.start_publisher(tiny, "lab") for _ in range(2)]
    ends = [publisher.communicate(timeout=120) for publisher in publishers]
    assert [publisher.returncode for publisher in publishers] == [0, 0], ends
    check_complete(tiny, hub, commits=dict.fromkeys(CHECKPOINTS, 2))
    assert not run(tiny, hub).changed


@pytest.mark.long
@pytest.mark.parametrize("attempt", range(3))
def test_two_publishers_of_different_releases_at_once_do_not_mix(
    tiny: Path, hub: HubControl, tmp_path: Path, attempt: int
) -> None:
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    for checkpoint in CHECKPOINTS:
        (other / f"runs/tiny/checkpoints/{checkpoint}/generation_config.json").write_text('{"bos_token_id": 1}\n')
    (other / "corpora/words/tokenizer/tokenizer.json").write_text('{"version": "other"}\n')
    write_manifest(other)
    publishers = [hub.start_publisher(folder, "lab") for folder in (tiny, other)]
    for publisher in publishers:
        publisher.communicate(timeout=120)
    if not visible(hub):
        return  # each has blocked the other before the last act: nothing is visible, which is safe
    target = open_target("lab/tiny", endpoint=hub.url)
    assert isinstance(target, HubTarget)
    winner = next(
        folder
        for folder in (tiny, other)
        if hashlib.sha256(b"").digest()
        and _same_release(load_manifest((folder / "manifest.json").read_bytes()), target)
    )
    check_complete(winner, hub)


def _same_release(local: Manifest, target: HubTarget) -> bool:
    return [c.files for c in local.runs[0].checkpoints] == [c.files for c in target.manifest.runs[0].checkpoints]


def test_a_conflict_without_end_is_given_up(tiny: Path, hub: HubControl) -> None:
    hub.fault("status", "/commit/ckpt_001", status=412, times=1000)
    with pytest.raises(HubConflictError, match="nobody else is writing"):
        publish(tiny, hub.client(), to="lab", patience=Patience(tries=2, first_pause=0.0))
    assert not visible(hub)
