"""Steers a local Hub from a test: faults to meet, traffic to count, publishers in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open360.release.hub import Hub
from open360.release.hub_patience import Patience
from open360.release.local_hub import RunningHub

QUICK = Patience(tries=4, first_pause=0.01, longest_pause=5.0)
PUBLISHER = """
import sys
from pathlib import Path
from open360.release.hub import Hub
from open360.release.hub_patience import Patience
from open360.release.publishing import publish

folder, endpoint, to, pause = sys.argv[1:]
patience = Patience(tries=6, first_pause=float(pause))
result = publish(Path(folder), Hub(endpoint, "test-token", patience=patience), to=to, patience=patience)
print("changed" if result.changed else "left")
"""


@dataclass(frozen=True, kw_only=True)
class HubControl:
    """A running Hub and what a test does to it."""

    running: RunningHub

    @property
    def url(self) -> str:
        """Its address."""
        return self.running.url

    def client(self, patience: Patience = QUICK) -> Hub:
        """A client that does not wait for long."""
        return Hub(self.url, "test-token", patience=patience)

    def fault(self, action: str, path_regex: str = "", *, method: str | None = None, **settings: Any) -> None:
        """Let the next request that matches meet a fault."""
        match = {"path_regex": path_regex, "method": method}
        self._call("POST", "faults", {"action": action, "match": match, **settings})

    def waiting_faults(self) -> int:
        """How many faults have not been met."""
        return sum(fault["times"] for fault in self._call("GET", "faults")["waiting"])

    def clear_faults(self) -> None:
        """Forget all faults."""
        self._call("DELETE", "faults")

    def count_from_now(self) -> None:
        """Forget the traffic so far."""
        self._call("DELETE", "stats")

    def traffic(self) -> list[dict[str, Any]]:
        """What was asked since then, each kind of request with its count and bytes."""
        found: list[dict[str, Any]] = self._call("GET", "stats")["by"]
        return found

    def writes(self) -> int:
        """Requests since then that change repositories."""
        kinds = ("/commit/", "/branch/", "/tag/", "/repos/create")
        return sum(t["count"] for t in self.traffic() if t["method"] != "GET" and any(k in t["path"] for k in kinds))

    def start_publisher(self, folder: Path, to: str, pause: float = 0.01) -> subprocess.Popen[str]:
        """Publish in a process of its own; after a failure it pauses for about `pause` seconds."""
        return subprocess.Popen(
            [sys.executable, "-P", "-c", PUBLISHER, str(folder), self.url, to, str(pause)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )

    def wait_until_met(self, publisher: subprocess.Popen[str], seconds: float = 60.0) -> None:
        """Wait until no fault is waiting, or fail when the publisher ends before."""
        end = time.monotonic() + seconds
        while self.waiting_faults() and time.monotonic() < end:
            assert publisher.poll() is None, publisher.communicate()
            time.sleep(0.02)
        assert not self.waiting_faults()

    def _call(self, method: str, what: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/.open360/{what}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read() or b"null")
