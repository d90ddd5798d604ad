"""Which files go to large-file storage, and which are ignored: `.gitattributes` and `.gitignore` as git reads them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

MAX_REGULAR_BYTES = 10 * 1024 * 1024

_LARGE = (
    "7z arrow avro bin bz2 ckpt ftz gz h5 joblib lz4 mds mlmodel model msgpack npy npz onnx ot parquet "
    "pb pickle pkl pt pth rar safetensors tar tflite tgz wasm xz zip zst"
)
_PATTERNS = [*(f"*.{ending}" for ending in _LARGE.split()), "*.lfs.*", "*.tar.*", "*tfevents*", "saved_model/**/*"]

DEFAULT_GITATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in sorted(_PATTERNS)
).encode()


@functools.lru_cache(maxsize=4096)
def _compile(pattern: str) -> re.Pattern[str]:
    """Translate one pattern of gitignore(5): `*` stops at a slash, `**` does not, a slash anchors it."""
    anchored = "/" in pattern.rstrip("/")
    body = pattern.strip("/")
    out, at = "", 0
    while at < len(body):
        if body.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif body.startswith("**", at):
            out, at = out + ".*", at + 2
        elif body[at] == "[" and (end := body.find("]", at + 2)) > 0:
            inside = body[at + 1 : end].replace("\\", r"\\")
            out, at = out + "[" + ("^" + inside[1:] if inside.startswith("!") else inside) + "]", end + 1
        elif body[at] == "\\" and at + 1 < len(body):
            out, at = out + re.escape(body[at + 1]), at + 2
        else:
            simple = {"*": "[^/]*", "?": "[^/]"}
            out, at = out + simple.get(body[at], re.escape(body[at])), at + 1
    try:
        return re.compile(("" if anchored else "(?:.*/)?") + out)
    except re.error:
        return re.compile(re.escape(pattern))


def is_large_by_name(path: str, gitattributes: str) -> bool:
    """Whether `.gitattributes` sends a path to large-file storage; the last line that matches decides."""
    large = False
    for line in _lines(gitattributes):
        pattern, *attributes = line.split()
        if _compile(pattern).fullmatch(path):
            for attribute in attributes:
                if attribute in ("-filter", "!filter"):
                    large = False
                elif attribute.startswith("filter="):
                    large = attribute == "filter=lfs"
    return large


def is_ignored(path: str, gitignore: str) -> bool:
    """Whether `.gitignore` names a path or one of the folders that it lies in; the last line that matches decides."""
    parts = path.split("/")
    return any(
        _last_word("/".join(parts[:depth]), gitignore, is_folder=depth < len(parts))
        for depth in range(1, len(parts) + 1)
    )


def _last_word(path: str, gitignore: str, *, is_folder: bool) -> bool:
    ignored = False
    for line in _lines(gitignore):
        pattern = line.removeprefix("!")
        if pattern.endswith("/") and not is_folder:
            continue
        if pattern.strip("/") and _compile(pattern).fullmatch(path):
            ignored = not line.startswith("!")
    return ignored


def _lines(text: str) -> Iterable[str]:
    return (line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def is_binary(sample: bytes) -> bool:
    """Whether the first bytes of a file are no text: a zero byte, or no UTF-8."""
    if b"\0" in sample:
        return True
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        # A sample may end inside a character, which is no fault of the file.
        return error.start < len(sample) - 3
    return False
