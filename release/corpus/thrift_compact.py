"""Thrift's compact protocol, read into plain dicts: the encoding of Parquet's footer and page headers.

Our own because the library's accessors end the process on some broken footers, and cannot read page headers at all.
Every element takes at least a byte of input, so nothing larger than the input is made. Specification:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 24
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class ThriftError(ValueError):
    """The bytes are not what the protocol allows."""


def read_struct(data: bytes | memoryview, at: int = 0) -> tuple[dict[int, Any], int]:
    """The struct that begins at byte `at`, as `{field id: value}`, and where it ends. Raises ThriftError."""
    reader = _Reader(data, at)
    try:
        return reader.struct(0), reader.at
    except IndexError as error:
        raise ThriftError(f"it ends in the middle, at byte {len(data)}") from error


class _Reader:
    def __init__(self, data: bytes | memoryview, at: int) -> None:
        self.data, self.at = data, at

    def _byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ThriftError(f"a number of more than 64 bits at byte {self.at}")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _bytes(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise ThriftError(f"a text of {size} bytes at byte {self.at}, beyond the end")
        self.at += size
        return bytes(self.data[self.at - size : self.at])

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self._integer()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        if kind == _MAP:
            return self._map(depth + 1)
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise ThriftError(f"a value of unknown kind {kind} at byte {self.at}")

    def _list(self, depth: int) -> list[Any]:
        header = self._byte()
        size, kind = header >> 4, header & 0x0F
        if size == 15:
            size = self._varint()
        self._check(size, depth)
        if kind in (_TRUE, _FALSE):
            return [self._byte() == _TRUE for _ in range(size)]
        return [self._value(kind, depth) for _ in range(size)]

    def _map(self, depth: int) -> list[tuple[Any, Any]]:
        size = self._varint()
        self._check(size, depth)
        if not size:
            return []
        kinds = self._byte()
        return [(self._value(kinds >> 4, depth), self._value(kinds & 0x0F, depth)) for _ in range(size)]

    def _check(self, size: int, depth: int) -> None:
        if size > len(self.data) - self.at or depth > MAX_DEPTH:
            raise ThriftError(f"a list of {size} elements, {depth} deep, at byte {self.at}")

    def struct(self, depth: int) -> dict[int, Any]:
        """The struct that begins here."""
        self._check(0, depth)
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._integer()
            fields[number] = self._value(header & 0x0F, depth)
        return fields
