"""Start the local Hub: in this process, or in one of its own for a test or a rehearsal."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import uvicorn

from open360.release.local_hub.app import PART_SIZE, create_app
from open360.release.local_hub.connections import TrackedProtocol
from open360.release.local_hub.quota import ApiQuota
from open360.schema.errors import Open360Error

READY = "Local Hub: "
KEEP_ALIVE = 75  # seconds; longer than clients keep an idle connection, so that none is closed under a request
STOP_SECONDS = 10


class ServerError(Open360Error):
    """The local Hub did not start; the message says what it printed."""


@dataclass(frozen=True, kw_only=True)
class RunningHub:
    """A Hub in a process of its own. `url` is what `HF_ENDPOINT` has to be."""

    url: str
    directory: Path
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """End the server as a power cut would (SIGKILL)."""
        self.process.kill()
        self.process.wait()


def serve(
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    xet: bool = True,
    allow_faults: bool = False,
    part_size: int = PART_SIZE,
    api_quota: ApiQuota | None = None,
    out: TextIO | None = None,
) -> None:
    """Serve the Hub in `directory` until interrupted; port 0 takes a free one. The first line out names the URL.

    Raises:
        ServerError: the address is taken or not this machine's.
    """
    app = create_app(directory, xet=xet, allow_faults=allow_faults, part_size=part_size, api_quota=api_quota)
    with _listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        stream = out or sys.stdout
        stream.write(f"{READY}http://{name}:{listener.getsockname()[1]}\n")
        stream.flush()
        config = uvicorn.Config(
            app,
            http=TrackedProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=STOP_SECONDS // 2,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        message = f"cannot listen on {host} port {port}: {error.strerror}; choose another --port, or 0 for a free one"
        raise ServerError(message) from error
    # Without it an answer waits for the reader's delayed acknowledgement: 44 ms a request on a kept connection.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextlib.contextmanager
def running_hub(
    directory: Path, options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[RunningHub]:
    """Run a Hub in a process of its own on a free port of this machine; it ends with the block.

    `options` are those of the command: `--no-xet`, `--allow-faults`, `--part-size BYTES`,
    `--api-quota CALLS/SECONDS`, `--port N`.

    Raises:
        ServerError: it did not start.
    """
    command = [sys.executable, "-P", "-m", "open360.release.local_hub", str(directory), "--port", "0", *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(env or {})},
    )
    try:
        line = _first_line(process)
        if not line.startswith(READY):
            raise ServerError(f"the local Hub in {directory} did not start: {line}; see its messages above")
        yield RunningHub(url=line.removeprefix(READY).strip(), directory=directory, process=process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout is not None else ""
