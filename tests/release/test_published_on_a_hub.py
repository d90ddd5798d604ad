"""A release that open360 published, judged on the Hub: what is true of it there, and what happens when it changes."""

from __future__ import annotations

from pathlib import Path

from open360.release.findings import EvidenceLevel, Report
from open360.release.hub_objects import Repo
from open360.release.hub_target import HubTarget
from open360.release.opening import open_any_target
from open360.release.publishing import publish
from open360.release.rules import RULES
from open360.release.validation import validate
from tests.release.conftest import PublishedRelease
from tests.support.hub_control import QUICK, HubControl
from tests.support.hub_folder import HubFolder

NO_TORCH = [rule for rule in RULES if rule.code != "CKP014"]


def judge(repo: str, url: str, level: str = "listed") -> Report:
    target = open_any_target(repo, endpoint=url)
    assert isinstance(target, HubTarget)
    return validate(target, level=EvidenceLevel(level), rules=NO_TORCH)


def found(report: Report) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject) for finding in report.findings]


def test_a_published_release_gives_no_finding_at_any_level(published: PublishedRelease) -> None:
    for level in ("listed", "hashed", "loaded"):
        assert found(judge(published.repo, published.hub.url, level)) == []


def test_a_branch_that_was_pushed_to_afterwards_is_found(tiny: Path, hub: HubControl) -> None:
    publish(tiny, hub.client(), to="lab", patience=QUICK)
    HubFolder(hub.running.directory).move("lab/tiny", "ckpt_001")
    assert found(judge("lab/tiny", hub.url)) == [("HUB001", "ckpt_001")]


def test_a_newer_version_moves_no_branch_of_the_older_one(tiny: Path, hub: HubControl) -> None:
    publish(tiny, hub.client(), to="lab", patience=QUICK)
    HubFolder(hub.running.directory).move("lab/tiny", "ckpt_001")
    client, repo = hub.client(), Repo(id="lab/tiny", type="model")
    client.create_tag(repo, "v1.0.1", client.refs(repo).branches["main"], "a later version")
    target = open_any_target("lab/tiny", tag="v1.0.0", endpoint=hub.url)
    report = validate(target, level=EvidenceLevel.LISTED, rules=NO_TORCH)
    assert found(report) == []


def test_what_a_tool_left_behind_in_a_repository_is_found(tiny: Path, hub: HubControl) -> None:
    publish(tiny, hub.client(), to="lab", patience=QUICK)
    folder = HubFolder(hub.running.directory)
    folder.add("datasets/lab/tiny-data", "main", {".cache/huggingface/upload/x.metadata": b"1"})
    assert found(judge("lab/tiny", hub.url)) == [("HUB005", "lab/tiny-data")]
