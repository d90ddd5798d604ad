"""A release of others, put on a local Hub and opened as a person would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from open360.release.foreign_target import ForeignTarget
from open360.release.opening import open_any_target
from tests.support.foreign_release import RELEASES, ForeignRelease, put_on_hub
from tests.support.hub_control import QUICK, HubControl
from tests.support.hub_folder import HubFolder
from tests.support.page_server import Pages


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A release that lies elsewhere, opened; `spec` is the file that it is read by."""

    release: ForeignRelease
    target: ForeignTarget
    repo: str
    spec: Path


def open_release(
    name: str, hub: HubControl, pages: Pages, folder: Path, release: ForeignRelease | None = None
) -> Opened:
    """Put the flawless release `name`, or another one, on the Hub, and open it by its spec."""
    release = release if release is not None else RELEASES[name]()
    spec = folder / "spec.yaml"
    spec.write_bytes(put_on_hub(release, HubFolder(hub.running.directory), pages))
    repo = next(name for name in release.repos if not name.startswith("datasets/"))
    target = open_any_target(repo, spec=spec, endpoint=hub.url)
    assert isinstance(target, ForeignTarget)
    target.survey.hub.patience = QUICK
    return Opened(release=release, target=target, repo=repo, spec=spec)
