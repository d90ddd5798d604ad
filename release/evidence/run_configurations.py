"""What most configurations of a run say of what the spec leaves out, and how one differs from them.

Configurations come from anybody: large ones are not compared, and values are kept as short texts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

MAX_COMPARED_BYTES = 32 << 10
LIBRARY = "transformers_version"
DTYPE = "dtype"
DTYPES = (DTYPE, "torch_dtype")
# What libraries write of themselves, and what says nothing of the model.
IGNORED = frozenset({LIBRARY, *DTYPES, "_name_or_path", "_commit_hash", "auto_map", "use_cache"})
LONGEST_TEXT = 100

Texts = Mapping[str, str]


def configuration_texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Each value as a text that only equal values share: `10000` and `10000.0` are equal."""
    found = {}
    for key, value in config.items():
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            text = json.dumps(value, sort_keys=True)
        except RecursionError:
            continue
        if len(text) > LONGEST_TEXT:
            text = f"{text[:40]}… (sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"
        found[key] = text
    dtype = dtype_of(config)
    return found if dtype is None else {**found, DTYPE: dtype[:LONGEST_TEXT]}


def dtype_of(config: Mapping[str, Any]) -> str | None:
    """The dtype that a configuration states, None when it states none."""
    stated = next((value for key in DTYPES if isinstance(value := config.get(key), str)), None)
    return stated.removeprefix("torch.") if stated is not None else None


class UsualConfiguration:
    """What more than half of a run's configurations agree in."""

    def __init__(self, configs: list[Texts]) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for config in configs:
            for key, text in config.items():
                counts[key][text] += 1
        self._common = {key for key, texts in counts.items() if 2 * texts.total() >= len(configs)}
        self._usual: dict[str, str] = {}
        for key, texts in counts.items():
            text, times = texts.most_common(1)[0]
            if 2 * times > texts.total():
                self._usual[key] = text

    @property
    def dtype(self) -> str | None:
        """The dtype that most state."""
        return self._usual.get(DTYPE)

    def differences(self, config: Texts, declared: Mapping[str, Any]) -> Iterator[str]:
        """How one differs in keys that are not `declared`. A key that it leaves out has its default there.

        Another version of the library writes further keys, so that these tell nothing.
        """
        library = self._usual.get(LIBRARY) if LIBRARY in self._common else None
        same_library = config.get(LIBRARY) == library
        for key, text in sorted(config.items()):
            if key in IGNORED or key in declared:
                continue
            usual = self._usual.get(key, text)
            if key not in self._common and same_library and text != "null":
                yield f"{key[:80]} is {text}, most checkpoints do not have it"
            elif key in self._common and text != usual:
                yield f"{key[:80]} is {text}, in most checkpoints {usual}"
