"""Digests of content: of rows whatever their storage, of tensors whatever their file.

*Rows digest*: sha256 over the ids as little-endian uint32, row after row.
*Tensors digest*: sha256 over the tensors in order of their names; each contributes a line of canonical JSON
`[name, dtype, shape, bytes]` ended by a newline, then its payload (little-endian, row-major).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from open360.schema.errors import Open360Error

Buffer = bytes | bytearray | memoryview
MAX_HEADER_BYTES = 100 << 20  # the limit of the safetensors format itself
MAX_DIMENSIONS = 64
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


class TensorFileError(Open360Error):
    """A safetensors file is malformed, or claims more than it holds."""

    def __init__(self, file: str, problem: str) -> None:
        self.file, self.problem = file, problem
        super().__init__(f"{file}: not a valid safetensors file: {problem}; fetch or build the file again")


@dataclass(frozen=True, kw_only=True)
class TensorSpan:
    """Where a tensor lies in a safetensors file: bytes `[begin, end)` counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def parse_tensor_header(file: str, head: bytes, file_bytes: int) -> list[TensorSpan]:
    """The tensors of a safetensors file, by name, from its first bytes.

    Args:
        file: name for messages.
        head: at least 8 bytes plus the header (see `tensor_header_bytes`).
        file_bytes: size of the whole file; every claim is checked against it.
    Raises:
        TensorFileError: spans overlap, leave holes, leave the file, or disagree with dtype and shape.
    """
    length = tensor_header_bytes(file, head, file_bytes)
    try:
        header = json.loads(head[8:length], object_pairs_hook=_unique_names)
    except (ValueError, RecursionError) as error:
        raise TensorFileError(file, f"its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise TensorFileError(file, "its header is not an object")
    header.pop("__metadata__", None)
    spans = [_span(file, name, entry, length) for name, entry in header.items()]
    at = length
    for span in sorted(spans, key=lambda s: (s.begin, s.end)):
        if span.begin != at:
            raise TensorFileError(file, f"tensor '{span.name}' starts at byte {span.begin}, expected {at}")
        at = span.end
    if at != file_bytes:
        raise TensorFileError(file, f"its tensors end at byte {at}, but it has {file_bytes} bytes")
    return sorted(spans, key=lambda s: s.name)


def tensor_header_bytes(file: str, head: bytes, file_bytes: int) -> int:
    """Bytes of the length field and the header together. Raises TensorFileError when that cannot be."""
    if len(head) < 8:
        raise TensorFileError(file, f"it has {file_bytes} bytes, expected at least 8")
    length = 8 + int.from_bytes(head[:8], "little")
    if length > min(MAX_HEADER_BYTES, file_bytes):
        raise TensorFileError(file, f"its header claims {length - 8} bytes, but the file has {file_bytes}")
    return length


def _span(file: str, name: str, entry: object, offset: int) -> TensorSpan:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise TensorFileError(file, f"the entry of tensor '{name}' is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    whole = (
        isinstance(dtype, str) and dtype in ITEM_BYTES and _are_sizes(shape, MAX_DIMENSIONS) and _are_sizes(offsets, 2)
    )
    if not whole or len(offsets) != 2:
        raise TensorFileError(file, f"dtype, shape or offsets of tensor '{name}' are malformed")
    size = ITEM_BYTES[dtype]
    for dimension in shape:
        size *= dimension
    if any("\ud800" <= char <= "\udfff" for char in name):
        raise TensorFileError(file, f"the name {ascii(name)[:100]} of a tensor is not Unicode text")
    if offsets[1] - offsets[0] != size:
        raise TensorFileError(file, f"tensor '{name}' claims {offsets[1] - offsets[0]} bytes, its shape needs {size}")
    return TensorSpan(name=name, dtype=dtype, shape=tuple(shape), begin=offset + offsets[0], end=offset + offsets[1])


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _are_sizes(value: object, limit: int) -> bool:
    return isinstance(value, list) and len(value) <= limit and all(type(n) is int and n >= 0 for n in value)


def tensors_digest(tensors: Iterable[tuple[TensorSpan, Iterable[Buffer]]]) -> str:
    """Digest of tensors given with their payloads, in any number of pieces each; order of names is checked."""
    digest = hashlib.sha256()
    last = ""
    for span, pieces in tensors:
        if last and span.name <= last:
            raise ValueError(f"tensors must come by name: '{span.name}' after '{last}'")
        last = span.name
        line = json.dumps([span.name, span.dtype, list(span.shape), span.end - span.begin], ensure_ascii=False)
        digest.update(line.encode() + b"\n")
        for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()


def digest_of_tensor_file(file: str, data: memoryview) -> str:
    """Tensors digest of a safetensors file that lies in memory (or is mapped)."""

    def payloads() -> Iterator[tuple[TensorSpan, Iterable[Buffer]]]:
        for span in parse_tensor_header(file, bytes(data[:header]), len(data)):
            yield span, (data[span.begin : span.end],)

    header = tensor_header_bytes(file, bytes(data[:8]), len(data))
    return tensors_digest(payloads())


def rows_digest(pieces: Iterable[Buffer]) -> str:
    """Rows digest of ids given as little-endian uint32 bytes, in pieces of any size."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
