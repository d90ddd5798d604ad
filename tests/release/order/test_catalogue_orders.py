"""The orders of the real releases in the catalogue: what is needed for each, and what follows from the spec alone."""

from __future__ import annotations

import pytest

from open360.release import catalogue
from open360.release.catalogue.abilities import ability_of
from open360.release.order.file_rows import RowSpan
from open360.release.order.order_inputs import hopeless, needs
from open360.release.order.resolver import UnresolvableOrderError
from open360.release.order.resolving import resolver_of


@pytest.mark.parametrize("name", catalogue.names())
def test_every_run_is_resolved_or_says_what_it_needs_or_why_nothing_helps(name: str) -> None:
    spec = catalogue.load(name)
    for run in spec.all_runs():
        corpus = spec.corpus_of(run)
        reason, level = hopeless(run, corpus), ability_of(run, corpus).level
        if reason is not None:
            assert level == "no"
            assert resolver_of(run, corpus).reason == reason
            continue
        asked = needs(run, corpus)
        if asked.measure == "nothing" and not asked.index_files:
            resolver = resolver_of(run, corpus)
            assert level == ("batch" if resolver.exact else "chunk")
        else:
            with pytest.raises(UnresolvableOrderError, match="hand in what 'needs' asks for"):
                resolver_of(run, corpus)


@pytest.mark.parametrize(
    ("name", "run", "rows"),
    [
        ("pythia", "pythia-70m-deduped", [RowSpan("document-{index:05d}-of-00020.bin", 4_096_000, 4_097_024)]),
        ("k2-65b", "k2-65b", [RowSpan("chunk_4.jsonl", 236 * 2040, 237 * 2040)]),
    ],
)
def test_batch_4000_follows_from_the_spec_alone(name: str, run: str, rows: list[RowSpan]) -> None:
    spec = catalogue.load(name)
    found = spec.run(run)
    assert resolver_of(found, spec.corpus_of(found)).rows(4000, 4001) == rows
