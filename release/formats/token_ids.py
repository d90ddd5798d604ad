"""Ids as files store them, and as we give them: little-endian uint32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from open360.release.formats.ranges import DataFileError

STORED_DTYPES: dict[str, np.dtype[np.integer]] = {
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "int32": np.dtype("<i4"),
}
# Codes of Megatron's `.idx` and of lit-gpt's `.bin`. The same number means uint16 everywhere.
CODES: dict[int, np.dtype[np.integer]] = {
    1: np.dtype("u1"), 2: np.dtype("i1"), 3: np.dtype("<i2"), 4: np.dtype("<i4"), 5: np.dtype("<i8"),
    8: np.dtype("<u2"),
}  # fmt: skip
_FLOATS = (6, 7)
_MAX_ID = (1 << 32) - 1


def dtype_of_code(name: str, code: int) -> np.dtype[np.integer]:
    """The type that a header's code stands for. Raises DataFileError: unknown, or a floating-point type."""
    if code in CODES:
        return CODES[code]
    found = str(code)
    if code in _FLOATS:
        found += ", a floating-point type (float32 and float64 in GPT-NeoX, the other way round in Megatron-core)"
    known = ", ".join(map(str, CODES))
    raise DataFileError(f"{name}, code of its number type", f"one of whole numbers ({known})", found, "it holds no ids")


def to_ids(name: str, data: Any, dtype: np.dtype[np.integer]) -> NDArray[np.uint32]:
    """Stored numbers (a buffer of whole ones, or an array) as ids. Raises DataFileError for what cannot be an id."""
    numbers: NDArray[Any] = data if isinstance(data, np.ndarray) else np.frombuffer(data, dtype=dtype)
    if numbers.size and (numbers.dtype.kind == "i" or numbers.dtype.itemsize > 4):
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high > _MAX_ID:
            found = str(low if low < 0 else high)
            raise DataFileError(name, f"ids of 0 to {_MAX_ID}", found, "see that the spec declares the right dtype")
    return numbers.astype("<u4")
