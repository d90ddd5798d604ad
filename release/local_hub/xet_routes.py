"""Routes of Xet: tokens, and the content-addressed store that the tokens lead to.

Specification: the Xet protocol, "CAS API" (Hugging Face Hub documentation). Uploads are offered in version 1 only:
a client falls back to it where a newer one answers 404. Reconstructions come in both versions.
"""

from __future__ import annotations

import re
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from open360.release.local_hub.byte_ranges import parse_range, serve_bytes
from open360.release.local_hub.objects import read_blocks, receive
from open360.release.local_hub.refusals import RefusalError
from open360.release.local_hub.requests import base_url, hub_of, part, read_body, repo_of, require_token
from open360.release.local_hub.xet_store import MAX_SHARD_BYTES, MAX_XORB_BYTES, Piece, XetStore

TOKEN_SECONDS = 3600

_HASH = re.compile(r"[0-9a-f]{64}")


def _store(request: Request) -> XetStore:
    hub = hub_of(request)
    if not hub.offers_xet:
        raise RefusalError(404, "Xet is turned off on this Hub: set HF_HUB_DISABLE_XET=1 for the client")
    return hub.xet


def _addressed(request: Request) -> XetStore:
    store = _store(request)
    if part(request, "store") != store.id:
        raise RefusalError(404, "No such Xet store: ask for a new token")
    return store


def _hash(request: Request) -> str:
    text = part(request, "hash")
    if not _HASH.fullmatch(text):
        raise RefusalError(400, f"Invalid Xet hash {text!r}: expected 64 hex digits")
    return text


async def give_token(request: Request) -> Response:
    """Tell a client where the store is: once as JSON for its transfer library, once as headers for the rest of it."""
    store = _store(request)
    if request.url.path.rpartition("/xet-write-token/")[1]:
        require_token(request)
    await run_in_threadpool(hub_of(request).repositories.get, repo_of(request))
    url, expires = f"{base_url(request)}/xet/{store.id}", int(time.time()) + TOKEN_SECONDS
    headers = {
        "X-Xet-Cas-Url": url,
        "X-Xet-Access-Token": "any",
        "X-Xet-Token-Expiration": str(expires),
    }
    return JSONResponse({"accessToken": "any", "exp": expires, "casUrl": url}, headers=headers)


async def put_xorb(request: Request) -> Response:
    """Take a xorb."""
    require_token(request)
    store, xorb = _addressed(request), _hash(request)
    with hub_of(request).objects.incoming_file() as path:
        await receive(request.stream(), path, limit=MAX_XORB_BYTES)
        inserted = await run_in_threadpool(store.add_xorb, xorb, path)
    return JSONResponse({"was_inserted": inserted})


async def put_shard(request: Request) -> Response:
    """Take a shard; 400 when a file's bytes do not have the sha256 that it announces."""
    require_token(request)
    store = _addressed(request)
    await run_in_threadpool(store.add_shard, await read_body(request, MAX_SHARD_BYTES))
    return JSONResponse({"result": 1})


async def get_reconstruction(request: Request) -> Response:
    """Say which chunks of which xorbs make up a file, or a range of it."""
    store, xet_hash = _addressed(request), _hash(request)
    url = f"{base_url(request)}/xet/{store.id}/xorbs"
    key, fetch = ("xorbs", _fetch_v2) if part(request, "version") == "v2" else ("fetch_info", _fetch_v1)

    def read() -> dict[str, Any]:
        file = store.read(xet_hash)
        start, end = parse_range(request.headers.get("range"), file.size) or (0, file.size)
        offset, pieces = store.pieces(file.terms, start, end)
        terms = [
            {"hash": piece.xorb, "unpacked_length": piece.size, "range": {"start": piece.first, "end": piece.last}}
            for piece in pieces
        ]
        fetches = {
            xorb: [fetch(store, f"{url}/{xorb}", xorb, first, last) for first, last in runs]
            for xorb, runs in _runs(pieces).items()
        }
        return {"offset_into_first_range": offset, "terms": terms, key: fetches}

    return JSONResponse(await run_in_threadpool(read))


def _runs(pieces: list[Piece]) -> dict[str, list[tuple[int, int]]]:
    """Join overlapping and neighbouring runs of chunks, so that none is fetched twice."""
    by_xorb: dict[str, list[tuple[int, int]]] = {}
    for piece in sorted(pieces, key=lambda piece: (piece.xorb, piece.first)):
        runs = by_xorb.setdefault(piece.xorb, [])
        if runs and piece.first <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(runs[-1][1], piece.last))
        else:
            runs.append((piece.first, piece.last))
    return by_xorb


def _fetch_v1(store: XetStore, url: str, xorb: str, first: int, last: int) -> dict[str, Any]:
    return {"range": {"start": first, "end": last}, "url": url, "url_range": _byte_range(store, xorb, first, last)}


def _fetch_v2(store: XetStore, url: str, xorb: str, first: int, last: int) -> dict[str, Any]:
    # One range an entry: a client then asks for each with a plain range header.
    chunks = {"start": first, "end": last}
    return {"url": url, "ranges": [{"chunks": chunks, "bytes": _byte_range(store, xorb, first, last)}]}


def _byte_range(store: XetStore, xorb: str, first: int, last: int) -> dict[str, int]:
    table = store.chunk_table(xorb)
    return {"start": table[first].start, "end": table[last - 1].end - 1}


async def get_xorb(request: Request) -> Response:
    """Serve the packed bytes of a xorb."""
    store, xorb = _addressed(request), _hash(request)
    path = await run_in_threadpool(store.xorb_path, xorb)
    return serve_bytes(request, path.stat().st_size, {}, lambda start, end: read_blocks(path, start, end))


async def take_telemetry(_request: Request) -> Response:
    """Take the client's report of its transfers, and keep nothing of it."""
    return Response(status_code=204)
