"""What a card and a configuration of others say, as far as the grammar of the spec takes it. None of it is believed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from open360.release.license_expressions import parse_license
from open360.schema.errors import SpecError
from open360.schema.serialization import parse_yaml

MAX_CARD_BYTES = 1 << 20
MAX_WORDS = 100
ARCHITECTURE = (
    "model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings", "hidden_act", "rms_norm_eps",
    "layer_norm_eps", "rope_theta", "rotary_pct", "tie_word_embeddings", "use_parallel_residual", "attention_bias",
    "mlp_bias", "n_embd", "n_layer", "n_head", "n_positions", "num_experts", "num_experts_per_tok",
)  # fmt: skip
HUB_LICENSES = {"odc-by": "ODC-By-1.0", "pddl": "PDDL-1.0", "bsd": "BSD-3-Clause"}  # the Hub's ids that SPDX lacks
UNSAID_LICENSES = ("other", "unknown", "none", "")
_FRONT_MATTER = re.compile(rb"(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|$)", re.DOTALL)


def front_matter(card: bytes) -> dict[str, Any]:
    """The YAML between the two lines of dashes at the beginning of a card; empty when it cannot be read."""
    found = _FRONT_MATTER.match(card)
    if found is None:
        return {}
    try:
        plain, _ = parse_yaml(found[1], "README.md", MAX_CARD_BYTES)
    except SpecError:
        return {}
    return plain if isinstance(plain, dict) else {}


def words(value: object) -> list[str]:
    """A word or a list of words, as front matter writes both: `license: mit`, `license: [mit, apache-2.0]`."""
    listed = value if isinstance(value, list) else [value]
    return [word.strip() for word in listed[:MAX_WORDS] if isinstance(word, str) and 0 < len(word.strip()) <= 200]


def spdx_of(value: object) -> str | None:
    """The SPDX expression that the Hub's `license` of a card means; None when it says none.

    An id that SPDX does not know becomes a `LicenseRef-`.
    """
    found = [_spdx_id(word) for word in words(value) if word.lower() not in UNSAID_LICENSES]
    expression = " AND ".join(dict.fromkeys(found))
    return expression if expression and len(expression) <= 200 else None


def _spdx_id(word: str) -> str:
    known = HUB_LICENSES.get(word.lower())
    if known is not None:
        return known
    parsed = parse_license(word, known=True)
    if parsed is None:
        return f"LicenseRef-{re.sub(r'[^A-Za-z0-9.-]+', '-', word).strip('-') or 'unnamed'}"
    return str(parsed)


def architecture_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The known keys of a `config.json` whose values are plain numbers, words and switches."""
    found = {key: config[key] for key in ARCHITECTURE if key in config and _is_plain(config[key])}
    names = config.get("architectures")
    if isinstance(names, list) and len(names) == 1 and _is_plain(names[0]):
        found["architectures"] = names
    return {key: found[key] for key in ARCHITECTURE if key in found}


def _is_plain(value: object) -> bool:
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) < 1 << 62
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()
