"""What a name opens, by which spec it is judged, and which names are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from open360.release.cli.exit_codes import exit_code_of
from open360.release.findings import EvidenceLevel
from open360.release.foreign_target import ForeignTarget
from open360.release.hub_errors import HubError
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.rules import RULES
from open360.release.targets import TargetError
from open360.release.validation import validate
from open360.schema.errors import Open360Error
from tests.support.foreign_release import RELEASES, change, put_on_hub
from tests.support.hub_folder import HubFolder
from tests.support.page_server import page_server

AMBER, PYTHIA = "LLM360/AmberTiny", "EleutherAI/pythia-nano"
NO_TORCH = [rule for rule in RULES if rule.code != "CKP014"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Two releases on a Hub, `amber.yaml` and `pythia.yaml` in a folder; of Amber's branches ckpt_001 is lost."""
    folder = tmp_path_factory.mktemp("specs")
    with running_hub(folder / "hub") as hub, page_server() as pages:
        for name in ("amber", "pythia"):
            release = RELEASES[name]()
            if name == "amber":
                change(release, [{"remove": f"{AMBER}@ckpt_001"}])
            (folder / f"{name}.yaml").write_bytes(put_on_hub(release, HubFolder(hub.directory), pages))
        yield hub.url, folder


def test_a_spec_of_another_release_is_refused(served: tuple[str, Path]) -> None:
    url, folder = served
    with pytest.raises(TargetError, match=r"is none of the repositories and names of .*amber\.yaml"):
        open_any_target(PYTHIA, spec=folder / "amber.yaml", endpoint=url)


@pytest.mark.parametrize("name", [AMBER, "llm360/ambertiny", "amber-tiny", "LLM360/AmberTinyDatasets"])
def test_a_spec_is_taken_for_every_name_that_it_gives(name: str, served: tuple[str, Path]) -> None:
    url, folder = served
    assert isinstance(open_any_target(name, spec=folder / "amber.yaml", endpoint=url), ForeignTarget)


def test_a_folder_and_a_tag_go_with_no_spec(served: tuple[str, Path]) -> None:
    url, folder = served
    with pytest.raises(TargetError, match="is a folder"):
        open_any_target(str(folder), spec=folder / "amber.yaml", endpoint=url)
    with pytest.raises(TargetError, match="leave it out"):
        open_any_target(AMBER, tag="v1.0.0", spec=folder / "amber.yaml", endpoint=url)


def test_a_draft_stays_a_guess_until_the_line_is_struck(served: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = served
    target = open_any_target(AMBER, endpoint=url)
    assert isinstance(target, ForeignTarget)
    draft = tmp_path / "draft.yaml"
    draft.write_bytes(target.document.data)
    again = open_any_target(AMBER, spec=draft, endpoint=url)
    assert isinstance(again, ForeignTarget)
    assert again.document.is_guess
    text = draft.read_text()
    draft.write_text(text[: text.index("unconfirmed:")])
    finished = open_any_target(AMBER, spec=draft, endpoint=url)
    assert isinstance(finished, ForeignTarget)
    assert not finished.document.is_guess


def test_a_guess_is_not_confirmed_by_what_it_was_made_of(served: tuple[str, Path]) -> None:
    url, _ = served
    target = open_any_target(AMBER, endpoint=url)
    report = validate(target, level=EvidenceLevel.LISTED, rules=NO_TORCH)
    left_out = {rule.code for rule in report.skipped if not rule.applies}
    assert {"CKP001", "HUB001", "HUB002", "HUB006", "LIC004", "SPC002"} <= left_out
    assert next(outcome.claims for outcome in report.outcomes if outcome.code == "SPC001") == 0


@pytest.mark.parametrize("endpoint", ["notaurl", "ftp://example.org", "http://"])
def test_an_address_that_is_none_is_wrong_usage(endpoint: str) -> None:
    with pytest.raises(HubError) as caught:
        open_any_target(AMBER, endpoint=endpoint)
    assert exit_code_of(caught.value) == 2


def test_a_repository_that_does_not_exist_is_wrong_usage(served: tuple[str, Path]) -> None:
    url, _ = served
    with pytest.raises(Open360Error) as caught:
        open_any_target("nobody/nothing", endpoint=url)
    assert exit_code_of(caught.value) == 2
