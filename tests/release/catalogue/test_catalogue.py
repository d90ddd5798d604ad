"""The catalogue as a whole: names, aliases, and what every entry must say."""

from __future__ import annotations

import itertools

import pytest

from open360.release import catalogue
from open360.schema.errors import Open360Error
from open360.schema.order import UnknownOrder
from open360.schema.schedule import ScheduleError, Segment, checkpoints, newest_chunk, segments
from open360.schema.serialization import dump_yaml, load_spec

NAMES = catalogue.names()
WANTED = {"amber", "crystalcoder", "k2-65b", "pythia", "olmo-2"}


def test_the_catalogue_holds_what_its_readers_expect() -> None:
    assert set(NAMES) >= WANTED
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_called_as_its_file_and_reads_back_equal(name: str) -> None:
    spec = catalogue.load(name)
    assert spec.name == name
    assert load_spec(dump_yaml(spec)) == spec


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_says_where_its_facts_are_from_and_what_is_not_confirmed(name: str) -> None:
    spec = catalogue.load(name)
    assert spec.facts_from
    assert spec.unconfirmed
    assert spec.description
    assert spec.licenses.weights


@pytest.mark.parametrize("name", NAMES)
def test_every_run_gives_its_checkpoints_and_its_segments_join(name: str) -> None:
    spec = catalogue.load(name)
    for run in spec.all_runs():
        corpus = spec.corpus_of(run)
        plans = checkpoints(run, corpus)
        assert [plan.step for plan in plans] == sorted({plan.step for plan in plans})
        assert len({plan.revision for plan in plans}) == len(plans)
        if run.batch is not None:
            steps = [(segment.first_step, segment.end_step) for segment in segments(run, corpus)]
            assert all(before[1] == after[0] for before, after in itertools.pairwise(steps))


@pytest.mark.parametrize("name", NAMES)
def test_every_alias_and_every_named_exception_is_a_checkpoint_of_its_run(name: str) -> None:
    spec = catalogue.load(name)
    for run in spec.all_runs():
        if run.series is None:
            continue
        known = {plan.name for plan in checkpoints(run, spec.corpus_of(run))} | set(run.series.unplaced)
        named = {*run.series.aliases.values(), *run.series.revisions, *(n for group in run.series.equal for n in group)}
        named |= {checkpoint for other in run.series.stored_otherwise for checkpoint in other.checkpoints}
        assert named <= known, run.name


@pytest.mark.parametrize("name", NAMES)
def test_every_repo_id_leads_to_its_release(name: str) -> None:
    spec = catalogue.load(name)
    assert catalogue.find(name) == name
    for run in spec.all_runs():
        for repo in catalogue.repo_ids(run):
            assert catalogue.find(repo) == name
            assert catalogue.find(repo.lower()) == name


@pytest.mark.parametrize(
    ("known_as", "name"),
    [
        ("LLM360/Amber", "amber"), ("LLM360/AmberSafe", "amber"), ("LLM360/AmberDatasets", "amber"),
        ("LLM360/CrystalCoder", "crystalcoder"), ("LLM360/Crystal", "crystalcoder"), ("IFM/K2", "k2-65b"),
        ("EleutherAI/pythia-70m", "pythia"),
        ("EleutherAI/pythia-1.4b-deduped-v0", "pythia"), ("EleutherAI/pythia-31m-seed9", "pythia"),
        ("EleutherAI/pile-deduped-pythia-preshuffled", "pythia"), ("allenai/OLMo-2-1124-13B", "olmo-2"),
        ("open360/amber-nano", None), ("", None), ("../amber", None),
    ],
)  # fmt: skip
def test_releases_are_found_by_every_id_they_ever_had(known_as: str, name: str | None) -> None:
    assert catalogue.find(known_as) == name


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(Open360Error, match=r"no release 'nothing'.*amber"):
        catalogue.load("nothing")
    with pytest.raises(Open360Error):
        catalogue.load("../amber")


@pytest.mark.parametrize("name", NAMES)
def test_an_order_that_nobody_knows_says_why_and_gives_no_chunk(name: str) -> None:
    segment = Segment(name="x", parent=None, index=0, first_step=0, end_step=1, first_row=0, end_row=1)
    for run in catalogue.load(name).all_runs():
        if isinstance(run.order, UnknownOrder):
            assert len(run.order.reason.split()) > 4
            with pytest.raises(ScheduleError, match="order 'unknown'"):
                newest_chunk(run, segment)
