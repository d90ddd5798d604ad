"""The three index maps of a GPT-NeoX or Megatron sampler: samples that are cut out of shuffled documents.

`doc` lists documents in the order in which they are strung together (all epochs at once), `sample[i]` is where sample
*i* begins: (place in `doc`, id inside that document), `shuffle` the order of the samples. Sample *i* holds the ids from
`sample[i]` to `sample[i + 1]` and one more: the last id of a sample is the first of the next.
Sources: gpt-neox megatron/data/gpt2_dataset.py, Megatron-LM megatron/core/datasets/gpt_dataset.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open360.release.order.row_orders import IndexArray
from open360.release.order.spans import OrderError

MAX_DOCUMENTS = 1 << 20  # strung together in one sample


class DocumentSpan(NamedTuple):
    """Ids `[begin, end)` of a document, which lie from byte `at` of the stream of documents on."""

    document: int
    begin: int
    end: int
    at: int


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The documents of a `.bin` file, as its `.idx` tells: ids of each, the byte where each begins, bytes of an id."""

    sizes: IndexArray
    pointers: IndexArray
    id_bytes: int


class SampleMaps:
    """Where the ids of samples lie. Raises OrderError for maps that contradict themselves or the documents.

    Args:
        doc, sample: arrays of shape (n,) and (samples + 1, 2).
        row_len: ids of a sample.
    """

    def __init__(self, name: str, *, doc: IndexArray, sample: IndexArray, documents: Documents, row_len: int) -> None:
        self.name, self.row_len = name, row_len
        self._doc, self._sample, self._documents = doc, sample, documents

    @property
    def samples(self) -> int:
        """Samples that the maps hold."""
        return max(len(self._sample) - 1, 0)

    def parts(self, samples: Sequence[int]) -> list[list[DocumentSpan]]:
        """The pieces of documents that each sample is made of, in order. Each map is asked once or twice in all."""
        wanted = np.array(samples, dtype=np.int64)
        if not wanted.size:
            return []
        if int(wanted.min()) < 0 or int(wanted.max()) >= self.samples:
            outside = min(int(wanted.min()), 0) or int(wanted.max())
            raise OrderError(self.name, f"sample {outside} is asked for, it holds {self.samples}")
        borders = np.asarray(self._sample[np.stack([wanted, wanted + 1], axis=1).reshape(-1)])
        if borders.shape != (2 * wanted.size, 2) or borders.dtype.kind not in "iu":
            raise OrderError(self.name, f"expected borders of samples as pairs, found {borders.dtype} {borders.shape}")
        borders = borders.astype(np.int64).reshape(-1, 2, 2)
        first, last = borders[:, 0, 0], borders[:, 1, 0]
        if int(borders.min()) < 0 or np.any(last < first) or int(last.max()) >= len(self._doc):
            raise OrderError(self.name, f"borders of samples lie outside of its {len(self._doc)} documents")
        if int((last - first).sum()) >= MAX_DOCUMENTS * wanted.size:
            raise OrderError(self.name, f"a sample is strung together from more than {MAX_DOCUMENTS} documents")
        places = np.concatenate([np.arange(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True)])
        documents, sizes, pointers = self._looked_up(places)
        found, at = [], 0
        for (start, stop), count in zip(borders.tolist(), (last - first + 1).tolist(), strict=True):
            taken = slice(at, at + count)
            found.append(self._spans(start[1], stop[1], documents[taken], sizes[taken], pointers[taken]))
            at += count
        return found

    def _looked_up(self, places: NDArray[np.int64]) -> tuple[list[int], list[int], list[int]]:
        """Numbers, sizes and first bytes of the documents at some places of the string."""
        unique, back = np.unique(places, return_inverse=True)
        documents = np.asarray(self._doc[unique]).astype(np.int64)
        known = len(self._documents.sizes)
        if int(documents.min()) < 0 or int(documents.max()) >= known:
            outside = min(int(documents.min()), 0) or int(documents.max())
            raise OrderError(self.name, f"it names document {outside}, the data hold {known}")
        sizes = np.asarray(self._documents.sizes[documents]).astype(np.int64)
        pointers = np.asarray(self._documents.pointers[documents]).astype(np.int64)
        return documents[back].tolist(), sizes[back].tolist(), pointers[back].tolist()

    def _spans(
        self, offset: int, last: int, documents: list[int], sizes: list[int], pointers: list[int]
    ) -> list[DocumentSpan]:
        spans = []
        for index, (document, size, pointer) in enumerate(zip(documents, sizes, pointers, strict=True)):
            begin = offset if index == 0 else 0
            end = last + 1 if index == len(documents) - 1 else size
            if not 0 <= begin <= end <= size:
                raise OrderError(self.name, f"ids {begin} to {end} of document {document}, which has {size}")
            if begin < end:
                spans.append(DocumentSpan(document, begin, end, pointer + begin * self._documents.id_bytes))
        ids = sum(span.end - span.begin for span in spans)
        if ids != self.row_len:
            raise OrderError(self.name, f"a sample has {ids} ids, expected {self.row_len}")
        return spans
