"""How closely the data of a run can be pulled: by its order, its files, and what is known of them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from open360.release import catalogue
from open360.release.catalogue.abilities import LEVELS, Ability, ability_of, summary_of
from open360.release.cli.main import cli
from open360.schema.corpus import Corpus, DataRepository, FileSet, RowFormat
from open360.schema.model import StepFunction
from open360.schema.order import (
    ChunkOrder,
    FileOrder,
    FunctionOrder,
    MaterializedOrder,
    Order,
    PermutationFileOrder,
    UnknownOrder,
)
from open360.schema.run import Run
from open360.schema.serialization import load_spec

FILES = FileSet(pattern="part-{index:03d}.bin", count=2, bytes=64)
UNKNOWN = UnknownOrder(kind="unknown", reason="the seed of the order was lost")
STREAM = MaterializedOrder(kind="materialized")
FUNCTION = FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle", seed=1)
PERMUTATION = PermutationFileOrder(kind="permutation-file", format="raw-uint32", url="https://example.org/indices.npy")


def chunks(within: FileOrder | UnknownOrder) -> ChunkOrder:
    return ChunkOrder(kind="chunk", chunks=((0, 1),), rows_used=4, within=within)


def corpus(files: FileSet | None = FILES, *, published: bool = True) -> Corpus:
    return Corpus(
        name="mix",
        row=RowFormat(row_len=8, seq_len=8),
        repository=DataRepository(dataset="lab/mix") if published else None,
        files=files,
    )


def level(order: Order, of: Corpus | None = None, *, batch: int | None = 4) -> str:
    known = corpus() if of is None else of
    run = Run(
        name="run",
        objective="pretrain",
        corpus="mix",
        order=order,
        batch=StepFunction[int](((0, batch),)) if batch is not None else None,
    )
    return ability_of(run, known).level


def test_a_stored_stream_is_pulled_to_the_batch_when_its_sizes_are_known() -> None:
    assert level(STREAM) == "batch"
    assert level(STREAM, corpus(FileSet(pattern="a-{index}.bin", count=2))) == "no"
    assert level(STREAM, corpus(FileSet(pattern="a-{index}.bin"))) == "no"
    assert level(STREAM, corpus(None)) == "no"
    assert level(STREAM, batch=None) == "no"


def test_chunks_are_pulled_to_the_batch_only_where_rows_are_trained_in_file_order() -> None:
    assert level(chunks(FileOrder(kind="file"))) == "batch"
    assert level(chunks(UNKNOWN)) == "chunk"
    assert level(chunks(UNKNOWN), corpus(published=False)) == "no"


def test_a_function_needs_its_seed_and_public_files() -> None:
    assert level(FUNCTION) == "batch"
    assert level(FUNCTION.model_copy(update={"resolvable": False})) == "no"
    assert level(FUNCTION.model_copy(update={"seed": None})) == "no"
    assert level(FUNCTION, corpus(None)) == "no"


def test_a_permutation_needs_its_file() -> None:
    assert level(PERMUTATION) == "batch"
    assert level(PERMUTATION.model_copy(update={"url": None})) == "no"
    assert level(PERMUTATION.model_copy(update={"evidence": "the file was lost"})) == "no"


def test_an_unknown_order_gives_its_own_reason() -> None:
    run = Run(name="run", objective="pretrain", order=UNKNOWN)
    assert ability_of(run, None) == Ability(level="no", reason="the seed of the order was lost")


@pytest.mark.parametrize("name", catalogue.names())
def test_every_run_of_the_catalogue_has_an_ability_with_a_reason(name: str) -> None:
    summary = summary_of(catalogue.load(name))
    assert set(summary.abilities) == {run.name for run in catalogue.load(name).all_runs()}
    assert all(ability.level in LEVELS and len(ability.reason.split()) > 3 for ability in summary.abilities.values())
    assert summary.best in summary.abilities.values()


def test_what_is_possible_for_the_releases_that_are_known_best() -> None:
    best = {name: summary_of(catalogue.load(name)).best.level for name in catalogue.names()}
    assert {name for name, found in best.items() if found == "batch"} == {
        "k2-65b",
        "olmo-1",
        "olmo-2",
        "olmo-3",
        "pythia",
    }
    assert {name for name, found in best.items() if found == "chunk"} == {"amber"}
    olmo = summary_of(catalogue.load("olmo-1")).abilities
    assert {run for run, ability in olmo.items() if "lost" in ability.reason} == {
        "olmo-1b",
        "olmo-7b",
        "olmo-7b-twin-2t",
    }


def run_command(*words: str) -> str:
    result = CliRunner().invoke(cli, ["catalogue", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_has_a_line_for_each_release_with_what_is_possible() -> None:
    lines = run_command().splitlines()
    for name in catalogue.names():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert f"  {summary_of(catalogue.load(name)).best.level} " in line
    entries = json.loads(run_command("--json"))
    assert [entry["name"] for entry in entries] == catalogue.names()
    assert next(entry for entry in entries if entry["name"] == "amber")["runs"]["amber"]["level"] == "chunk"


@pytest.mark.parametrize("name", catalogue.names())
def test_a_printed_entry_is_a_spec_below_its_summary(name: str) -> None:
    text = run_command(name)
    assert text.startswith(f"# catalogue entry '{name}': ")
    assert load_spec(text.encode()) == catalogue.load(name)
    assert load_spec(run_command(name, "--json").encode()) == catalogue.load(name)


def test_a_repository_prints_its_part_alone() -> None:
    text = run_command("allenai/OLMo-2-1124-7B")
    assert "the part published as allenai/OLMo-2-1124-7B: 4 run" in text
    spec = load_spec(text.encode())
    assert [run.name for run in spec.all_runs()] == [
        "olmo-2-7b-stage1",
        *(f"olmo-2-7b-stage2-ingredient{number}" for number in (1, 2, 3)),
    ]
    assert [merge.name for merge in spec.merges] == ["olmo-2-7b"]
    assert load_spec(run_command("LLM360/CrystalCoder").encode()).name == "crystalcoder"
    assert load_spec(run_command("olmo2").encode()) == catalogue.load("olmo-2")


def test_an_unknown_name_is_wrong_usage() -> None:
    result = CliRunner().invoke(cli, ["catalogue", "nothing"])
    assert result.exit_code == 2
    assert "the catalogue has no 'nothing'" in result.output
