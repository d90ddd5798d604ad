"""Exact encoding of documents, with the fastest engine that is proved equal for the tokenizer at hand.

The reference is `tokenizers`. `tiktoken` over the same vocabulary, merges and regular expression gives the same ids at
several times the speed, but only under conditions that are checked here, each time:

* the tokenizer is byte-level BPE of a form that tiktoken has, its merges are in the order of their ids;
* every entry of the vocabulary is what `tokenizers` makes of its own text (tiktoken looks whole pieces up);
* probes of known traps, and one document of every batch, give the same ids;
* characters outside ASCII fall into the same classes of the regular expression (the libraries' Unicode tables differ);
  a document with a character that does not is encoded by `tokenizers`, and so is one that tiktoken gives up on.

Text that looks like a special token is ordinary text: documents are data, and never give a separator.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tiktoken
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, normalizers

from open360.schema.errors import Open360Error

Engine = Literal["tiktoken", "tokenizers"]

# The expression inside ByteLevel(use_regex=True): GPT-2's (Radford et al., 2019).
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PROBES = (
    "", " ", "  x", "x  ", "a\r\n\r\n b\t\tc  \n", "I'll don't DON'T we've 'S 's", "0123456789 3.14 1e-5 0x1F",
    "naïve Ünïcode ß ſ K İ ı é", "漢字かな交じり文 한국어 العربية עברית हिन्दी ไทย", "🙂👩‍👩‍👧‍👦 ½ Ⅷ ² ª ᵃ",
    "\u00a0\u2003\u2028\u3000\u200b\ufeff\x00\x1f\x7f\x85", "__init__ == '=-'*3 <|endoftext|> <s> </s> [INST]",
    "=" * 300 + " " * 300 + "a" * 300 + "\n" * 30,
)  # fmt: skip
MAX_SAMPLE_CHARS = 1 << 14
LONG_CHARS = 1 << 20
# The regular expressions' engine gives up after a million steps back; GPT-2's takes at most a few for a character.
SHORT_CHARS = 1 << 17
_ONE_LONG_TEXT = threading.Lock()
_ALL_BYTES = {bytes([byte]): byte for byte in range(256)}
_CLASS = re.compile(r"\\[pP]\{\^?\w+\}|\\[pP]\w|\\[sSdDwW]")
_PLAIN_BPE = {
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "byte_fallback": False,
}


class EncodingError(Open360Error):
    """A tokenizer cannot be used for packing."""


class EngineMismatchError(EncodingError):
    """The two engines disagree on a document of the corpus: encode again with `tokenizers` alone."""


class Encoder:
    """Text to ids by the tokenizer in `folder`.

    Args:
        folder: holds `tokenizer.json`.
        engine: `tokenizers` to skip the faster engine; by default the fastest one that is proved equal.
    Raises:
        EncodingError: there is no usable `tokenizer.json`.
    """

    def __init__(self, folder: Path, engine: Engine | None = None) -> None:
        path = folder / "tokenizer.json"
        try:
            text = path.read_text()
            self._reference = Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises nothing narrower
            raise EncodingError(
                f"{path.name}: expected a tokenizer, found {error}; build the tokenizer again"
            ) from error
        self._reference.no_truncation()
        self._reference.no_padding()
        self._reference.encode_special_tokens = True
        ids = self._reference.get_vocab(with_added_tokens=True).values()
        self.vocabulary = max(ids, default=-1) + 1
        self._fast = None if engine == "tokenizers" else _proved_twin(json.loads(text), self._reference)

    @property
    def engine(self) -> Engine:
        """The engine in use."""
        return "tokenizers" if self._fast is None else "tiktoken"

    def id_of(self, token: str) -> int:
        """Id of a token. Raises EncodingError when the vocabulary does not have it."""
        found = self._reference.token_to_id(token)
        if found is None:
            raise EncodingError(
                f"the tokenizer has no token '{token}', expected it between documents; correct 'separator' of the row"
            )
        return int(found)

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """Ids of each text. Raises EngineMismatchError when the sample of this batch shows the engines differ."""
        if self._fast is None:
            return _encode_reference(self._reference, texts)
        fast = [self._fast.encode(text) for text in texts]
        given_up = [text for text, ids in zip(texts, fast, strict=True) if ids is None]
        slow = iter(_encode_reference(self._reference, given_up))
        encoded = [next(slow) if ids is None else ids for ids in fast]
        sample = next((i for i, text in enumerate(texts) if 0 < len(text) <= MAX_SAMPLE_CHARS), None)
        if sample is not None:
            (expected,) = _encode_reference(self._reference, [texts[sample]])
            if not np.array_equal(expected, encoded[sample]):
                raise EngineMismatchError(f"tiktoken and tokenizers disagree on the text '{texts[sample][:80]}…'")
        return encoded


def _encode_reference(tokenizer: Tokenizer, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
    if any(len(text) > LONG_CHARS for text in texts):
        # It needs some 150 times the size of a text, so long ones come one by one.
        with _ONE_LONG_TEXT:
            return [_encode_at_once(tokenizer, [text])[0] for text in texts]
    return _encode_at_once(tokenizer, texts) if texts else []


def _encode_at_once(tokenizer: Tokenizer, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]


class _Twin:
    """The same tokenizer in tiktoken."""

    def __init__(self, pattern: str, ranks: dict[bytes, int]) -> None:
        self._surely_ends = pattern == GPT2_PATTERN
        self._encoding = tiktoken.Encoding("twin", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        classes = sorted({*_CLASS.findall(pattern), *(["(?i:[a-z])"] if "(?i" in pattern else [])})
        self._classes = [
            (
                tiktoken.Encoding(name, pat_str=name, mergeable_ranks=_ALL_BYTES, special_tokens={}),
                normalizers.Replace(Regex(name), ""),
            )
            for name in classes
        ]
        self._known: set[str] = {chr(code) for code in range(128)}
        self._disputed: set[str] = set()

    def encode(self, text: str) -> NDArray[np.uint32] | None:
        """Ids of a text, or None where this engine is not proved equal."""
        if not text.isascii():
            characters = set(text)
            if not characters <= self._known:
                self._classify(characters - self._known)
            if not characters.isdisjoint(self._disputed):
                return None
        if self._surely_ends and len(text) <= SHORT_CHARS:
            # Faster, since it looks for no special tokens; but it panics where the other call raises ValueError.
            return np.array(self._encoding.encode_ordinary(text), dtype=np.uint32)
        try:
            return np.asarray(self._encoding.encode_to_numpy(text, disallowed_special=()), dtype=np.uint32)
        except ValueError:  # its regular expression ran out of stack, as on a million spaces
            return None

    def _classify(self, characters: set[str]) -> None:
        text = "".join(sorted(characters))
        for fast, slow in self._classes:
            ours = set(fast.decode(fast.encode_ordinary(text)))
            theirs = characters - set(slow.normalize_str(text))
            self._disputed |= ours ^ theirs
        self._known |= characters


def _proved_twin(plain: dict[str, Any], reference: Tokenizer) -> _Twin | None:
    """The tokenizer in tiktoken when all that can be checked beforehand shows that it gives the same ids."""
    pattern = _pattern_of(plain)
    model = plain["model"]
    if pattern is None or model.get("type") != "BPE" or any(model.get(k, v) != v for k, v in _PLAIN_BPE.items()):
        return None
    added = plain.get("added_tokens") or []
    special = {token["content"] for token in added}
    if not all(token["special"] for token in added):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    ordinary = {token: index for token, index in vocabulary.items() if token not in special}
    try:
        ranks = {_to_bytes(token): index for token, index in ordinary.items()}
    except KeyError:
        return None
    merged = [vocabulary.get("".join(pair.split(" ") if isinstance(pair, str) else pair)) for pair in model["merges"]]
    in_order = all(a is not None and b is not None and a < b for a, b in itertools.pairwise(merged))
    if not in_order or not _ALL_BYTES.keys() <= ranks.keys() or len(ranks) != len(ordinary):
        return None
    if not _all_whole(reference, ordinary):
        return None
    twin = _Twin(pattern, ranks)
    expected = _encode_reference(reference, PROBES)
    found = [twin.encode(text) for text in PROBES]
    equal = all(b is None or np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    return twin if equal else None


def _all_whole(reference: Tokenizer, tokens: Iterable[str]) -> bool:
    """Whether every token comes out of its own text as one token."""
    model = reference.model
    return all(len(model.tokenize(token)) == 1 for token in tokens)


def _pattern_of(plain: dict[str, Any]) -> str | None:
    """The regular expression that cuts text into pieces, for the forms that tiktoken can express."""
    before = plain.get("pre_tokenizer") or {}
    if plain.get("normalizer") is not None:
        return None
    if before.get("type") == "ByteLevel" and not before["add_prefix_space"] and before.get("use_regex", True):
        return GPT2_PATTERN
    parts = before.get("pretokenizers", [])
    if before.get("type") != "Sequence" or [part["type"] for part in parts] != ["Split", "ByteLevel"]:
        return None
    split, level = parts
    pattern = split["pattern"].get("Regex")
    plain_split = split["behavior"] == "Isolated" and not split["invert"]
    plain_level = not level["add_prefix_space"] and not level.get("use_regex", True)
    return str(pattern) if pattern is not None and plain_split and plain_level else None


def _byte_of_character() -> dict[str, int]:
    """Byte-level BPE writes each byte as a printable character: itself where it is one, else from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    rest = [byte for byte in range(256) if byte not in set(printable)]
    return {**table, **{chr(256 + index): byte for index, byte in enumerate(rest)}}


_BYTES = _byte_of_character()


def _to_bytes(token: str) -> bytes:
    return bytes(_BYTES[character] for character in token)
