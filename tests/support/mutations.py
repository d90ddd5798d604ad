"""Small changes of a release folder, described as data: what the cases of the rules are made of.

A change is a mapping with one key:

    edit: {file, old, new}          replace a text that occurs once
    write: {file, text}             write a file, its folders too
    delete: path                    remove a file or folder
    copy: {from, to}                copy a file or folder
    swap: [a, b]                    exchange two files or folders
    link: {file, to}                put a symbolic link there
    flip: {file, at}                change one byte
    cut: {file, bytes}              keep the first bytes
    json: {file, at, value}         set the value at a pointer (leave out `value` to remove it)
    rows: {chunk, value}            write a chunk again with all its ids set to a value, step table and all
    hex: {file, at, bytes}          overwrite bytes
    forget: path                    take a file out of the manifest's list
    trace: {checkpoint, chunk}      let a trace hold the digests of the chunk's batches
    tensor: {file, name, fill}      see `FILLS`; also `removed`, `added` and `same` (only other metadata)
    positions: again                make every position.json agree with the tensors that are there
    build: manifest                 build the manifest again
    seal: manifest                  put sizes and digests of the files that are there into the manifest as it is
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from open360.release.corpus.chunk_file import Batch, Group, chunk_schema, write_chunk
from open360.release.hashing import hash_file, hash_tensor_file
from open360.schema.serialization import canonical_json
from tests.support.tiny_release import RUN, write_manifest


def mutate(folder: Path, changes: list[dict[str, Any]]) -> None:
    """Make `changes` in the release folder, one after the other."""
    for change in changes:
        ((kind, what),) = change.items()
        CHANGES[kind](folder, what)


def _edit(folder: Path, what: dict[str, str]) -> None:
    file = folder / what["file"]
    text = file.read_text()
    assert text.count(what["old"]) == 1, f"{what['old']!r} occurs {text.count(what['old'])} times in {what['file']}"
    file.write_text(text.replace(what["old"], what["new"]))


def _write(folder: Path, what: dict[str, str]) -> None:
    file = folder / what["file"]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(what["text"])


def _delete(folder: Path, what: str) -> None:
    shutil.rmtree(folder / what) if (folder / what).is_dir() else (folder / what).unlink()


def _copy(folder: Path, what: dict[str, str]) -> None:
    source, target = folder / what["from"], folder / what["to"]
    if target.exists():
        _delete(folder, what["to"])
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def _swap(folder: Path, what: list[str]) -> None:
    a, b = (folder / path for path in what)
    aside = folder / "aside"
    a.rename(aside)
    b.rename(a)
    aside.rename(b)


def _link(folder: Path, what: dict[str, str]) -> None:
    file = folder / what["file"]
    file.unlink(missing_ok=True)
    file.symlink_to(what["to"])


def _flip(folder: Path, what: dict[str, Any]) -> None:
    data = bytearray((folder / what["file"]).read_bytes())
    data[what["at"]] ^= 1
    (folder / what["file"]).write_bytes(data)


def _cut(folder: Path, what: dict[str, Any]) -> None:
    file = folder / what["file"]
    file.write_bytes(file.read_bytes()[: what["bytes"]])


def _json(folder: Path, what: dict[str, Any]) -> None:
    file = folder / what["file"]
    plain = json.loads(file.read_bytes())
    here: Any = plain
    *above, last = what["at"].removeprefix("/").split("/")
    for key in above:
        here = here[int(key)] if isinstance(here, list) else here[key]
    place: Any = int(last) if isinstance(here, list) else last
    if "value" in what:
        here[place] = what["value"]
    else:
        del here[place]
    file.write_bytes(canonical_json(plain))


def _rows(folder: Path, what: dict[str, Any]) -> None:
    chunk, steps = (folder / f"runs/{RUN}/{part}/{what['chunk']}.parquet" for part in ("chunks", "steps"))
    table, entries = pq.read_table(chunk), pq.read_table(steps).to_pylist()
    columns = table.to_pydict()
    columns["token_ids"] = [[what["value"]] * len(ids) for ids in columns["token_ids"]]
    batches = tuple(Batch(step=e["step"], first_row=e["first_row"], end_row=e["end_row"]) for e in entries)
    changed = type(table).from_pydict(columns, schema=chunk_schema("uint16"))
    facts = write_chunk(chunk, steps, [Group(batches=batches, table=changed)], "uint16")
    _json(
        folder,
        {
            "file": f"runs/{RUN}/packing.json",
            "at": f"/chunks/{what['chunk']}/rows_sha256",
            "value": facts.rows_sha256,
        },
    )


FILLS: dict[str, Callable[[Any], Any]] = {
    "nan": lambda value: np.full_like(value, np.nan),
    "zeros": np.zeros_like,
    "random": lambda value: np.random.default_rng(9).standard_normal(value.shape).astype(value.dtype),
    "nudged": lambda value: value + np.float32(0.001),
    "transposed": lambda value: np.ascontiguousarray(value.T),
    "float16": lambda value: value.astype(np.float16),
}


def _tensor(folder: Path, what: dict[str, Any]) -> None:
    file, name, fill = folder / what["file"], what["name"], what["fill"]
    tensors = load_file(file)
    if fill == "removed":
        del tensors[name]
    elif fill == "added":
        tensors[name] = np.ones(2, np.float32)
    elif fill != "same":
        tensors[name] = FILLS[fill](tensors[name])
    save_file(tensors, file, metadata={"saved": "again"})


def _hex(folder: Path, what: dict[str, Any]) -> None:
    data = bytearray((folder / what["file"]).read_bytes())
    new = bytes.fromhex(what["bytes"])
    data[what["at"] : what["at"] + len(new)] = new
    (folder / what["file"]).write_bytes(data)


def _forget(folder: Path, what: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"] = [record for record in manifest["files"] if record["path"] != what]
    (folder / "manifest.json").write_bytes(canonical_json(manifest))


def _trace(folder: Path, what: dict[str, str]) -> None:
    file = folder / f"runs/{RUN}/traces/{what['checkpoint']}.jsonl"
    entries = pq.read_table(folder / f"runs/{RUN}/steps/{what['chunk']}.parquet").to_pylist()
    digests = {entry["step"]: entry["ids_sha256"] for entry in entries}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    texts = [json.dumps(line | {"batch_sha256": digests[line["step"]]}, sort_keys=True) for line in lines]
    file.write_text("".join(f"{text}\n" for text in texts))


def _positions(folder: Path, _what: str) -> None:
    digests: dict[tuple[str, str | None], str] = {}
    files = {
        file: json.loads(file.read_bytes()) for file in folder.glob("runs/*/checkpoints/*/training_state/position.json")
    }
    for file, position in sorted(files.items(), key=lambda item: (item[1]["run"], item[1]["step"])):
        weights = hash_tensor_file(file.parent.parent / "model.safetensors")[1]
        optimizer = hash_tensor_file(file.parent / "optimizer.safetensors")[1]
        position["tensors"] |= {"weights": weights, "optimizer": optimizer}
        position["parent_sha256"] = digests.get((position["run"], position["parent"]))
        if position["chunk"] is not None:
            packing = json.loads((folder / f"runs/{position['run']}/packing.json").read_bytes())
            position["rows_sha256"] = packing["chunks"][position["chunk"]]["rows_sha256"]
        digests[position["run"], position["checkpoint"]] = weights
        file.write_bytes(canonical_json(position))


def _seal(folder: Path, _what: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())

    def renew(record: dict[str, Any], base: str = "") -> None:
        file = folder / base / record["path"]
        if file.is_file():
            digest = hash_file(file)
            record |= {"bytes": digest.bytes, "sha256": digest.sha256}

    for record in manifest["files"]:
        renew(record)
    for run in manifest["runs"]:
        for chunk in run["chunks"]:
            renew(chunk["file"])
            renew(chunk["step_table"])
        for checkpoint in run["checkpoints"]:
            for record in checkpoint["files"]:
                renew(record, checkpoint["folder"])
            if checkpoint.get("trace") is not None:
                renew(checkpoint["trace"])
    manifest["spec_sha256"] = hashlib.sha256((folder / "release.yaml").read_bytes()).hexdigest()
    (folder / "manifest.json").write_bytes(canonical_json(manifest))


CHANGES: dict[str, Callable[[Path, Any], None]] = {
    "edit": _edit,
    "write": _write,
    "delete": _delete,
    "copy": _copy,
    "swap": _swap,
    "link": _link,
    "flip": _flip,
    "cut": _cut,
    "json": _json,
    "rows": _rows,
    "tensor": _tensor,
    "hex": _hex,
    "forget": _forget,
    "trace": _trace,
    "positions": _positions,
    "build": lambda folder, _what: write_manifest(folder),
    "seal": _seal,
}
