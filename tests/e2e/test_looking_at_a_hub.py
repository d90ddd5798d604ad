"""`open360 validate` on a Hub with a quota: the cost said beforehand, the waits announced, and nothing refused."""

from __future__ import annotations

from pathlib import Path

from open360.release.local_hub import running_hub
from tests.e2e.conftest import run
from tests.support.foreign_release import amber, put_on_hub
from tests.support.hub_control import HubControl
from tests.support.hub_folder import HubFolder
from tests.support.page_server import page_server


def test_a_small_quota_is_kept_and_told_and_the_second_look_needs_no_wait(tmp_path: Path) -> None:
    folder = HubFolder(tmp_path / "hub")
    with page_server() as pages, running_hub(folder.root, ["--api-quota", "5/6"]) as hub:
        (tmp_path / "spec.yaml").write_bytes(put_on_hub(amber(), folder, pages))
        environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "x", "OPEN360_CACHE": str(tmp_path / "cache")}
        command = ("open360", "validate", "LLM360/AmberTiny", "--spec", "spec.yaml")
        first = run(*command, cwd=tmp_path, env=environment)
        statuses = {kind["status"] for kind in HubControl(running=hub).traffic() if "/api/" in kind["path"]}
        again = run(*command, cwd=tmp_path, env=environment)
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    cost = "2 repositories, 6 revisions: about 8 calls, under 12 s at the Hub's quota of 5 per 6 s; cached: 0"
    assert first.stderr.splitlines()[0] == cost
    assert "the Hub takes 5 API calls per 6 s" in first.stderr
    assert statuses == {200}
    assert again.stderr.splitlines()[0].endswith("about 2 calls, under 6 s at the Hub's quota of 5 per 6 s; cached: 6")
