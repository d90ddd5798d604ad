"""`open360 hub serve DIR`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("hub")
def command() -> None:
    """A local Hub: the Hub's protocol for the stock client, from a folder."""


@command.command("serve")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8360, show_default=True, help="0 takes a free port and prints it."
)
@click.option("--xet/--no-xet", default=True, show_default=True, help="Offer the Xet transfer path.")
@click.option(
    "--allow-faults", is_flag=True, help="Accept orders to fail (status codes, cut connections), to rehearse."
)
@click.option("--api-quota", metavar="CALLS/SECONDS", help="Refuse API calls beyond a quota, to rehearse: 500/300.")
def serve_command(directory: Path, host: str, port: int, xet: bool, allow_faults: bool, api_quota: str | None) -> None:
    """Serve DIRECTORY (made when missing) until Ctrl-C.

    Point a client at it with HF_ENDPOINT=http://127.0.0.1:8360 and any HF_TOKEN.
    """
    from open360.release.local_hub import serve
    from open360.release.local_hub.quota import parse_quota

    quota = parse_quota(api_quota) if api_quota is not None else None
    serve(directory, host, port, xet=xet, allow_faults=allow_faults, api_quota=quota)
