"""Validation as a whole: what is skipped and why, what is waived, and that no release can make it fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.release.findings import EvidenceLevel, Finding, Report, Severity
from open360.release.hashing import hash_file
from open360.release.reports.reporters import json_report
from open360.release.rules import RULES, CannotCheckError, Rule
from open360.release.targets import FolderTarget, ListedFile
from open360.release.validation import MAX_FINDINGS_OF_A_RULE, in_order, validate
from open360.release.view import ReleaseView
from tests.support.mutations import mutate
from tests.support.tiny_release import SPEC, build_tiny_release

NO_TORCH = [rule for rule in RULES if rule.code != "CKP014"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


@pytest.fixture
def tiny(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "tiny")
    return tmp_path / "tiny"


def _validate(folder: Path, level: EvidenceLevel = EvidenceLevel.LOADED) -> Report:
    return validate(FolderTarget(folder), level=level, rules=NO_TORCH)


def _codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


class FarTarget:
    """A release that can be read by range only, as on the Hub; it lists the sha256 of large files."""

    label = "open360/tiny"
    spec_path = "release.yaml"

    def __init__(self, folder: Path) -> None:
        self.folder = FolderTarget(folder)

    def spec_bytes(self) -> bytes:
        return self.folder.spec_bytes()

    def manifest_bytes(self) -> bytes | None:
        return self.folder.manifest_bytes()

    def listing(self) -> dict[str, ListedFile]:
        found = {}
        for path, file in self.folder.listing().items():
            sha256 = hash_file(self.folder.root / path).sha256 if file.bytes > 1000 else None
            found[path] = ListedFile(path=path, bytes=file.bytes, sha256=sha256, commit="0" * 40)
        return found

    def read(self, path: str, max_bytes: int) -> bytes:
        return self.folder.read(path, max_bytes)

    def read_range(self, path: str, begin: int, end: int) -> bytes:
        return self.folder.read_range(path, begin, end)

    def local_path(self, path: str) -> Path | None:
        self.folder.local_path(path)
        return None


def test_a_valid_release_gives_no_findings_at_any_level(tiny: Path) -> None:
    for level in list(EvidenceLevel):
        assert _codes(_validate(tiny, level)) == []


def test_the_report_is_the_same_wherever_and_however_often_it_is_made(tiny: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny, moved)
    first = json_report(_validate(tiny))
    (tiny / "report.json").write_text(first)
    assert json_report(_validate(tiny)) == first == json_report(_validate(moved))
    assert str(tmp_path) not in first


def test_what_was_looked_at_is_counted(tiny: Path) -> None:
    checked = _validate(tiny).checked
    assert (checked.chunks, checked.rows, checked.checkpoints) == (3, 12, 4)
    assert checked.listed_files == checked.hashed_files == 54
    assert checked.hashed_bytes > 40_000
    report = _validate(tiny)
    assert checked.rules == len(report.outcomes) == len(NO_TORCH) - len(report.skipped)
    assert not [rule.code for rule in report.skipped if rule.applies]
    declared = _validate(tiny, EvidenceLevel.DECLARED).checked
    assert (declared.hashed_files, declared.chunks, declared.checkpoints) == (0, 0, 0)


def test_a_rule_is_skipped_where_it_would_have_to_look_closer(tiny: Path) -> None:
    report = _validate(tiny, EvidenceLevel.LISTED)
    skipped = {rule.code: rule.reason for rule in report.skipped}
    assert skipped["DAT002"] == "level 'listed' does not look so closely: it needs level 'loaded'"
    assert skipped["INT004"] == "the target lists no digests; look at level 'hashed'"
    assert "INT001" not in skipped


def test_a_rule_is_skipped_when_what_it_requires_found_errors(tiny: Path) -> None:
    (tiny / "manifest.json").write_text("{")
    report = _validate(tiny)
    assert _codes(report) == ["SPC004"]
    skipped = {rule.code: rule.reason for rule in report.skipped}
    assert skipped["INT001"] == "SPC004 found errors"
    assert {"LIC001", "SPC002", "COD001"} & set(skipped) == set()


def test_what_a_folder_cannot_show_does_not_count_against_it(tiny: Path) -> None:
    report = _validate(tiny)
    assert {rule.code for rule in report.skipped} >= {"HUB004", "HUB005", "HUB007"}
    assert report.dial is not None
    assert report.dial.degrees == 360.0


def test_a_folder_has_no_revisions_to_pin(tiny: Path) -> None:
    outcomes = {outcome.code: outcome for outcome in _validate(tiny).outcomes}
    assert (outcomes["HUB002"].claims, outcomes["HUB002"].broken) == (0, 0)


def test_all_claims_of_a_rule_with_endless_findings_are_broken(tiny: Path) -> None:
    class Endless(Rule):
        """Nothing is right."""

        code, name = "SPC999", "endless"

        def claims(self, release: ReleaseView) -> int:
            return 10_000_000

        def check(self, release: ReleaseView) -> Iterator[Finding]:
            for number in range(10_000_000):
                yield self.finding("x", str(number), "wrong", "mend it")

    report = validate(FolderTarget(tiny), level=EvidenceLevel.LOADED, rules=[Endless()])
    (outcome,) = (outcome for outcome in report.outcomes if outcome.code == "SPC999")
    assert (outcome.claims, outcome.broken) == (10_000_000, 10_000_000)
    assert len([f for f in report.findings if f.code == "SPC999"]) == MAX_FINDINGS_OF_A_RULE


def test_a_rule_is_skipped_with_its_own_reason_where_it_cannot_be_checked(tiny: Path) -> None:
    class Impossible(Rule):
        code, name = "SPC901", "impossible"

        def check(self, release: ReleaseView) -> Iterator[Finding]:
            raise CannotCheckError("it needs open360[train]")

    report = validate(FolderTarget(tiny), level=EvidenceLevel.LOADED, rules=[Impossible()])
    assert [(rule.code, rule.reason) for rule in report.skipped] == [("SPC901", "it needs open360[train]")]


def test_the_forward_pass_is_skipped_without_torch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from open360.release.rules import weights

    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: None)
    report = validate(FolderTarget(tiny), level=EvidenceLevel.LOADED, rules=[r for r in RULES if r.code == "CKP014"])
    assert {rule.code: rule.reason for rule in report.skipped}["CKP014"] == "it needs open360[train]"


def test_rules_run_after_those_that_they_require() -> None:
    seen: set[str] = set()
    for rule in in_order(RULES):
        assert rule.requires <= seen
        seen.add(rule.code)
    chosen = in_order([rule for rule in RULES if rule.code == "CKP013"])
    assert {rule.code for rule in chosen} >= {"SPC001", "CKP004", "CKP011", "CKP012", "CKP013", "CKP015"}


def test_a_waiver_moves_a_finding_out_of_the_findings_and_shows_its_reason(tiny: Path) -> None:
    waiver = "waivers: [{rule: LIC001, subject: code, reason: the code is not released yet}]\n"
    text = SPEC.replace("code: Apache-2.0, ", "").replace("        license: MIT\n", "") + waiver
    (tiny / "release.yaml").write_text(text)
    mutate(tiny, [{"build": "manifest"}])
    report = _validate(tiny)
    assert [(finding.code, finding.subject) for finding in report.findings] == [("LIC001", "prose")]
    assert [(w.finding.subject, w.reason) for w in report.waived] == [("code", "the code is not released yet")]


@pytest.mark.parametrize(("until", "counts"), [("2026-11-24", True), ("2026-11-23", False)])
def test_a_waiver_counts_for_releases_up_to_its_date(tiny: Path, until: str, counts: bool) -> None:
    waiver = f"waivers: [{{rule: LIC001, reason: not released yet, until: {until}}}]\n"
    (tiny / "release.yaml").write_text(SPEC.replace("code: Apache-2.0, ", "") + waiver)
    mutate(tiny, [{"build": "manifest"}])
    assert _codes(_validate(tiny)) == ([] if counts else ["LIC001"])


def test_a_flood_of_findings_is_bounded_and_says_so(tiny: Path) -> None:
    folder = tiny / "runs" / "tiny" / "checkpoints" / "ckpt_001"
    for i in range(MAX_FINDINGS_OF_A_RULE + 5):
        (folder / f"{i}.txt").touch()
    report = _validate(tiny, EvidenceLevel.LISTED)
    assert len(report.findings) == MAX_FINDINGS_OF_A_RULE
    assert sum("and more" in finding.message for finding in report.findings) == 1


def test_one_cause_gives_one_finding(tiny: Path) -> None:
    for path in ("chunks/chunk_001.parquet", "steps/chunk_001.parquet", "traces/ckpt_001.jsonl"):
        mutate(tiny, [{"flip": {"file": f"runs/tiny/{path}", "at": 60}}])
    for path in ("model.safetensors", "config.json", "training_state/position.json"):
        mutate(tiny, [{"flip": {"file": f"runs/tiny/checkpoints/ckpt_001/{path}", "at": 60}}])
    assert _codes(_validate(tiny)) == ["INT004"] * 6


# What it is worth: any change is found.


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_any_change_of_one_byte_in_any_file_is_found(built: Path, data: st.DataObject) -> None:
    files = sorted(p for p in built.rglob("*") if p.is_file() and ".scratch" not in p.parts)
    file = data.draw(st.sampled_from(files))
    at = data.draw(st.integers(0, file.stat().st_size - 1))
    change = data.draw(st.integers(1, 255))
    before = file.read_bytes()
    try:
        file.write_bytes(before[:at] + bytes([before[at] ^ change]) + before[at + 1 :])
        report = _validate(built, EvidenceLevel.HASHED)
        unchanged = file.name == "manifest.json" and _same_json(before, file.read_bytes())
        assert unchanged or any(finding.severity is Severity.ERROR for finding in report.findings)
    finally:
        file.write_bytes(before)


def _same_json(a: bytes, b: bytes) -> bool:
    """Whether two texts say the same: white space may change."""
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


# A target that is far away.


def test_a_far_release_is_judged_by_the_same_rules(tiny: Path) -> None:
    far = FarTarget(tiny)
    report = validate(far, level=EvidenceLevel.LOADED, rules=NO_TORCH)
    assert _codes(report) == []
    skipped = {rule.code: rule.reason for rule in report.skipped}
    assert {rule.code for rule in report.skipped if rule.applies} == {"SPC006"}
    assert skipped["SPC006"] == "only a built manifest in a folder can be built again"
    assert report.checked == _validate(tiny).checked.model_copy(update={"rules": _validate(tiny).checked.rules - 1})


def test_wrong_weights_on_a_branch_are_seen_in_the_listing_alone(tiny: Path) -> None:
    folder = tiny / "runs" / "tiny" / "checkpoints"
    shutil.copy(folder / "ckpt_002" / "model.safetensors", folder / "ckpt_000" / "model.safetensors")
    report = validate(FarTarget(tiny), level=EvidenceLevel.LISTED, rules=NO_TORCH)
    assert _codes(report) == ["CKP003", "INT004"]


# Hostile releases: a finding, never an error.

HOSTILE_MANIFESTS = {
    "empty": b"",
    "not text": b"\xff\xfe\x00",
    "deep": b"[" * 5000 + b"]" * 5000,
    "deep object": b'{"a":' * 900 + b"1" + b"}" * 900,
    "wrong root": b"[]",
    "number": b"1",
    "huge number": b'{"open360": ' + b"9" * 5000 + b"}",
    "nan": b'{"open360": NaN}',
    "another version": b'{"open360": 99}',
    "version of another type": b'{"open360": {"a": 1}}',
    "lone surrogate": b'{"open360": 1, "name": "\\ud800"}',
    "missing fields": b'{"open360": 1, "form": "built"}',
    "many empty files": b'{"open360": 1, "files": [' + b"{}," * 20_000 + b"{}]}",
    "same key twice": b'{"open360": 1, "open360": 1}',
}


@pytest.mark.parametrize("name", HOSTILE_MANIFESTS)
def test_a_hostile_manifest_is_a_finding(tiny: Path, name: str) -> None:
    (tiny / "manifest.json").write_bytes(HOSTILE_MANIFESTS[name])
    report = _validate(tiny)
    assert set(_codes(report)) == {"SPC004"}
    json_report(report)


HOSTILE_SPECS = {
    "empty": b"",
    "not text": b"\xff\xfe\x00\x01",
    "a list": b"- 1\n- 2\n",
    "a typo": SPEC.replace("licenses", "lisenses").encode(),
    "a tab": SPEC.replace("    steps: 6", "\tsteps: 6").encode(),
    "an alias bomb": b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" * 3,
    "deep": b"a: " + b"[" * 2000 + b"]" * 2000,
    "a tag": b"!!python/object/apply:os.system ['true']",
    "a huge number of steps": SPEC.replace("steps: 6", f"steps: {1 << 61}").encode(),
    "a number beyond all": SPEC.replace("steps: 6", f"steps: {'9' * 400}").encode(),
    "another type": SPEC.replace("steps: 6", "steps: [6]").encode(),
    "control characters": SPEC.replace("name: tiny", 'name: "ti\\x1b[31mny"').encode(),
}


@pytest.mark.parametrize("name", HOSTILE_SPECS)
def test_a_hostile_spec_is_a_finding(tiny: Path, name: str) -> None:
    (tiny / "release.yaml").write_bytes(HOSTILE_SPECS[name])
    report = _validate(tiny)
    assert "SPC001" in _codes(report)
    assert json_report(report)


def test_a_folder_with_nothing_in_it_is_a_finding(tmp_path: Path) -> None:
    assert _codes(_validate(tmp_path)) == ["SPC003", "SPC001"]


MANIFEST_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.sampled_from(["", "x", "../x", "runs/tiny", "0" * 64, "ckpt_000", "tiny", "chunk_001"]),
    st.just([]),
    st.just({}),
)


def _pointers(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    if path:
        yield path
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _pointers(child, (*path, key))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None)
def test_no_value_anywhere_in_a_manifest_makes_the_validator_fail(built: Path, data: st.DataObject) -> None:
    file = built / "manifest.json"
    before = file.read_bytes()
    plain = json.loads(before)
    path = data.draw(st.sampled_from(list(_pointers(plain))))
    here = plain
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = data.draw(MANIFEST_VALUES)
    try:
        file.write_bytes(json.dumps(plain).encode())
        json_report(_validate(built))
    finally:
        file.write_bytes(before)


@given(cut=st.integers(0, 2300), noise=st.binary(max_size=16))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_no_broken_tensor_file_makes_the_validator_fail(built: Path, cut: int, noise: bytes) -> None:
    file = built / "runs" / "tiny" / "checkpoints" / "ckpt_001" / "model.safetensors"
    before, manifest = file.read_bytes(), (built / "manifest.json").read_bytes()
    try:
        file.write_bytes(before[:cut] + noise + before[cut + len(noise) :][: 2300 - cut])
        mutate(built, [{"seal": "manifest"}])
        json_report(_validate(built))
    finally:
        file.write_bytes(before)
        (built / "manifest.json").write_bytes(manifest)


@pytest.mark.parametrize("path", ["traces/ckpt_001.jsonl", "checkpoints/ckpt_001/training_state/position.json"])
@pytest.mark.parametrize("text", ["", "[]", "null", '{"step": 1e999}', "\x00", "[" * 9000, '{"loss": "0x1p999999999"}'])
def test_hostile_documents_are_findings(tiny: Path, path: str, text: str) -> None:
    (tiny / "runs" / "tiny" / path).write_text(text)
    mutate(tiny, [{"seal": "manifest"}])
    assert _codes(_validate(tiny)) != []
