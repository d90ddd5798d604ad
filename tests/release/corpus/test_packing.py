"""Packing: the order is a function of seed and documents, every id is in one place, nothing depends on the machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.release.corpus.chunk_file import GROUP_IDS_BYTES, Batch, group_batches
from open360.release.corpus.encoder import Encoder
from open360.release.corpus.packing import PackingError
from tests.release.corpus.conftest import Packed, Text, make_spec, some_texts

Pack = Callable[..., Packed]


def stream_by_hand(texts: list[Text], tokenizer: Path, epochs: tuple[int, ...], seed: int = 7) -> list[int]:
    """The ids in training order, straight from the definition."""
    encoder = Encoder(tokenizer, "tokenizers")
    copies = []
    for source, path, text in texts:
        digest = hashlib.sha256(text.encode()).hexdigest()
        for epoch in range(epochs[int(source[-1])]):
            key = hashlib.sha256(f"{seed}\n{digest}\n{epoch}".encode()).hexdigest()
            copies.append((key, f"{source}/{path}", [*encoder.encode_batch([text])[0].tolist(), 0]))
    return [token for _, _, ids in sorted(copies) for token in ids]


def all_ids(packed: Packed) -> list[int]:
    return [i for chunk in packed.chunks for row in pq.read_table(chunk)["token_ids"].to_pylist() for i in row]


def distinct(texts: list[Text]) -> list[Text]:
    return list({text: (source, path, text) for source, path, text in texts}.values())


def test_rows_are_the_documents_in_key_order_joined_and_cut(pack: Pack, tokenizer_folder: Path) -> None:
    texts = distinct(some_texts())
    packed = pack(texts)
    stream = stream_by_hand(texts, tokenizer_folder, (1, 2))
    assert all_ids(packed) == stream[: 24 * 17]
    assert packed.result.tokens == len(stream)
    assert packed.result.tokens_left_over == len(stream) - 24 * 17
    assert packed.result.rows == 24


def test_the_documents_of_a_row_say_where_each_of_its_ids_comes_from(pack: Pack, tokenizer_folder: Path) -> None:
    texts = distinct(some_texts())
    encoder = Encoder(tokenizer_folder, "tokenizers")
    own = {f"{s}/{p}": [*encoder.encode_batch([t])[0].tolist(), 0] for s, p, t in texts}
    seen: Counter[tuple[str, int]] = Counter()
    for chunk in pack(texts).chunks:
        for row in pq.read_table(chunk).to_pylist():
            at = 0
            for span in row["documents"]:
                assert span["start"] == at
                at += span["length"]
                ids = own[span["id"]][span["offset"] : span["offset"] + span["length"]]
                assert row["token_ids"][span["start"] : at] == ids
                assert span["source"] == span["id"].split("/")[0]
                seen.update((span["id"], span["offset"] + i) for i in range(span["length"]))
            assert at == 17
    assert all(count <= (2 if name.startswith("source-1") else 1) for (name, _), count in seen.items())


def test_rows_and_steps_run_through_all_chunks(pack: Pack) -> None:
    tables = [pq.read_table(chunk) for chunk in pack(some_texts()).chunks]
    assert [r for t in tables for r in t["row"].to_pylist()] == list(range(24))
    assert [s for t in tables for s in t["step"].to_pylist()] == [row // 4 for row in range(24)]
    assert [len(t) for t in tables] == [12, 12]


def test_a_batch_that_grows_is_followed(pack: Pack) -> None:
    packed = pack(some_texts(80), make_spec(batch="[[0, 2], [4, 5]]"))
    steps = [s for chunk in packed.chunks for s in pq.read_table(chunk)["step"].to_pylist()]
    assert Counter(steps) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 5, 5: 5}
    assert [f.end_row for f in packed.result.chunks.values()] == [6, 18]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(40)), workers=st.integers(1, 4), engine=st.sampled_from([None, "tokenizers"]))
def test_neither_file_order_nor_workers_nor_engine_change_a_byte(
    pack: Pack, order: list[int], workers: int, engine: str | None
) -> None:
    texts = some_texts()
    expected, found = pack(texts), pack([texts[i] for i in order], workers=workers, engine=engine)
    assert found.bytes_of_all() == expected.bytes_of_all()
    assert expected.result.engine == "tiktoken"


def test_equal_documents_that_were_kept_have_a_fixed_order(pack: Pack) -> None:
    texts = [("source-0", f"{i}.txt", "the same text " * 20) for i in range(30)]
    spec = make_spec(deduplicate="none")
    assert pack(texts, spec).bytes_of_all() == pack(texts[::-1], spec).bytes_of_all()


def test_another_seed_gives_another_order(pack: Pack) -> None:
    spec = make_spec()
    other = spec.model_copy(update={"corpora": (spec.corpora[0].model_copy(update={"seed": 8}),)})
    assert all_ids(pack(some_texts(), spec)) != all_ids(pack(some_texts(), other))


def test_the_rows_digest_does_not_depend_on_how_ids_are_stored(pack: Pack) -> None:
    narrow, wide = pack(some_texts()), pack(some_texts(), make_spec(dtype="uint32"))
    assert narrow.chunks[0].read_bytes() != wide.chunks[0].read_bytes()
    for a, b in zip(narrow.result.chunks.values(), wide.result.chunks.values(), strict=True):
        assert a.rows_sha256 == b.rows_sha256


def test_the_rows_digest_is_that_of_the_ids_as_little_endian_uint32(pack: Pack) -> None:
    packed = pack(some_texts())
    for chunk, facts in zip(packed.chunks, packed.result.chunks.values(), strict=True):
        ids = np.array(pq.read_table(chunk)["token_ids"].to_pylist(), dtype="<u4")
        assert hashlib.sha256(ids.tobytes()).hexdigest() == facts.rows_sha256


def test_cutting_a_run_into_more_chunks_moves_no_row(pack: Pack) -> None:
    assert all_ids(pack(some_texts(), make_spec(every=3))) == all_ids(pack(some_texts(), make_spec(every=1)))


def test_a_separator_only_follows_the_end_of_a_document(pack: Pack) -> None:
    texts = distinct(some_texts())  # many of them spell the separator out
    packed = pack(texts)
    begun = sum(
        span["offset"] == 0
        for chunk in packed.chunks
        for row in pq.read_table(chunk).to_pylist()
        for span in row["documents"]
    )
    assert any("<|endoftext|>" in text for _, _, text in texts)
    assert begun - 1 <= all_ids(packed).count(0) <= begun


def test_too_few_ids_are_an_error_that_counts_them(pack: Pack) -> None:
    with pytest.raises(PackingError, match="add sources or epochs") as caught:
        pack(some_texts(5))
    assert caught.value.needed == 24 * 17
    assert 0 < caught.value.found < caught.value.needed


def test_a_failed_packing_leaves_nothing_behind(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(PackingError):
        pack(some_texts(5))
    left = [p for p in tmp_path.rglob("*") if p.is_file() and "corpora" not in p.parts]
    assert left == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "int32"}, "uint16 or uint32"),
        ({"overlap": 1}, "without overlap"),
        ({"format": "npy"}, "parquet"),
    ],
)
def test_row_formats_that_are_not_packed_are_refused(pack: Pack, change: dict[str, object], message: str) -> None:
    spec = make_spec()
    row = spec.corpora[0].row
    assert row is not None
    corpus = spec.corpora[0].model_copy(update={"row": row.model_copy(update=change)})
    with pytest.raises(PackingError, match=message):
        pack(some_texts(), spec.model_copy(update={"corpora": (corpus,)}))


def test_a_run_without_a_checkpoint_at_its_end_is_refused(pack: Pack) -> None:
    with pytest.raises(PackingError, match="checkpoint at the last step"):
        pack(some_texts(), make_spec(steps=7))


def test_packing_json_tells_what_was_packed_but_not_by_which_engine(pack: Pack) -> None:
    packed = pack(some_texts())
    text = (packed.folder / "packing.json").read_text()
    content = json.loads(text)
    assert "tiktoken" not in text
    assert "tokenizers" not in text
    assert list(content["chunks"]) == ["chunk_000", "chunk_001"]
    sources = content["sources"]
    assert sum(s["tokens"] * s["epochs"] for s in sources.values()) == content["tokens"]
    assert content["tokens"] == content["rows"] * content["row_len"] + content["tokens_left_over"]


def test_two_processes_write_the_same_bytes(pack: Pack, tmp_path: Path) -> None:
    first = pack(some_texts())
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.release.corpus.conftest import make_spec\n"
        "from open360.release.corpus.packing import pack_run\n"
        "root = Path(sys.argv[1]); spec = make_spec(); out = root / 'again'\n"
        "pack_run(spec, spec.run('small'), root, out / 'chunks', out / 'steps', workers=1)\n"
    )
    root = first.folder.parent.parent
    environment = {**os.environ, "PYTHONHASHSEED": "99", "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([sys.executable, "-P", "-c", script, str(root)], check=True, env=environment)
    again = Packed(folder=root / "again", result=first.result)
    assert again.bytes_of_all() == first.bytes_of_all()


@given(
    rows=st.lists(st.integers(1, 200), min_size=1, max_size=60),
    row_len=st.integers(1, 3000),
    itemsize=st.sampled_from([2, 4]),
)
def test_row_groups_hold_the_fewest_whole_steps_that_reach_the_size(
    rows: list[int], row_len: int, itemsize: int
) -> None:
    ends = np.cumsum(rows).tolist()
    batches = [Batch(step=i, first_row=e - n, end_row=e) for i, (n, e) in enumerate(zip(rows, ends, strict=True))]
    groups = list(group_batches(batches, row_len, itemsize))
    assert [batch for group in groups for batch in group] == batches
    sizes = [[(b.end_row - b.first_row) * row_len * itemsize for b in group] for group in groups]
    for group in sizes[:-1]:
        assert sum(group) >= GROUP_IDS_BYTES > sum(group[:-1])
    assert sum(sizes[-1][:-1]) < GROUP_IDS_BYTES
