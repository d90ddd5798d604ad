"""Cards: front matter that a Hub reads, tables that a person reads, bytes that depend on the release alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.cards import data_card, model_card
from open360.release.local_hub.front_matter import find_errors, split_front_matter
from open360.release.placement import Homes
from open360.schema.manifest import Manifest
from open360.schema.run import HubRepositories, Parent
from open360.schema.serialization import load_manifest, load_spec, parse_yaml
from open360.schema.spec import ReleaseSpec
from tests.release.conftest import PublishedRelease


@pytest.fixture(scope="module")
def spec(tiny_original: Path) -> ReleaseSpec:
    return load_spec((tiny_original / "release.yaml").read_bytes())


@pytest.fixture(scope="module")
def manifest(tiny_original: Path) -> Manifest:
    return load_manifest((tiny_original / "manifest.json").read_bytes())


def front_matter(card: bytes) -> dict[str, object]:
    text = split_front_matter(card.decode())
    assert text is not None
    found, _ = parse_yaml(text.encode(), "README.md")
    assert isinstance(found, dict)
    return found


def cards(spec: ReleaseSpec, manifest: Manifest) -> tuple[bytes, bytes]:
    homes = Homes(spec, "lab")
    return model_card(spec, manifest, "tiny", homes), data_card(spec, manifest, homes.data("tiny"), homes)


def test_a_model_card_names_licence_data_and_library(spec: ReleaseSpec, manifest: Manifest) -> None:
    front = front_matter(cards(spec, manifest)[0])
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == ["lab/tiny-data"]
    assert front["library_name"] == "transformers"
    assert "base_model" not in front


def test_a_model_card_lists_every_checkpoint_with_step_tokens_and_loss(spec: ReleaseSpec, manifest: Manifest) -> None:
    text = cards(spec, manifest)[0].decode()
    for checkpoint in manifest.runs[0].checkpoints:
        line = next(line for line in text.splitlines() if line.startswith(f"| {checkpoint.name} |"))
        assert f"| {checkpoint.step:,} | {checkpoint.tokens:,} | {checkpoint.metrics['loss']:.4f} |" in line
    assert 'from_pretrained("lab/tiny", revision="ckpt_002")' in text
    assert "open360 pull lab/tiny --tag v1.0.0 --checkpoint ckpt_002 --what data" in text


def test_the_card_of_a_child_names_its_base_model(spec: ReleaseSpec, manifest: Manifest) -> None:
    child = spec.runs[0].model_copy(
        update={
            "name": "tiny-chat",
            "objective": "sft",
            "parent": Parent(run="tiny", step=6),
            "hub": HubRepositories(model="open360/tiny-chat"),
        }
    )
    family = spec.model_copy(update={"runs": (*spec.runs, child)})
    records = manifest.model_copy(
        update={"runs": (*manifest.runs, manifest.runs[0].model_copy(update={"name": "tiny-chat", "chunks": ()}))}
    )
    front = front_matter(model_card(family, records, "tiny-chat", Homes(family, "lab")))
    assert front["base_model"] == "lab/tiny"
    assert "sft" in front["tags"]  # type: ignore[operator]
    elsewhere = child.model_copy(update={"parent": Parent(run="amber", step=1, release="LLM360/Amber")})
    family = spec.model_copy(update={"runs": (*spec.runs, elsewhere)})
    assert front_matter(model_card(family, records, "tiny-chat", Homes(family)))["base_model"] == "LLM360/Amber"


def test_a_data_card_says_which_files_a_loader_reads(spec: ReleaseSpec, manifest: Manifest) -> None:
    card = cards(spec, manifest)[1]
    configs = front_matter(card)["configs"]
    assert configs == [{"config_name": "default", "data_files": [{"split": "train", "path": "chunks/*.parquet"}]}]
    for chunk in manifest.runs[0].chunks:
        assert f"| chunks/{chunk.name}.parquet | {chunk.first_step}" in card.decode()


def test_chunks_whose_names_do_not_sort_in_training_order_are_listed_one_by_one(
    spec: ReleaseSpec, manifest: Manifest
) -> None:
    run = manifest.runs[0]
    swapped = run.model_copy(update={"chunks": run.chunks[::-1]})
    homes = Homes(spec, "lab")
    card = data_card(spec, manifest.model_copy(update={"runs": (swapped,)}), homes.data("tiny"), homes)
    files = front_matter(card)["configs"][0]["data_files"][0]["path"]  # type: ignore[index]
    assert files == [f"chunks/chunk_00{index}.parquet" for index in (2, 1, 0)]


@pytest.mark.parametrize(
    ("spdx", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("BSD-3-Clause AND MIT", {"license": ["bsd-3-clause", "mit"]}),
        ("LicenseRef-Ours", {"license": "other", "license_name": "licenseref-ours"}),
        ("MIT OR Apache-2.0", {"license": "other", "license_name": "mit-or-apache-2.0"}),
        (None, {"license": "unknown"}),
    ],
)
def test_licences_are_written_as_the_hub_knows_them(
    spec: ReleaseSpec, manifest: Manifest, spdx: str | None, expected: dict[str, object]
) -> None:
    licensed = spec.model_copy(update={"licenses": spec.licenses.model_copy(update={"data": spdx})})
    front = front_matter(cards(licensed, manifest)[1])
    assert {key: front[key] for key in expected} == expected


def test_cards_depend_on_the_release_alone(spec: ReleaseSpec, manifest: Manifest) -> None:
    assert cards(spec, manifest) == cards(spec, manifest)
    assert b"2026" not in cards(spec, manifest)[0]


@given(st.text(min_size=1, max_size=40).filter(lambda t: not any(0xD800 <= ord(c) <= 0xDFFF for c in t)))
def test_no_text_of_a_spec_breaks_the_front_matter(spec: ReleaseSpec, manifest: Manifest, text: str) -> None:
    odd = spec.model_copy(update={"description": text, "citation": text})
    for card in cards(odd, manifest):
        assert not find_errors(card.decode())
        assert front_matter(card)["tags"]


def test_datasets_loads_the_chunks_from_the_tag(published: PublishedRelease, tmp_path: Path) -> None:
    code = (
        "import datasets\n"
        "rows = datasets.load_dataset('lab/tiny-data', revision='v1.0.0', split='train')\n"
        "print(rows['row'][:], len(rows['token_ids'][0]))"
    )
    environment = {**os.environ, "HF_ENDPOINT": published.hub.url, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == f"{list(range(12))} 9"
