"""Real names and sizes, files without bytes: releases of the catalogue, judged by their listing on a local Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from open360.release import catalogue
from open360.release.findings import EvidenceLevel, Report
from open360.release.foreign_target import ForeignTarget
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.rules import RULES
from open360.release.validation import validate
from open360.schema.run import Run
from open360.schema.schedule import checkpoints
from open360.schema.serialization import canonical_json
from open360.schema.spec import ReleaseSpec
from tests.support.hub_folder import Content, HubFolder, Unstored

ON_CHECKPOINTS = [
    rule for rule in RULES if rule.code.startswith(("CKP", "HUB")) and rule.code not in ("HUB003", "CKP019")
]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[HubFolder, str]]:
    with running_hub(tmp_path / "hub") as running:
        yield HubFolder(running.directory), running.url


def revision(run: Run, weights: str) -> dict[str, Content]:
    """A checkpoint of six gigabytes, of which nobody has the bytes."""
    return {
        "config.json": canonical_json(run.architecture),
        "tokenizer.json": b"{}",
        "model.safetensors": Unstored(bytes=6_000_000_000, sha256=hashlib.sha256(weights.encode()).hexdigest()),
    }


def branches(spec: ReleaseSpec, run: Run) -> dict[str, dict[str, Content]]:
    """All declared branches of a run, each with weights of its own."""
    return {plan.revision: revision(run, plan.name) for plan in checkpoints(run, spec.corpus_of(run))}


def judge(target: str, url: str) -> Report:
    return validate(open_any_target(target, endpoint=url), level=EvidenceLevel.LISTED, rules=ON_CHECKPOINTS)


def names_of(report: Report, code: str) -> list[str]:
    return [finding.subject for finding in report.findings if finding.code == code]


def test_wrong_weights_under_86_branches_of_a_pythia_are_found_from_the_listing(hub: tuple[HubFolder, str]) -> None:
    folder, url = hub
    spec = catalogue.part_of("pythia", "EleutherAI/pythia-2.8b")
    run = spec.all_runs()[0]
    there = branches(spec, run)
    assert len(there) == 154
    there["step1"] = there["step0"]  # equal on purpose
    there["main"] = {**there["step143000"], "README.md": b"---\nlicense: apache-2.0\n---\n"}
    steps = [name for name in there if name not in ("main", "step143000", "step0", "step1")]
    last, other = steps[:76], steps[90:100]
    for name in last:
        there[name] = there["step143000"]
    for name in other:
        there[name] = there["step77000"]
    folder.write("EleutherAI/pythia-2.8b", there)
    folder.write("datasets/EleutherAI/pile-standard-pythia-preshuffled", {"main": {"README.md": b"rows"}})

    report = judge("EleutherAI/pythia-2.8b", url)
    repeated = names_of(report, "CKP003")
    # The last checkpoint is also `main`, so it is taken to be right; of other equal branches the first is.
    assert len(repeated) == 86
    assert set(repeated) == {*last, *other, "step77000"} - {min([*other, "step77000"], key=steps.index)}
    assert report.spec_origin == "catalogue entry 'pythia'"
    assert names_of(report, "CKP001") == names_of(report, "CKP002") == names_of(report, "HUB006") == []


def test_a_branch_that_is_missing_and_one_that_is_empty_are_told_apart(hub: tuple[HubFolder, str]) -> None:
    folder, url = hub
    spec = catalogue.part_of("pythia", "EleutherAI/pythia-70m")
    there = branches(spec, spec.all_runs()[0])
    there["step1"] = there["step0"]
    there["main"] = {**there["step143000"], "README.md": b"---\nlicense: apache-2.0\n---\n"}
    del there["step5000"]
    there["step6000"] = {}
    folder.write("EleutherAI/pythia-70m", there)
    report = judge("EleutherAI/pythia-70m", url)
    assert names_of(report, "CKP001") == ["step5000"]
    assert names_of(report, "CKP002") == ["step6000"]


def test_a_name_of_the_catalogue_opens_every_repository_of_the_family(hub: tuple[HubFolder, str]) -> None:
    _, url = hub
    target = open_any_target("pythia", endpoint=url)
    assert isinstance(target, ForeignTarget)
    assert {repo.id for repo in target.model_repos} >= {"EleutherAI/pythia-12b-deduped", "EleutherAI/pythia-410m-seed9"}
    one = open_any_target("EleutherAI/pythia-410m-seed9", endpoint=url)
    assert isinstance(one, ForeignTarget)
    assert [repo.id for repo in one.model_repos] == ["EleutherAI/pythia-410m-seed9"]


@pytest.mark.parametrize("name", catalogue.names())
def test_every_entry_can_be_judged_when_nothing_of_it_is_there(name: str, hub: tuple[HubFolder, str]) -> None:
    _, url = hub
    report = judge(name, url)
    missing = names_of(report, "HUB007")
    assert missing or not any(run.hub.model for run in catalogue.load(name).all_runs())
