"""A Hugging Face Hub in a folder: it speaks the Hub's protocol to the stock client, with no account and no network.

Use it to rehearse a release before terabytes are sent, and to test publishing and pulling. Any token is accepted to
write, none is needed to read, so it belongs on the loopback address.
"""

from __future__ import annotations

from open360.release.local_hub.app import create_app
from open360.release.local_hub.server import RunningHub, ServerError, running_hub, serve

__all__ = ["RunningHub", "ServerError", "create_app", "running_hub", "serve"]
