"""The header of a real NumPy file (`*.npy`), read with its claims checked. Nothing is ever unpickled.

Many files called `.npy` are none: OLMo's are raw numbers without a header. `has_npy_header` tells them apart.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from tokenize import TokenError

import numpy as np

from open360.release.order.spans import OrderError

MAGIC = b"\x93NUMPY"
MAX_HEADER_CHARS = 10_000
HEAD_BYTES = MAX_HEADER_CHARS + 64  # enough of a file to read its header
_MALFORMED = (
    ValueError, TypeError, KeyError, IndexError, SyntaxError, OverflowError, AttributeError, TokenError,
    RecursionError, MemoryError, EOFError, UnicodeError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """Whole numbers of type `dtype` (little-endian) in C order, from byte `begin` of the file on."""

    dtype: np.dtype[np.integer]
    shape: tuple[int, ...]
    begin: int


def has_npy_header(head: bytes) -> bool:
    """Whether a file that begins so is a real NumPy file."""
    return head.startswith(MAGIC)


def parse_npy_header(name: str, head: bytes, file_bytes: int) -> ArrayLayout:
    """The array of a NumPy file, from its first bytes (`HEAD_BYTES`, or all of it).

    Raises OrderError: no header, no little-endian whole numbers, or another size than the file has.
    """
    file = io.BytesIO(head[:HEAD_BYTES])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(file)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            shape, fortran, dtype = readers[version](file, max_header_size=MAX_HEADER_CHARS)
    except _MALFORMED as error:
        raise OrderError(name, f"its NumPy header cannot be read ({type(error).__name__})") from error
    if dtype.kind not in "iu" or dtype.newbyteorder("<") != dtype:
        raise OrderError(name, f"expected whole numbers, found an array of '{str(dtype)[:60]}'")
    if (fortran and len(shape) > 1) or any(size < 0 for size in shape):
        raise OrderError(name, "expected an array in C order")
    stated = file.tell() + math.prod(shape) * dtype.itemsize
    if stated != file_bytes:
        raise OrderError(name, f"its header claims {stated} bytes in all, the file has {file_bytes}")
    return ArrayLayout(dtype=dtype, shape=tuple(shape), begin=file.tell())
