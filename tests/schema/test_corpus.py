"""Sources, rows, file sets and tokenizers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from open360.schema.corpus import Corpus, FileSet, RowFormat, Source, Tokenizer
from open360.schema.layout import chunk_name, chunk_path, path_in_data_repo, step_table_path


def test_a_source_has_one_kind_or_none() -> None:
    assert Source(name="a", http="https://x").kind == "http"
    assert Source(name="a").kind is None
    with pytest.raises(ValidationError, match="keep one"):
        Source(name="a", http="https://x", local="b")


def test_rows_hold_the_predicted_ids_or_one_more() -> None:
    assert RowFormat(row_len=9, seq_len=8).row_len - RowFormat(row_len=8, seq_len=8).row_len == 1
    for row_len in (7, 10):
        with pytest.raises(ValidationError, match=f"found {row_len}"):
            RowFormat(row_len=row_len, seq_len=8)


def test_numbers_and_names_of_files_follow_first_and_stride() -> None:
    files = FileSet(pattern="data-{index:05d}.h5", first=1, stride=2, count=3)
    assert [files.file(number) for number in files.numbers()] == ["data-00001.h5", "data-00003.h5", "data-00005.h5"]
    with pytest.raises(ValueError, match="not declared"):
        FileSet(pattern="{index}").numbers()
    with pytest.raises(ValueError, match="listed"):
        FileSet(listed="https://x").file(0)


def test_the_last_file_may_be_smaller() -> None:
    assert FileSet(count=3, bytes=100, last_bytes=7).total_bytes == 207
    assert FileSet(count=3, bytes=100).total_bytes == 300
    assert FileSet(count=3).total_bytes is None


@pytest.mark.parametrize(
    "pattern", ["{}", "{0}", "{index!r}", "{index.__class__}", "{index:999d}", "{other}", "{index}{index}"]
)
def test_a_pattern_of_files_can_do_nothing_but_number(pattern: str) -> None:
    with pytest.raises(ValidationError):
        FileSet(pattern=pattern)


@pytest.mark.parametrize("fields", [{"train": "byte_level_bpe", "hub": "a/b"}, {"hub": "a/b", "path": "x"}])
def test_a_tokenizer_has_one_origin(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="one origin"):
        Tokenizer.model_validate(fields)


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="used twice"):
        Corpus(name="c", sources=(Source(name="a"), Source(name="a")))


def test_paths_in_a_data_repository_leave_the_run_out() -> None:
    chunk = chunk_name(3)
    assert path_in_data_repo(chunk_path("r", chunk)) == "chunks/chunk_003.parquet"
    assert path_in_data_repo(step_table_path("r", chunk)) == "steps/chunk_003.parquet"
    assert path_in_data_repo("corpora/c/corpus.json") == "corpora/c/corpus.json"
