"""The rehearsed quota: told with every answer, kept to the call, and kept by our own client without a refusal."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from open360.release.hub import HubRateLimitedError
from open360.release.hub_objects import Repo
from open360.release.hub_patience import Patience
from open360.release.local_hub import RunningHub, running_hub
from open360.release.local_hub.quota import ApiQuota, QuotaFormError, parse_quota
from open360.release.pacing import Quota
from open360.release.survey import Survey
from tests.support.hub_control import HubControl
from tests.support.hub_folder import HubFolder

REPO = Repo(id="lab/model", type="model")


def ask(hub: RunningHub, path: str) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"{hub.url}{path}", timeout=30) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


@pytest.fixture
def folder(tmp_path: Path) -> HubFolder:
    """A model of sixty branches."""
    made = HubFolder(tmp_path / "hub")
    made.write("lab/model", {f"step{n}": {"step": str(n).encode()} for n in range(60)})
    return made


def test_calls_beyond_the_quota_are_refused_and_files_are_not_counted(folder: HubFolder) -> None:
    with running_hub(folder.root, ["--api-quota", "5/3000"]) as hub:
        answers = [ask(hub, "/api/models/lab/model/refs") for _ in range(7)]
        files = [ask(hub, "/lab/model/resolve/step1/step")[0] for _ in range(7)]
    assert [status for status, _ in answers] == [200] * 5 + [429] * 2
    assert files == [200] * 7
    lefts = [_header(headers, "ratelimit") for _, headers in answers]
    assert [left.split(";")[1] for left in lefts] == ["r=4", "r=3", "r=2", "r=1", "r=0", "r=0", "r=0"]
    assert _header(answers[0][1], "ratelimit-policy") == '"fixed window";"api";q=5;w=3000'


def _header(headers: dict[str, str], name: str) -> str:
    return next(value for key, value in headers.items() if key.lower() == name)


def test_a_survey_keeps_the_quota_that_it_is_told_and_is_never_refused(folder: HubFolder) -> None:
    said: list[str] = []
    with running_hub(folder.root, ["--api-quota", "25/4"]) as hub:
        control = HubControl(running=hub)
        client = control.client()
        client.pacer.notice = said.append
        control.count_from_now()
        found = Survey(client).revisions([(REPO, f"step{n}") for n in range(60)])
        assert all(listed is not None for listed in found.values())
        statuses = {kind["status"] for kind in control.traffic()}
        calls = sum(kind["count"] for kind in control.traffic())
    assert statuses == {200}
    assert calls == 61
    assert client.pacer.quota("api") == Quota(calls=25, seconds=4)
    assert said
    assert all("the Hub takes 25 API calls per 4 s" in line for line in said)


def test_a_client_that_knows_nothing_waits_as_long_as_a_refusal_asks(folder: HubFolder) -> None:
    with running_hub(folder.root, ["--api-quota", "1/2"]) as hub:
        client = HubControl(running=hub).client()
        client.pacer.notice = lambda _: None
        ask(hub, "/api/models/lab/model/refs")  # somebody else
        assert len(client.refs(REPO).branches) == 61


def test_a_wait_beyond_five_minutes_is_an_error_that_says_how_long(folder: HubFolder) -> None:
    with running_hub(folder.root, ["--api-quota", "1/3000"]) as hub:
        client = HubControl(running=hub).client(Patience(tries=3, first_pause=0.01))
        while ask(hub, "/api/models/lab/model/refs")[0] != 429:
            pass
        with pytest.raises(HubRateLimitedError, match=r"again in \d+ seconds"):
            client.refs(REPO)


@pytest.mark.parametrize("text", ["", "5", "5/", "/5", "0/5", "5/0", "-1/5", "5/5/5", "1e3/5", "5/99999", "٥/5"])
def test_a_quota_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(QuotaFormError, match="CALLS/SECONDS"):
        parse_quota(text)


def test_a_quota_is_calls_and_seconds() -> None:
    assert parse_quota("500/300") == ApiQuota(calls=500, seconds=300)
