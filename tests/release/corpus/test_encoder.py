"""The faster engine is used where it is proved equal, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.corpus.encoder import SHORT_CHARS, Encoder, EngineMismatchError
from tests.release.corpus.conftest import Packed, some_texts

LLAMA_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPLIT = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA_PATTERN}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ],
}


def changed(folder: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    plain = json.loads((folder / "tokenizer.json").read_text())
    change(plain)
    out.mkdir(exist_ok=True)
    (out / "tokenizer.json").write_text(json.dumps(plain))
    return out


@settings(deadline=None, max_examples=150)
@given(texts=st.lists(st.text(max_size=80), max_size=6))
def test_both_engines_give_the_same_ids_for_any_text(tokenizer_folder: Path, texts: list[str]) -> None:
    fast, slow = Encoder(tokenizer_folder), Encoder(tokenizer_folder, "tokenizers")
    assert (fast.engine, slow.engine) == ("tiktoken", "tokenizers")
    for a, b in zip(fast.encode_batch(texts), slow.encode_batch(texts), strict=True):
        assert a.tolist() == b.tolist()


@settings(deadline=None, max_examples=100)
@given(text=st.text(alphabet=st.sampled_from("aAbB'sSlLtTſK 123\r\n\t.,-漢é🙂<|>"), max_size=60))
def test_an_expression_of_its_own_is_followed_by_both(
    tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    out = tmp_path_factory.getbasetemp() / "split"
    folder = changed(tokenizer_folder, out, lambda plain: plain.update(pre_tokenizer=SPLIT))
    fast, slow = Encoder(folder), Encoder(folder, "tokenizers")
    assert fast.engine == "tiktoken"
    assert fast.encode_batch([text])[0].tolist() == slow.encode_batch([text])[0].tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.update(normalizer={"type": "NFKC"}),
        lambda plain: plain["pre_tokenizer"].update(add_prefix_space=True),
        lambda plain: plain.update(pre_tokenizer={"type": "Whitespace"}),
        lambda plain: plain["model"]["merges"].reverse(),
        lambda plain: plain["model"]["merges"].pop(),
        lambda plain: plain["added_tokens"][0].update(special=False),
        lambda plain: plain["model"].update(dropout=0.5),
    ],
)
def test_a_tokenizer_that_is_not_proved_equal_uses_the_reference(
    tokenizer_folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    assert Encoder(changed(tokenizer_folder, tmp_path / "changed", change)).engine == "tokenizers"


def test_a_text_that_the_faster_engine_gives_up_on_is_encoded_all_the_same(tokenizer_folder: Path) -> None:
    texts = ["a", " " * 1_500_000 + "x", "b"]
    fast, slow = Encoder(tokenizer_folder), Encoder(tokenizer_folder, "tokenizers")
    for a, b in zip(fast.encode_batch(texts), slow.encode_batch(texts), strict=True):
        assert a.tolist() == b.tolist()


def test_characters_that_the_engines_class_differently_go_to_the_reference(
    tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, slow = Encoder(tokenizer_folder), Encoder(tokenizer_folder, "tokenizers")
    twin: Any = fast._fast
    monkeypatch.setattr(twin, "_classify", lambda characters: twin._disputed.update(characters))
    assert twin.encode("plain") is not None
    assert twin.encode("жук") is None
    texts = ["plain", "жук x", "é"]
    for a, b in zip(fast.encode_batch(texts), slow.encode_batch(texts), strict=True):
        assert a.tolist() == b.tolist()


def test_packing_starts_again_when_the_sample_shows_a_difference(
    pack: Callable[..., Packed], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pack(some_texts())
    original = Encoder.encode_batch

    def disagree(self: Encoder, texts: list[str]) -> Any:
        if self.engine == "tiktoken":
            raise EngineMismatchError("they differ")
        return original(self, texts)

    monkeypatch.setattr(Encoder, "encode_batch", disagree)
    found = pack(some_texts())
    assert found.result.engine == "tokenizers"
    assert found.bytes_of_all() == expected.bytes_of_all()


def test_the_sample_of_a_batch_finds_an_engine_that_differs(tokenizer_folder: Path) -> None:
    fast = Encoder(tokenizer_folder)
    twin: Any = fast._fast
    encode = twin.encode
    twin.encode = lambda text: encode(text.upper())
    with pytest.raises(EngineMismatchError, match="disagree on the text 'alpha"):
        fast.encode_batch(["alpha beta", "x"])


@pytest.mark.parametrize("piece", [" ", "\n", "a", "'", "1", "\u00e9", "\t ", "=", "\u3000", " '"])
def test_the_longest_text_of_the_quick_way_is_encoded_whatever_repeats_in_it(
    piece: str, tokenizer_folder: Path
) -> None:
    text = (piece * SHORT_CHARS)[:SHORT_CHARS]
    encoder = Encoder(tokenizer_folder)
    assert encoder.engine == "tiktoken"
    (ids,), (expected,) = encoder.encode_batch([text]), Encoder(tokenizer_folder, "tokenizers").encode_batch([text])
    assert ids.tolist() == expected.tolist()
