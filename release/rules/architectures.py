"""Which tensors an architecture has: names and shapes, from the configuration keys of `transformers`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LLAMA_LIKE = frozenset({"llama", "mistral"})
MAX_LAYERS = 10_000
Shape = tuple[int, ...]
# Buffers that older versions of `transformers` saved; they are computed from the configuration.
_BUFFER = re.compile(r"(^|\.)(rotary_emb\.inv_freq|masked_bias|attention\.bias)$")


def ignorable(name: str) -> bool:
    """Whether a stored tensor is a buffer that no loader needs."""
    return _BUFFER.search(name) is not None


def expected_shapes(architecture: Mapping[str, Any]) -> dict[str, Shape] | None:
    """Names and shapes of all tensors of a Llama-like model; None for other architectures, or when keys are missing.

    Shapes are (outputs, inputs), as `torch.nn.Linear` stores them.
    """
    if architecture.get("model_type") not in LLAMA_LIKE:
        return None
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    sizes = [architecture.get(key) for key in keys]
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        return None
    vocabulary, hidden, inner, layers, heads = (int(size or 0) for size in sizes)
    key_heads = _size(architecture, "num_key_value_heads", heads)
    head = _size(architecture, "head_dim", hidden // heads)
    if layers > MAX_LAYERS:
        return None
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not architecture.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = (vocabulary, hidden)
    attention: dict[str, Shape] = {
        "q_proj": (heads * head, hidden),
        "k_proj": (key_heads * head, hidden),
        "v_proj": (key_heads * head, hidden),
        "o_proj": (hidden, heads * head),
    }
    mlp: dict[str, Shape] = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    for layer in range(layers):
        base = f"model.layers.{layer}"
        shapes[f"{base}.input_layernorm.weight"] = (hidden,)
        shapes[f"{base}.post_attention_layernorm.weight"] = (hidden,)
        parts = [("self_attn", attention, "attention_bias"), ("mlp", mlp, "mlp_bias")]
        for block, linears, bias in parts:
            for name, shape in linears.items():
                shapes[f"{base}.{block}.{name}.weight"] = shape
                if architecture.get(bias):
                    shapes[f"{base}.{block}.{name}.bias"] = shape[:1]
    return shapes


def _size(architecture: Mapping[str, Any], key: str, default: int) -> int:
    found = architecture.get(key)
    return found if isinstance(found, int) and found > 0 else default
