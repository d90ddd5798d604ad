"""Drafts of specs: from a local Hub, as the real client sees it, and by laws on names alone."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.release import drafts
from open360.release.drafts import draft_spec
from open360.release.evidence.card_facts import architecture_of, front_matter, spdx_of
from open360.release.foreign_target import ForeignSpec
from open360.release.hub_objects import Repo
from open360.release.revision_names import NamedSeries, compressed, group_names
from open360.release.survey import Survey
from open360.release.targets import TargetError
from open360.schema.order import UnknownOrder
from open360.schema.run import Run
from open360.schema.schedule import checkpoints
from open360.schema.serialization import load_spec
from open360.schema.series import Series, StepRange
from tests.support.hub_control import HubControl
from tests.support.hub_folder import Content, HubFolder

CONFIG = b'{"model_type": "llama", "hidden_size": 8, "torch_dtype": "float32", "auto_map": {"AutoModel": "x.py"}}'
CARD = b"""---
license: apache-2.0
language: [en, de]
datasets: [lab/data, lab/not-there, "../../etc"]
---
# A model
"""
NAMES = st.text(alphabet="abstepokn0123456789-_.B/+", min_size=1, max_size=24)
NUMBERED = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["step", "ckpt_", "stage1-step", "iter_00", "", "v", "a-"]),
    st.integers(0, 10**6),
    st.sampled_from(["", "-tokens", "_"]),
    st.integers(0, 9),
)


def draft(hub: HubControl, repo: str = "lab/model") -> ForeignSpec:
    return draft_spec(Survey(hub.client()), Repo(id=repo, type="model"))


def fill(
    hub: HubControl,
    branches: Mapping[str, Mapping[str, Content]],
    name: str = "lab/model",
    tags: Mapping[str, str] | None = None,
) -> dict[str, str]:
    return HubFolder(hub.running.directory).write(name, branches, tags)


def weights(text: str, **more: bytes) -> dict[str, Content]:
    return {"config.json": CONFIG, "model.safetensors": text.encode(), **more}


def rebuilt(series: NamedSeries) -> dict[str, int]:
    """Names and steps that the series of a draft declares."""
    declared = Series(
        name=series.pattern,
        at=compressed(series.steps.values()),
        named=dict(series.named),
        step_label=series.step_label,
        tokens=series.tokens,
    )
    return {plan.name: plan.step for plan in checkpoints(Run(name="a", objective="pretrain", series=declared))}


def test_a_draft_names_series_storage_licence_data_and_commits(hub: HubControl) -> None:
    data = fill(hub, {"main": {"README.md": b"data"}}, "datasets/lab/data")
    branches = {f"step{step}": weights(str(step)) for step in (1000, 2000, 3000, 4000)}
    heads = fill(hub, {"main": {**weights("4000"), "README.md": CARD}, **branches, "docs": {"a.md": b"a"}})

    made = draft(hub)
    spec, run = made.spec, made.spec.runs[0]
    assert made.is_guess
    assert run.series is not None
    assert (run.series.name, run.series.at) == ("step{step}", (StepRange(first=1000, last=4000, every=1000),))
    assert run.series.commits == {name: heads[name] for name in branches}
    assert run.series.aliases == {"main": "step4000"}
    assert (run.series.format, run.series.optimizer, run.series.unplaced) == ("safetensors", "never", ())
    assert run.architecture == {"model_type": "llama", "hidden_size": 8}
    assert run.custom_code
    assert isinstance(run.order, UnknownOrder)
    assert spec.licenses.weights == "Apache-2.0"
    assert spec.corpora[0].repository is not None
    assert (spec.corpora[0].repository.dataset, spec.corpora[0].repository.revision) == ("lab/data", data["main"])
    assert any("en, de" in line for line in spec.unconfirmed)


def test_a_draft_is_a_file_that_a_person_goes_on_with(hub: HubControl) -> None:
    fill(hub, {f"stage{s}-step{n}": weights(f"{s}{n}") for s in (1, 2) for n in (10, 20)})
    made = draft(hub)
    assert load_spec(made.data) == made.spec
    assert made.data.startswith(b"# A draft")
    assert [run.name for run in made.spec.runs] == ["stage1", "stage2"]


def test_a_model_with_main_alone_has_one_checkpoint_whose_step_is_not_known(hub: HubControl) -> None:
    fill(hub, {"main": weights("a")}, tags={"v1.0": "main"})
    series = draft(hub).spec.runs[0].series
    assert series is not None
    assert set(series.unplaced) == {"main", "v1.0"}


def test_tags_are_revisions_like_branches(hub: HubControl) -> None:
    branches = {name: weights(name) for name in ("a", "b")}
    fill(hub, branches, tags={"global_step1000": "a", "global_step2000": "b"})
    series = draft(hub).spec.runs[0].series
    assert series is not None
    assert series.name == "global_step{step}"
    assert series.aliases == {"a": "global_step1000", "b": "global_step2000"}


def test_a_branch_without_weights_stays_in_a_series_that_has_them_elsewhere(hub: HubControl) -> None:
    fill(hub, {"step1": weights("1"), "step2": {}, "step3": weights("3")})
    series = draft(hub).spec.runs[0].series
    assert series is not None
    assert series.at == (1, 2, 3)


def test_optimizer_states_and_pickles_are_seen(hub: HubControl) -> None:
    held = {"config.json": CONFIG, "pytorch_model-00001-of-00002.bin": b"a", "optimizer.pt": b"o"}
    fill(hub, {"step1": held, "step2": {**held, "pytorch_model-00001-of-00002.bin": b"b"}})
    series = draft(hub).spec.runs[0].series
    assert series is not None
    assert (series.format, series.optimizer) == ("pickle", "always")


def test_names_with_a_slash_are_called_otherwise(hub: HubControl) -> None:
    fill(hub, {f"ckpt/step{n}": weights(str(n)) for n in (1, 2)})
    series = draft(hub).spec.runs[0].series
    assert series is not None
    assert series.revisions == {"ckpt-step1": "ckpt/step1", "ckpt-step2": "ckpt/step2"}


def test_a_repository_that_is_not_there_is_told(hub: HubControl) -> None:
    with pytest.raises(TargetError, match="lab/nothing: expected a model repository"):
        draft(hub, "lab/nothing")


def test_a_repository_without_a_model_is_told(hub: HubControl) -> None:
    fill(hub, {"main": {"README.md": b"hello"}, "step1": {"README.md": b"hello"}})
    with pytest.raises(TargetError, match=r"expected weights or a config\.json"):
        draft(hub)


def test_a_repository_of_many_series_gives_a_draft_of_the_largest(hub: HubControl) -> None:
    names = [f"m{word}-step{step}" for word in range(105) for step in (1, 2)][: 2 * 105 - 3]
    fill(hub, {name: {"model.safetensors": name.encode()} for name in names})
    made = draft(hub)
    assert len(made.spec.runs) == 100
    assert made.spec.runs[0].series is not None
    assert len(made.spec.runs[0].series.unplaced) == len(names) - 200


HOSTILE_CONFIG = (
    b'{"hidden_size": 1e999, "vocab_size": ' + b"9" * 300 + b', "model_type": "\\u001b[31m", "n_head": [1]}'
)
HOSTILE_CARD = b"---\nlicense: [[a]]\ndatasets: {a: b}\nlanguage: &a [*a]\n---\n"


@pytest.mark.parametrize("config", [HOSTILE_CONFIG, b"[" * 100_000, b"[]", b"\xff"])
@pytest.mark.parametrize("card", [HOSTILE_CARD, b"---\n" + b"[" * 10_000 + b"\n---\n", b"---\n- a\n---\n", b"\xff" * 9])
def test_hostile_cards_and_configurations_give_a_small_draft(hub: HubControl, config: bytes, card: bytes) -> None:
    fill(hub, {"main": {"config.json": config, "README.md": card}, "step1": {"model.safetensors": b"x"}})
    made = draft(hub)
    assert made.spec.runs[0].architecture == {}
    assert made.spec.licenses.weights is None
    assert load_spec(made.data) == made.spec


@given(names=st.lists(st.one_of(NAMES, NUMBERED), max_size=12, unique=True))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_branch_names_give_a_draft_that_loads(hub: HubControl, names: list[str]) -> None:
    folder = HubFolder(hub.running.directory)
    folder.clear()
    folder.write("lab/model", {"main": weights("main"), **{name: weights(name) for name in names}})
    made = draft(hub)
    assert load_spec(made.data) == made.spec
    for run in made.spec.runs:
        assert run.series is not None
        plans = [plan.name for plan in checkpoints(run)]
        assert set(plans) | set(run.series.unplaced) == set(run.series.commits)


@given(
    names=st.lists(st.one_of(NAMES.map(lambda n: n.replace("/", "").replace("+", "") or "a"), NUMBERED), max_size=60)
)
def test_every_name_is_in_one_series_or_left(names: list[str]) -> None:
    series, rest = group_names(names)
    placed = [name for one in series for name in (*one.steps, *one.named)]
    assert sorted([*placed, *rest]) == sorted(set(names))
    assert len({one.run for one in series}) == len(series)


@given(names=st.lists(NUMBERED, min_size=1, max_size=60))
def test_a_series_declares_the_names_it_was_read_off(names: list[str]) -> None:
    for one in group_names(names)[0]:
        assert rebuilt(one) == {**one.steps, **one.named}


@given(
    rate=st.integers(1_000_000, 20_000_000),
    rounding=st.sampled_from(["floor", "ceil", "nearest"]),
    every=st.integers(500, 5_000),
)
def test_tokens_at_one_rate_are_told_by_a_pattern(rate: int, rounding: str, every: int) -> None:
    def label(step: int) -> int:
        tokens = rate * step
        return {"floor": tokens, "ceil": tokens + 10**9 - 1, "nearest": tokens + 10**9 // 2}[rounding] // 10**9

    names = [f"step{step}-tokens{label(step)}B" for step in range(every, every * 40, every)]
    ((one,), rest) = group_names(names)
    assert (one.pattern, rest) == ("step{step}-tokens{tokens}B", [])
    assert set(rebuilt(one)) == set(names)


@given(steps=st.sets(st.integers(0, 500)))
def test_compressed_steps_are_the_same_steps(steps: set[int]) -> None:
    found = [s for part in compressed(steps) for s in (part.steps() if isinstance(part, StepRange) else [part])]
    assert found == sorted(steps)


def by_run(names: list[str]) -> dict[str, tuple[str, int, int]]:
    """For each run its pattern, the number of its checkpoints, and its last step."""
    found = {}
    for one in group_names(names)[0]:
        steps = {**one.steps, **one.named}
        found[one.run] = (one.pattern, len(steps), max(steps.values()))
        assert rebuilt(one) == steps
    return found


PYTHIA = [*(f"step{s}" for s in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)), *(f"step{s}000" for s in range(1, 144))]


def test_names_of_pythia() -> None:
    assert by_run(PYTHIA) == {"pretrain": ("step{step}", 154, 143_000)}


def test_names_of_olmo_1() -> None:
    names = [f"step{s}-tokens{round(s * 4_423_680 / 1e9)}B" for s in range(1000, 557_001, 1000)]
    assert by_run(names) == {"pretrain": ("step{step}-tokens{tokens}B", 557, 557_000)}
    assert group_names(names)[0][0].tokens.counted(452_000, 0) == 452_000 * 4_423_680


def test_names_of_olmo_2() -> None:
    names = [f"stage1-step{s}-tokens{-(-s * 4_194_304 // 10**9)}B" for s in [*range(1000, 928_001, 1000), 928_646]]
    stage2 = [*range(1000, 11_001, 1000), 11_931]
    names += [f"stage2-ingredient{i}-step{s}-tokens{s * 4_194_304 // 10**9}B" for i in (1, 2, 3) for s in stage2]
    assert by_run(names) == {
        "stage1": ("stage1-step{step}-tokens{tokens}B", 929, 928_646),
        **{
            f"stage2-ingredient{i}": (f"stage2-ingredient{i}-step{{step}}-tokens{{tokens}}B", 12, 11_931)
            for i in (1, 2, 3)
        },
    }
    assert by_run([f"step_{s}" for s in range(0, 1001, 200)]) == {"pretrain": ("step_{step}", 6, 1000)}


def test_names_of_olmo_3() -> None:
    names = [f"stage1-step{s}" for s in [*range(0, 1_413_001, 1000), 1_413_814]]
    names += [f"stage2-ingredient{i}-step{s}" for i in (1, 2) for s in [*range(1000, 23_001, 1000), 23_842]]
    names += [f"stage3-step{s}" for s in [*range(1000, 11_001, 1000), 11_921]]
    names += [f"stage2-step{s}" for s in [*range(1000, 47_001, 1000), 47_684]]
    ablations = [f"stage2-step47684-mix-{mix}-from-2T-ckpt" for mix in ("a", "b", "c")]
    found = by_run(names + ablations)
    assert {run: last for run, (_, _, last) in found.items()} == {
        "stage1": 1_413_814,
        "stage2": 47_684,
        "stage2-ingredient1": 23_842,
        "stage2-ingredient2": 23_842,
        "stage3": 11_921,
    }
    assert group_names(names + ablations)[1] == ablations


def test_names_of_smollm3() -> None:
    names = [f"stage{i}-step-{s}" for i in (1, 2, 3) for s in range(40_000, 3_440_001, 40_000)]
    names += [f"lc-{a}k-to-{b}k-step-{s}" for a, b in ((4, 32), (32, 64)) for s in range(4000, 20_001, 4000)]
    assert {run: pattern for run, (pattern, _, _) in by_run(names).items()} == {
        "lc-4k-to-32k": "lc-4k-to-32k-step-{step}",
        "lc-32k-to-64k": "lc-32k-to-64k-step-{step}",
        "stage1": "stage1-step-{step}",
        "stage2": "stage2-step-{step}",
        "stage3": "stage3-step-{step}",
    }


def test_names_of_apertus() -> None:
    names = [f"step{s}-tokens{42 * s // 10_000}B" for s in range(50_000, 1_650_001, 50_000)]
    names += [f"step{s}-tokens{(42 * 1_678_000 + 84 * (s - 1_678_000)) // 10_000}B" for s in (1_700_000, 2_600_000)]
    names += ["step2627139-tokens15T", *(f"longctx-step{s}" for s in range(100, 2800, 100))]
    found = by_run(names)
    assert {run: (count, last) for run, (_, count, last) in found.items()} == {
        "pretrain": (36, 2_627_139),
        "longctx": (27, 2700),
    }


def test_names_of_llm360() -> None:
    assert by_run([f"ckpt_{k:03d}" for k in range(359)]) == {"pretrain": ("ckpt_{step:03d}", 359, 358)}
    k2 = [*(f"ckpt_{k}" for k in range(351, 361)), *(f"ministage2_ckpt_{k}" for k in range(371, 381))]
    assert by_run(k2) == {"pretrain": ("ckpt_{step}", 10, 360), "ministage2": ("ministage2_ckpt_{step}", 10, 380)}
    crystal = [f"CrystalCoder_phase{p}_checkpoint_{s:06d}" for p in (1, 2, 3) for s in range(1500, 27_001, 1500)]
    assert by_run(crystal) == {
        f"CrystalCoder-phase{p}": (f"CrystalCoder_phase{p}_checkpoint_{{step:06d}}", 18, 27_000) for p in (1, 2, 3)
    }
    base = [f"base_{s:07d}" for s in range(20_000, 1_245_001, 5000)]
    middle = [f"mid_{i}_{s:07d}" for i in (1, 2, 3, 4) for s in range(500, 5001, 500)]
    assert by_run(["base_final", *base, *middle]) == {
        "base": ("base_{step:07d}", 246, 1_245_000),
        **{f"mid-{i}": (f"mid_{i}_{{step:07d}}", 10, 5000) for i in (1, 2, 3, 4)},
    }


def test_names_of_tinyllama_bloom_mistral_and_others() -> None:
    tiny = [f"step-{k}k-token-{round(k * 2_097_152 / 1e6)}B" for k in range(480, 1431, 5)]
    assert by_run(tiny) == {"pretrain": ("step-{step}k-token-{tokens}B", 191, 1_430_000)}
    odd = ["step-240k-token-503B", "step-480k-token-1007B", "step-715k-token-1503B"]  # as they really are
    assert by_run(odd) == {"pretrain": ("", 3, 715_000)}
    bloom = [f"global_step{s}" for s in (1000, 10_000, *range(100_000, 600_001, 100_000))]
    assert by_run(bloom) == {"pretrain": ("global_step{step}", 8, 600_000)}
    mistral = [f"checkpoint-{s}" for s in [*range(0, 100, 10), *range(100, 2001, 50), 400_000]]
    assert by_run(mistral) == {"pretrain": ("checkpoint-{step}", 50, 400_000)}
    fineweb = [f"step-{s:06d}-{s * 2_097_152 // 10**9}BT" for s in range(1000, 167_001, 1000)]
    assert by_run(fineweb) == {"pretrain": ("step-{step:06d}-{tokens}BT", 167, 167_000)}
    assert by_run([f"iter_{s:07d}" for s in range(1000, 9001, 1000)]) == {"pretrain": ("iter_{step:07d}", 9, 9000)}
    assert by_run([f"pretrain_iter_{s}" for s in (5000, 10_000)]) == {"pretrain": ("pretrain_iter_{step}", 2, 10_000)}
    assert by_run(["kestrel", "deeper-starling", "v1.0", "v1.1", "v2.0", "2026-01-02", "2026-01-03"]) == {}


def test_licences_of_cards_become_spdx_ids() -> None:
    assert spdx_of("apache-2.0") == "Apache-2.0"
    assert spdx_of(["mit", "odc-by"]) == "MIT AND ODC-By-1.0"
    assert spdx_of("llama3 community") == "LicenseRef-llama3-community"
    assert [spdx_of(value) for value in ("other", None, 3, {}, ["x" * 500])] == [None] * 5


@given(text=st.one_of(st.text(), st.lists(st.text())))
def test_any_licence_of_a_card_is_one_that_a_spec_takes(text: str | list[str]) -> None:
    found = spdx_of(text)
    spec = json.dumps({"open360": 1, "name": "a", "licenses": {"weights": found} if found else {}})
    assert load_spec(spec.encode()).licenses.weights == found


@given(card=st.binary(max_size=300))
def test_any_card_is_read_without_an_error(card: bytes) -> None:
    assert isinstance(front_matter(b"---\n" + card + b"\n---\n"), dict)


def test_only_known_keys_of_a_configuration_are_kept() -> None:
    found = architecture_of({"hidden_size": 8, "secret": 1, "architectures": ["LlamaForCausalLM"], "rope_theta": 1e4})
    assert found == {"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("steps", "holes"),
    [
        ([1000, 2000, 3000, 5000, 6000, 7000], [4000]),
        ([0, 1, 3, 4, 5], [2]),
        ([1, 2, 4, 8, 16, 32], []),
        ([1000, 2000, 3000], []),
        ([10, 20, 35, 50], []),
        ([5], []),
    ],
)
def test_holes_are_told_of_series_that_are_regular_else(steps: list[int], holes: list[int]) -> None:
    assert drafts._holes(steps) == holes
