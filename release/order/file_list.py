"""Published lists of data files: an order may depend on them line by line, repetitions included.

Two forms are in use: a text with a path a line, `label,path` with comments (OLMo-core's mixes), and a trainer's YAML
configuration with the paths as items of a list under `data` (OLMo; its evaluators have lists of their own, which are
left out). Both are read line by line, so that nothing of them is believed.
"""

from __future__ import annotations

import re

from open360.release.order.spans import OrderError

MAX_FILES = 1_000_000
MAX_LINE_CHARS = 4096
_DATA_FILE = re.compile(r"[^\s,\"'#]+\.(?:npy|bin|ds|jsonl|json|parquet|h5|tar)(?:\.(?:gz|zst))?")


def parse_file_list(name: str, data: bytes, *, tokenizer: str | None = None) -> list[str]:
    """Paths or addresses of data files in the order of the list, repetitions included.

    Args:
        tokenizer: what `{TOKENIZER}` in a path stands for.
    Raises:
        OrderError: it is no text, too long, or names no file.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise OrderError(name, "it is no UTF-8 text") from error
    found: list[str] = []
    for line in _block_of_data(lines):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        item = text.removeprefix("- ").strip().rsplit(",", 1)[-1].strip().strip("\"'")
        if len(item) <= MAX_LINE_CHARS and _DATA_FILE.fullmatch(item):
            found.append(item.replace("{TOKENIZER}", tokenizer) if tokenizer is not None else item)
        if len(found) > MAX_FILES:
            raise OrderError(name, f"it names more than {MAX_FILES} files")
    if not found:
        raise OrderError(name, "it names no data file")
    return found


def _block_of_data(lines: list[str]) -> list[str]:
    """The lines below `data:` at the left margin, where there is such a line; else all."""
    begin = next((number for number, line in enumerate(lines) if line.rstrip() == "data:"), None)
    if begin is None:
        return lines
    block = lines[begin + 1 :]
    is_next_key = (number for number, line in enumerate(block) if line[:1] not in ("", " ", "\t", "#", "-"))
    return block[: next(is_next_key, len(block))]
