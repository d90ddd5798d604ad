"""Held-out loss: every id of every document once, each document alone, by domain."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from open360.schema.errors import IntegrityError, Open360Error
from open360.schema.spec import ReleaseSpec
from open360.trainer import evaluation
from open360.trainer.errors import NonFiniteScoreError
from open360.trainer.evaluation import evaluate_checkpoint
from open360.trainer.held_out import read_documents, windows
from tests.trainer.tiny_run import build, held_out_documents, tiny_spec, write_held_out, write_tokenizer


def evaluate(spec: ReleaseSpec, root: Path, corpus: Path | None = None, checkpoint: str = "ckpt_002") -> dict[str, Any]:
    folder = root / "runs/tiny/checkpoints" / checkpoint
    return evaluate_checkpoint(spec, spec.all_runs()[0], folder, corpus or root / "corpora/toy", "machine")


@given(st.lists(st.integers(1, 99), max_size=70), st.integers(1, 20))
def test_windows_predict_every_id_once_from_the_id_before_it(ids: list[int], seq_len: int) -> None:
    found = list(windows(ids, 0, seq_len))
    assert [label for _, labels in found for label in labels] == ids
    assert [context for contexts, _ in found for context in contexts] == ([0, *ids][: len(ids)])
    assert all(len(contexts) == len(labels) <= seq_len for contexts, labels in found)


def score_one_by_one(root: Path) -> dict[str, dict[str, float]]:
    """The same figures, the slow way: a forward pass for each predicted id."""
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(root / "runs/tiny/checkpoints/ckpt_002")
    tokenizer = Tokenizer.from_file(str(root / "corpora/toy/tokenizer/tokenizer.json"))
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0, 0, 0])
    for document in held_out_documents():
        domain = {"poems": "prose", "scripts": "code"}[document["source"]]
        ids = tokenizer.encode(document["text"]).ids
        for at, wanted in enumerate(ids):
            context = [0, *ids][at // 16 * 16 : at + 1]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([context])).logits[0, -1].double()
            sums[domain][0] -= torch.log_softmax(logits, -1)[wanted].item()
        sums[domain][1] += len(ids)
        sums[domain][2] += len(document["text"].encode())
        sums[domain][3] += 1
    sums["all"] = [sum(values) for values in zip(*sums.values(), strict=True)]
    return {
        domain: {
            "loss": nats / tokens,
            "perplexity": math.exp(nats / tokens),
            "bits_per_byte": nats / math.log(2) / size,
            "tokens": tokens,
            "bytes": size,
            "documents": documents,
        }
        for domain, (nats, tokens, size, documents) in sums.items()
    }


def test_the_figures_are_those_of_one_forward_pass_for_each_id(trained: Path, spec: ReleaseSpec) -> None:
    expected = score_one_by_one(trained)
    found = evaluate(spec, trained)
    assert (found["task"], found["checkpoint"], found["step"]) == ("held_out", "ckpt_002", 18)
    for domain in ("prose", "code"):
        assert found["domains"][domain] == pytest.approx(expected[domain], rel=1e-5)
    assert found["metrics"] == pytest.approx({key: expected["all"][key] for key in found["metrics"]}, rel=1e-5)
    assert set(found["metrics"]) == {"loss", "perplexity", "bits_per_byte"}


def test_an_untrained_model_is_as_good_as_a_guess(trained: Path, spec: ReleaseSpec) -> None:
    assert evaluate(spec, trained, checkpoint="ckpt_init")["metrics"]["loss"] == pytest.approx(math.log(300), abs=0.2)


def test_an_evaluation_gives_the_same_record_every_time(trained: Path, spec: ReleaseSpec) -> None:
    first, second = (json.dumps(evaluate(spec, trained)) for _ in range(2))
    assert first == second


def test_small_pools_and_batches_give_the_same_figures(
    trained: Path, spec: ReleaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluate(spec, trained)
    monkeypatch.setattr(evaluation, "POOL_WINDOWS", 3)
    monkeypatch.setattr(evaluation, "LOGITS_BYTES", 1)
    found = evaluate(spec, trained)
    assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-6)


def test_a_source_without_a_domain_stands_for_itself(trained: Path) -> None:
    spec = tiny_spec(lambda text: text.replace("{name: poems, domain: prose}", "{name: poems}"))
    assert set(evaluate(spec, trained)["domains"]) == {"poems", "code"}


def corpus_with(tmp_path: Path, lines: bytes) -> Path:
    folder = tmp_path / "toy"
    write_tokenizer(folder / "tokenizer")
    (folder / "held_out.jsonl.zst").write_bytes(lines)
    return folder


def packed(*entries: object) -> bytes:
    return zstandard.compress(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))


GOOD = {
    "id": "a",
    "text": "abc",
    "source": "poems",
    "sha256": hashlib.sha256(b"abc").hexdigest(),
}
BROKEN = {
    "no zstd": (b"{}\n", "zstd with a JSON object a line"),
    "cut short": (packed(GOOD)[:-4], "zstd with a JSON object a line"),
    "no JSON": (zstandard.compress(b"{\n"), "zstd with a JSON object a line"),
    "no object": (packed([1]), "line 1"),
    "no text": (packed(GOOD, {"id": "b", "source": "poems"}), "line 2"),
    "another text": (packed({**GOOD, "text": "abd"}), "text of sha256"),
    "unknown source": (packed({**GOOD, "source": "novels"}), "one of poems, scripts, found novels"),
    "no documents": (packed(), "documents with ids to predict"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_held_out_documents_that_are_not_what_they_say_are_refused(
    tmp_path: Path, trained: Path, spec: ReleaseSpec, case: str
) -> None:
    data, message = BROKEN[case]
    with pytest.raises(IntegrityError, match=r"toy/held_out\.jsonl\.zst") as caught:
        evaluate(spec, trained, corpus_with(tmp_path, data))
    assert message in str(caught.value)


def test_frames_one_after_the_other_are_read_to_the_end(tmp_path: Path) -> None:
    documents = held_out_documents()
    write_held_out(tmp_path / "one.zst", documents[:5])
    write_held_out(tmp_path / "two.zst", documents[5:])
    both = tmp_path / "both.zst"
    both.write_bytes((tmp_path / "one.zst").read_bytes() + (tmp_path / "two.zst").read_bytes())
    assert [document.id for document in read_documents(both, "both")] == [document["id"] for document in documents]


def test_a_damaged_checkpoint_is_not_scored(tmp_path: Path, trained: Path, spec: ReleaseSpec) -> None:
    import shutil

    shutil.copytree(trained, tmp_path / "copy")
    path = tmp_path / "copy/runs/tiny/checkpoints/ckpt_002/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Open360Error, match=r"model\.safetensors"):
        evaluate(spec, tmp_path / "copy")


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    # One step so long that the weights are finite still, and no logit is.
    spec = tiny_spec(
        lambda text: (
            text.replace("type: cosine, peak: 1.0e-2, end: 1.0e-3", "type: constant, peak: 1.0e+15")
            .replace("warmup: 3, horizon: 18", "warmup: 0")
            .replace("steps: 18", "steps: 1")
            .replace("every: 6", "every: 1")
        )
    )
    root = build(tmp_path / "release", spec)
    with pytest.raises(NonFiniteScoreError, match="loss") as caught:
        evaluate(spec, root, checkpoint="ckpt_000")
    assert caught.value.checkpoint == "ckpt_000"
