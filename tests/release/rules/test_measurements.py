"""Evaluation records as the rules see them: where they are looked for, how often they are read, what is left alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from open360.release.evidence.measurements import evaluation_name, measurements, service_of
from open360.release.findings import EvidenceLevel, Sample
from open360.release.foreign_target import ForeignTarget
from open360.release.local_hub import RunningHub, running_hub
from open360.release.opening import open_any_target
from open360.release.rules import RULES
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from open360.release.view import ReleaseView
from open360.schema.serialization import canonical_json
from tests.support.foreign_release import RELEASES, change, put_on_hub
from tests.support.hub_folder import HubFolder
from tests.support.mutations import mutate
from tests.support.page_server import Pages, page_server
from tests.support.tiny_release import build_tiny_release

OWN = [rule for rule in RULES if rule.code.startswith(("MET", "COD", "SPC002"))]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with page_server() as served:
        yield served


def _open(name: str, changes: list[dict[str, Any]], hub: RunningHub, pages: Pages, folder: Path) -> ForeignTarget:
    release = RELEASES[name]()
    change(release, changes)
    store = HubFolder(hub.directory)
    store.clear()
    file = folder / "spec.yaml"
    file.write_bytes(put_on_hub(release, store, pages))
    first = next(repo for repo in release.repos if not repo.startswith("datasets/"))
    target = open_any_target(first, spec=file, endpoint=hub.url)
    assert isinstance(target, ForeignTarget)
    return target


def test_a_file_for_all_checkpoints_is_read_once(hub: RunningHub, pages: Pages, tmp_path: Path) -> None:
    release = ReleaseView(_open("amber", [], hub, pages, tmp_path), EvidenceLevel.LISTED)
    read: Counter[str] = Counter()
    original = release.read

    def counted(path: str, max_bytes: int) -> bytes | None:
        read[path] += 1
        return original(path, max_bytes)

    release.read = counted  # type: ignore[method-assign, assignment]
    found = measurements(release)
    assert found is measurements(release)
    assert read == {"LLM360/AmberTiny@main/eval_arc.json": 1}
    scores = [(m.checkpoint.name, m.scores["acc_norm"][0].value) for m in found]
    assert scores == [("ckpt_000", 0.27), ("ckpt_001", 0.29), ("ckpt_002", 0.31), ("ckpt_003", 0.33)]


def test_a_sample_reads_a_share_of_the_records(hub: RunningHub, pages: Pages, tmp_path: Path) -> None:
    target = _open("k2", [], hub, pages, tmp_path)
    whole = measurements(ReleaseView(target, EvidenceLevel.LISTED))
    half = measurements(ReleaseView(target, EvidenceLevel.LISTED, sample=Sample(share=0.5, seed=3)))
    again = measurements(ReleaseView(target, EvidenceLevel.LISTED, sample=Sample(share=0.5, seed=3)))
    assert (len(whole), len(half)) == (4, 2)
    assert [m.place for m in half] == [m.place for m in again]


def test_evaluations_are_declared_for_some_checkpoints_only(hub: RunningHub, pages: Pages, tmp_path: Path) -> None:
    at = "    at: {names: [ckpt_002], every: 3}\n    results: evals/{checkpoint}.json"
    target = _open("k2", [{"spec": {"old": "    results: evals/{checkpoint}.json", "new": at}}], hub, pages, tmp_path)
    found = measurements(ReleaseView(target, EvidenceLevel.LISTED))
    assert sorted(m.checkpoint.name for m in found) == ["ckpt_001", "ckpt_002", "ckpt_004"]


def test_a_dead_address_of_records_is_left_to_the_rule_about_addresses(
    hub: RunningHub, pages: Pages, tmp_path: Path
) -> None:
    elsewhere = {"old": "results: evals/{checkpoint}.json", "new": 'results: "{pages}/gone/{checkpoint}.json"'}
    report = validate(
        _open("k2", [{"spec": elsewhere}], hub, pages, tmp_path),
        level=EvidenceLevel.LISTED,
        rules=[rule for rule in RULES if rule.code in ("MET007", "MET008", "HUB003")],
    )
    assert {finding.code for finding in report.findings} == {"HUB003"}
    reasons = {rule.code: rule.reason for rule in report.skipped}
    assert reasons["MET007"] == "none of the addresses of evaluation records could be read"


def test_a_pattern_takes_nothing_but_its_own_words(hub: RunningHub, pages: Pages, tmp_path: Path) -> None:
    pattern = '    results: "evals/{checkpoint.__class__}{0}{short}-{model}-{run}-{step}.json"'
    target = _open(
        "k2", [{"spec": {"old": "    results: evals/{checkpoint}.json", "new": pattern}}], hub, pages, tmp_path
    )
    found = measurements(ReleaseView(target, EvidenceLevel.LISTED))
    assert found[0].place == "LLM360/K2Tiny@main/evals/{checkpoint.__class__}{0}K2Tiny-K2Tiny-k2-tiny-2.json"
    assert found[0].file is None


def test_a_guessed_spec_is_not_asked_for_what_it_leaves_out(hub: RunningHub, pages: Pages, tmp_path: Path) -> None:
    logs = {"spec": {"old": '    logs: ["{pages}/logs/k2.jsonl"]\n', "new": ""}}
    target = _open("k2", [logs], hub, pages, tmp_path)
    target.document = replace(target.document, is_guess=True)
    report = validate(target, level=EvidenceLevel.LISTED, rules=OWN)
    assert [finding.code for finding in report.findings] == []
    reasons = {rule.code: rule.reason for rule in report.skipped}
    assert reasons["SPC002"] == "the spec is a guess: what it leaves out says nothing of the release"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return build_tiny_release(tmp_path / "tiny")


def test_a_folder_is_judged_without_asking_any_address(tiny: Path, pages: Pages) -> None:
    pages.asked.clear()
    record = (
        f"evaluations:\n  - {{task: arc, harness: lm-eval, harness_version: '1', task_version: '1', metrics: [acc], "
        f"results: '{pages.url}/{{checkpoint}}.json'}}\n"
    )
    mutate(tiny, [{"edit": {"file": "release.yaml", "old": "evaluations:\n", "new": record}}, {"build": "manifest"}])
    report = validate(FolderTarget(tiny), level=EvidenceLevel.LISTED, rules=OWN)
    assert report.findings == ()
    assert not pages.asked


def test_scores_of_our_own_come_from_the_manifest(tiny: Path) -> None:
    found = measurements(ReleaseView(FolderTarget(tiny), EvidenceLevel.LISTED))
    assert [(m.checkpoint.name, m.place) for m in found][:2] == [("ckpt_init", None), ("ckpt_000", None)]
    assert found[0].scores["loss"][0].value == 3.4


def test_a_release_that_was_published_from_a_dirty_checkout_is_told(tiny: Path) -> None:
    file = tiny / "manifest.json"
    manifest = json.loads(file.read_bytes())
    published = {"code_commit": "1" * 40, "code_swhid": None, "primary": "open360/tiny", "tag": "v1.0.0"}
    manifest |= {"form": "published", "published": {**published, "dirty": True, "repositories": []}}
    file.write_bytes(canonical_json(manifest))
    report = validate(FolderTarget(tiny), level=EvidenceLevel.DECLARED, rules=OWN)
    assert [(f.code, str(f.location), f.location.pointer) for f in report.findings] == [
        ("COD005", "manifest.json", "/published/dirty")
    ]


@pytest.mark.parametrize(
    ("address", "service"),
    [
        ("https://wandb.ai/llm360/Amber", "wandb.ai"),
        ("https://api.wandb.ai/links/x", "wandb.ai"),
        ("https://www.comet.com/x", "comet.com"),
        ("https://notwandb.ai/x", None),
        ("https://example.org/wandb.ai", None),
        ("https://huggingface.co/bigscience/tr11-176B-ml-logs", None),
        ("runs/amber/traces/{checkpoint}.jsonl", None),
        ("http://[", None),
    ],
)
def test_services_of_third_parties_are_known_by_their_hosts(address: str, service: str | None) -> None:
    assert service_of(address) == service


def test_an_evaluation_is_called_by_its_shots_where_the_task_is_not_enough(
    hub: RunningHub, pages: Pages, tmp_path: Path
) -> None:
    other = "evaluations:\n  - {task: arc_challenge, harness: x, shots: 0, metrics: [acc]}\n"
    target = _open("k2", [{"spec": {"old": "evaluations:\n", "new": other}}], hub, pages, tmp_path)
    spec = target.document.spec
    assert [evaluation_name(spec, 0), evaluation_name(spec, 1)] == [
        "arc_challenge (0 shots)",
        "arc_challenge (25 shots)",
    ]
