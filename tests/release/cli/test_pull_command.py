"""`open360 pull`, as a person calls it: releases of ours and of others, exit codes, text on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models

from tests.release.conftest import PublishedRelease
from tests.support.foreign_release import RELEASES, ForeignRelease, change, rows_of
from tests.support.hub_control import HubControl
from tests.support.opened_release import open_release
from tests.support.page_server import Pages, page_server

WORDS = ["<|endoftext|>", *(f"w{number} " for number in range(1, 31)), "\x1b]0;owned\x07"]
HOME = "huggyllama/llama-7b"


@pytest.fixture
def pages() -> Iterator[Pages]:
    with page_server() as running:
        yield running


def pull(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "open360"), "pull", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tokenizer() -> bytes:
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="w1 "))
    backend.decoder = decoders.Fuse()
    return backend.to_str().encode()


def with_tokenizer(name: str, repo: str) -> ForeignRelease:
    release = RELEASES[name]()
    release.repos[repo] = {"main": {"tokenizer.json": tokenizer()}}
    old = 'revision: "1111111111111111111111111111111111111111"'
    change(release, [{"spec": {"old": old, "new": f'revision: "{{commit:{repo}@main}}"'}}])
    return release


def test_a_batch_of_others_is_pulled_and_what_is_not_verified_is_told(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("pythia", hub, pages, tmp_path)
    place = ("--spec", there.spec, "--endpoint", hub.url)
    plan = pull(there.repo, "--step", "5", "--dry-run", *place)
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.splitlines() == [
        "document-00000-of-00002.bin  [180, 200)",
        "document-00001-of-00002.bin  [0, 16)",
    ]
    assert "2 ranges of 2 files, 36 bytes to read, under 1 s at 100 Mbit/s" in plan.stderr
    done = pull(there.repo, "--step", "5", "-o", tmp_path / "out", *place)
    assert done.returncode == 0, done.stderr
    assert "not verified: parts of files" in done.stderr
    assert (tmp_path / "out/rows.parquet").is_file()
    told = pull(there.repo, "--step", "5", "-o", tmp_path / "out", "--force", "--json", *place)
    assert json.loads(told.stdout)["order"]["kind"] == "materialized"
    weights = pull(there.repo, "--checkpoint", "step4", "--what", "weights", "-o", tmp_path / "model", *place)
    assert weights.returncode == 0, weights.stderr
    assert (tmp_path / "model/model.safetensors").is_file()


def test_text_is_decoded_by_the_pinned_tokenizer_and_does_nothing_to_a_terminal(
    hub: HubControl, pages: Pages, tmp_path: Path
) -> None:
    there = open_release("pythia", hub, pages, tmp_path, with_tokenizer("pythia", "EleutherAI/gpt-neox-20b"))
    done = pull(there.repo, "--rows", "0:32", "--as", "text", "--spec", there.spec, "--endpoint", hub.url)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\\x1b]0;owned\\x07" in done.stdout
    first = "".join(WORDS[token] for token in rows_of(1, 32, 9, 0)[0]).replace("\x1b]0;owned\x07", "\\x1b]0;owned\\x07")
    assert done.stdout.startswith(f"── step 0 · row 0\n{first}\n\n")
    whole = pull(
        there.repo, "--step", "0", "--as", "text", "-o", tmp_path / "out", "--spec", there.spec, "--endpoint", hub.url
    )
    assert whole.returncode == 0, whole.stderr
    assert (tmp_path / "out/rows.txt").read_text() == done.stdout[: len((tmp_path / "out/rows.txt").read_text())]


def test_text_of_one_source_says_where_each_row_is_from(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("amber", hub, pages, tmp_path, with_tokenizer("amber", HOME))
    done = pull(
        there.repo, "--checkpoint", "ckpt_001", "--source", "arxiv", "--as", "text",
        "--spec", there.spec, "--endpoint", hub.url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    heads = [line for line in done.stdout.splitlines() if line.startswith("──")]
    assert heads == [f"── step {row // 4} · row {row} · arxiv" for row in range(8, 12)]


def test_text_without_any_tokenizer_is_refused(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    there = open_release("amber", hub, pages, tmp_path)
    done = pull(there.repo, "--step", "0", "--as", "text", "--spec", there.spec, "--endpoint", hub.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "tokenizer" in done.stderr


def test_exit_codes_tell_refusals_from_damage(hub: HubControl, pages: Pages, tmp_path: Path) -> None:
    release = RELEASES["pythia"]()
    release.golden[7] = "0" * 64
    there = open_release("pythia", hub, pages, tmp_path, release)
    place = ("-o", tmp_path / "out", "--spec", there.spec, "--endpoint", hub.url)
    damaged = pull(there.repo, "--step", "7", *place)
    assert (damaged.returncode, "batch 7" in damaged.stderr) == (1, True)
    refused = pull(there.repo, "--step", "16", *place)
    assert (refused.returncode, "expected: 0 to 15" in refused.stderr) == (2, True)
    text = there.spec.read_text().replace("{kind: materialized}", "{kind: unknown, reason: its seed was not kept}")
    there.spec.write_text(text)
    unknown = pull(there.repo, "--step", "1", *place)
    assert (unknown.returncode, "its seed was not kept" in unknown.stderr) == (2, True)
    away = pull(there.repo, "--step", "1", "-o", tmp_path / "out", "--endpoint", "http://127.0.0.1:9")
    assert away.returncode == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to fetch"),
        (["--step", "1", "--rows", "2"], "--step and --rows: choose one"),
        (["--step", "5:3"], "expected a batch N or a range"),
        (["--step", "1", "--what", "weights"], "--step fetches the data of batches"),
        (["--checkpoint", "x", "--what", "weights", "--as", "npy"], "are about data"),
        (["--what", "manifest", "--checkpoint", "x"], "about the whole release"),
        (["--step", "1", "--as", "text", "--json"], "prints the rows themselves"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = pull(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_releases_of_ours_are_pulled_as_ever(published: PublishedRelease, tmp_path: Path) -> None:
    place = ("--endpoint", published.hub.url)
    done = pull(published.repo, "--step", "2:4", "-o", tmp_path / "out", *place)
    assert done.returncode == 0, done.stderr
    assert "read and verified" in done.stderr
    for arguments in (
        ("--rows", "1:3"),
        ("--between", "ckpt_000", "ckpt_002", "--as", "megatron"),
        ("--checkpoint", "ckpt_001", "--as", "native"),
        ("--checkpoint", "ckpt_001", "--what", "metrics"),
        ("--checkpoint", "ckpt_001", "--what", "optimizer"),
        ("--what", "manifest"),
    ):
        done = pull(published.repo, *arguments, "-o", tmp_path / arguments[1], "--force", *place)
        assert done.returncode == 0, done.stderr
    refused = pull(published.repo, "--step", "2", "--as", "native", *place)
    assert (refused.returncode, "native gives whole chunks" in refused.stderr) == (2, True)
