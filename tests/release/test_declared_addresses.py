"""Which addresses a spec names, and how many requests a look at them costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from open360.release.evidence.declared_addresses import address_groups
from open360.release.findings import EvidenceLevel, Sample
from open360.release.listed_view import CannotCheckError
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.rules.addresses import FILES_OF_A_CHECKPOINT, FOLDERS_TRIED, DeadAddress
from open360.release.targets import FolderTarget
from open360.release.view import ReleaseView
from tests.support.foreign_release import ForeignRelease, olmo, put_on_hub
from tests.support.hub_folder import HubFolder
from tests.support.page_server import Pages, page_server
from tests.support.tiny_release import build_tiny_release


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where foreign releases lie."""

    url: str
    folder: HubFolder
    pages: Pages
    spec: Path

    def view(self, release: ForeignRelease, share: float = 1.0) -> ReleaseView:
        self.folder.clear()
        self.spec.write_bytes(put_on_hub(release, self.folder, self.pages))
        target = open_any_target("allenai/OLMo-nano", spec=self.spec, endpoint=self.url)
        return ReleaseView(target, EvidenceLevel.LISTED, None, Sample(share=share))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    with running_hub(tmp_path / "hub") as running, page_server() as pages:
        yield Elsewhere(url=running.url, folder=HubFolder(running.directory), pages=pages, spec=tmp_path / "spec.yaml")


def test_every_address_is_named_once_with_its_place(elsewhere: Elsewhere) -> None:
    groups = address_groups(elsewhere.view(olmo()))
    urls = [url.removeprefix(elsewhere.pages.url) for group in groups for url in group.urls]
    assert len(urls) == len(set(urls))
    order_file = "/train_data/global_indices.npy"  # another rule looks for it
    assert set(urls) == set(elsewhere.pages.content) - {order_file}
    native = next(group for group in groups if group.pointer == "/runs/0/series/native")
    assert [url.rsplit("/", 2)[1] for url in native.urls] == [f"step{step}-unsharded" for step in (3, 6, 9, 12)]


def test_a_log_for_each_checkpoint_is_looked_for_at_each(elsewhere: Elsewhere) -> None:
    release = olmo()
    log = '    logs: ["{pages}/logs/olmo-nano.jsonl"]\n'
    old = f"hub: {{model: allenai/OLMo-nano, data: allenai/olmo-mix-nano}}\n{log}  - name"
    assert release.spec.count(old) == 1
    release.spec = release.spec.replace(old, old.replace("olmo-nano.jsonl", "{run}/{step}.jsonl"))
    (group,) = [g for g in address_groups(elsewhere.view(release)) if g.pointer == "/runs/0/logs/0"]
    assert [url.rsplit("/logs/")[1] for url in group.urls] == [
        f"olmo-nano-stage1/{step}.jsonl" for step in (3, 6, 9, 12)
    ]


def _many_dead_folders(count: int) -> ForeignRelease:
    release = olmo()
    rows = "".join(f"stage1,{step},,{{pages}}/gone/step{step}/\n" for step in range(count))
    release.pages["/lists/stage1.csv"] += rows.encode()
    return release


def test_a_thousand_dead_folders_cost_two_requests_each(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 120
    view = elsewhere.view(_many_dead_folders(count))
    view.addresses._pace.interval = 0.0
    elsewhere.pages.asked.clear()
    (finding,) = DeadAddress().check(view)
    assert f"{count} of {count + 4} addresses are gone" in finding.message
    asked = sum(times for (_, path), times in elsewhere.pages.asked.items() if path.startswith("/gone/"))
    assert asked <= 2 * count + FOLDERS_TRIED * len(FILES_OF_A_CHECKPOINT)


def test_a_sample_of_them_is_told_as_one(elsewhere: Elsewhere) -> None:
    view = elsewhere.view(_many_dead_folders(120), share=0.1)
    view.addresses._pace.interval = 0.0
    elsewhere.pages.asked.clear()
    findings = list(DeadAddress().check(view))
    assert any("of 124 declared, are gone" in finding.message for finding in findings)
    asked = {path.split("/")[2] for _, path in elsewhere.pages.asked if path.startswith("/gone/")}
    assert len(asked) <= 13


def test_when_nothing_can_be_reached_nothing_is_said(elsewhere: Elsewhere) -> None:
    release = olmo()
    release.spec = release.spec.replace('"{pages}', '"http://127.0.0.1:9')
    view = elsewhere.view(release)
    view.addresses._pace.interval = 0.0
    with pytest.raises(CannotCheckError, match="can be reached"):
        list(DeadAddress().check(view))


def test_a_folder_is_judged_without_any_network(tmp_path: Path) -> None:
    view = ReleaseView(FolderTarget(build_tiny_release(tmp_path / "tiny")), EvidenceLevel.LOADED)
    with pytest.raises(CannotCheckError, match="folder"):
        list(DeadAddress().check(view))
