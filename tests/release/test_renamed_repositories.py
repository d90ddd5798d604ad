"""Repositories that were renamed: the stock client renames, the old name leads to the new one, and this is told."""

from __future__ import annotations

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from open360.release.hub_objects import Repo
from tests.support.hub_control import HubControl
from tests.support.hub_folder import HubFolder

OLD, NEW = Repo(id="LLM360/Amber", type="model"), Repo(id="IFM/Amber", type="model")


@pytest.fixture
def api(hub: HubControl) -> HfApi:
    files = {f"file_{number:04d}.txt": b"1" for number in range(1100)}
    HubFolder(hub.running.directory).write(OLD.id, {"main": files, "ckpt_000": {"config.json": b"{}"}})
    return HfApi(endpoint=hub.url, token="test-token")


def test_the_old_name_leads_to_the_new_one_and_this_is_told(api: HfApi, hub: HubControl) -> None:
    api.move_repo(OLD.id, NEW.id)
    client = hub.client()
    before, now = client.refs(OLD), client.refs(NEW)
    assert (before.renamed, now.renamed) == (NEW.id, None)
    assert before.branches == now.branches
    commit = now.branches["ckpt_000"]
    assert client.read(OLD, commit, "config.json", 10) == b"{}"
    assert client.tree(OLD, commit) == client.tree(NEW, commit)


def test_every_page_of_a_renamed_repository_is_listed(api: HfApi, hub: HubControl) -> None:
    api.move_repo(OLD.id, NEW.id)
    client = hub.client()
    assert len(client.tree(OLD, client.refs(OLD).branches["main"])) == 1100


def test_a_name_that_is_taken_is_not_given_away(api: HfApi, hub: HubControl) -> None:
    HubFolder(hub.running.directory).write(NEW.id, {"main": {}})
    with pytest.raises(HfHubHTTPError, match="409"):
        api.move_repo(OLD.id, NEW.id)
    assert hub.client().refs(OLD).renamed is None
