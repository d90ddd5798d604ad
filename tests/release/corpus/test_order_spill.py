"""Sorting documents on disk and in memory gives one order."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from open360.release.corpus import order_file
from open360.release.corpus.order_file import OrderFile


def _order(folder: Path, documents: list[tuple[str, int]]) -> list[tuple[str, list[int]]]:
    folder.mkdir()
    order = OrderFile(folder, 7, "uint16")
    for name, epochs in documents:
        digest = hashlib.sha256(name.encode()).hexdigest()
        order.add(0, name, digest, np.arange(len(name), dtype=np.uint32), epochs)
    found = [(document.id, document.ids.tolist()) for document in order.ordered()]
    order.close()
    return found


def test_a_corpus_that_spills_to_disk_has_the_order_of_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [(f"document {n:x}" * (1 + n % 3), 1 + n % 2) for n in range(700)]
    in_memory = _order(tmp_path / "memory", documents)
    monkeypatch.setattr(order_file, "_BUFFERED", 16)
    on_disk = _order(tmp_path / "disk", documents)
    assert on_disk == in_memory
    assert len(list((tmp_path / "disk").glob("records_*"))) > 100
    assert len(in_memory) == sum(epochs for _, epochs in documents)


def test_no_documents_have_no_order(tmp_path: Path) -> None:
    assert _order(tmp_path / "empty", []) == []
