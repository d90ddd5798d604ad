"""Fixtures of the local Hub's tests: a running Hub, and stock clients in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from open360.release.local_hub import RunningHub, running_hub

DRIVER = Path(__file__).with_name("client_driver.py")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back of a plain HTTP request; header names are lowercase."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class PlainClient:
    """HTTP without any library of the Hub."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self,
        method: str,
        path: str,
        *,
        json_body: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = "any",
    ) -> Answer:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if json_body is not None:
            body, sent["Content-Type"] = json.dumps(json_body).encode(), "application/json"
        url = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(url, data=body, method=method, headers={**sent, **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(status=answer.status, headers=_lower(answer.headers), body=answer.read())
        except urllib.error.HTTPError as error:
            return Answer(status=error.code, headers=_lower(error.headers), body=error.read())

    def commit(self, repo: str, *operations: Mapping[str, Any], branch: str = "main", **header: str) -> Answer:
        lines: list[Mapping[str, Any]] = [{"key": "header", "value": {"summary": "Change", **header}}, *operations]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        return self("POST", f"/api/models/{repo}/commit/{branch}", body=body)

    def stats(self) -> Any:
        return self("GET", "/.open360/stats").json()


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def stock_environment(url: str, home: Path, *, xet: bool = True) -> dict[str, str]:
    """The environment of a stock client: nothing of the user's own Hugging Face settings."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    return {
        **clean,
        "HF_ENDPOINT": url,
        "HF_TOKEN": "any",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_XET_TELEMETRY_ENABLED": "0",
    }


@pytest.fixture
def start_hub(tmp_path: Path) -> Callable[..., Any]:
    def start(*options: str, directory: Path | None = None) -> Any:
        return running_hub(directory or tmp_path / "hub", options)

    return start


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """One Hub for all tests of a module, so each uses a repository of its own."""
    with running_hub(tmp_path_factory.mktemp("hub"), ["--allow-faults", "--part-size", "100000"]) as running:
        yield running


@pytest.fixture
def http(hub: RunningHub) -> PlainClient:
    client = PlainClient(hub.url)
    client("DELETE", "/.open360/faults")
    client("DELETE", "/.open360/stats")
    return client


@pytest.fixture
def plain_client() -> Callable[[str], PlainClient]:
    return PlainClient


@pytest.fixture
def repo(http: PlainClient) -> str:
    """A new model repository."""
    name = f"repo-{uuid.uuid4().hex[:12]}"
    assert http("POST", "/api/repos/create", json_body={"name": name, "organization": "org"}).status == 200
    return f"org/{name}"


@pytest.fixture
def client_environment(tmp_path: Path) -> Callable[..., dict[str, str]]:
    def environment(url: str, *, xet: bool = True) -> dict[str, str]:
        return stock_environment(url, tmp_path / "home", xet=xet)

    return environment


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., str]:
    """Run Python source that uses a stock client against a Hub; return what it printed."""

    def run(url: str, source: str, *arguments: str, xet: bool = True, check: bool = True) -> str:
        command = [sys.executable, "-P", "-c", source, *arguments]
        environment = stock_environment(url, tmp_path / "home", xet=xet)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 or not check, done.stderr[-4000:]
        return done.stdout if check else done.stdout + done.stderr

    return run


@pytest.fixture
def run_driver(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run the checks of one phase with a given interpreter; return the results."""

    def run(
        url: str, phase: str, *, python: str = sys.executable, version: str = "2.", xet: bool = True
    ) -> list[dict[str, Any]]:
        environment = stock_environment(url, tmp_path / f"home-{phase}", xet=xet)
        command = [python, "-P", str(DRIVER), phase, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-4000:]
        printed = json.loads(done.stdout)
        assert printed["client"].startswith(version), printed["client"]
        results: list[dict[str, Any]] = printed["results"]
        return results

    return run
