"""The tokenizer of a corpus: trained on its documents, or taken as pinned, in files that `transformers` loads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from open360.release.corpus.document_file import MAX_DOCUMENT_BYTES, parse_document, read_lines
from open360.release.corpus.encoder import Encoder, EncodingError
from open360.schema.atomic import replacing_folder
from open360.schema.corpus import Corpus, Tokenizer
from open360.schema.serialization import canonical_json

__all__ = ["SEPARATOR", "Encoder", "EncodingError", "build_tokenizer", "separator_id", "train_byte_level_bpe"]

SEPARATOR = "<|endoftext|>"
HUB_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
ALPHABET = 256
ReadHubFile = Callable[[str, str, str], bytes | None]


def build_tokenizer(
    corpus: Corpus, root: Path, documents: Path, out: Path, *, read_hub_file: ReadHubFile | None = None
) -> None:
    """Write the folder of a corpus' tokenizer.

    Args:
        root: the release folder; a tokenizer's `path` is relative to it.
        documents: `documents.jsonl.zst`, what a tokenizer is trained on.
        read_hub_file: `(repo, commit, path) -> bytes`, or None when the repo has no such file; needed for a tokenizer
            from the Hub.
    Raises:
        EncodingError: the spec does not say enough, a file is missing or is not the pinned one.
        DocumentError: the documents cannot be read.
    """
    tokenizer = corpus.tokenizer
    if tokenizer is None:
        raise EncodingError(f"corpus '{corpus.name}': expected a 'tokenizer', found none; add it")
    with replacing_folder(out) as folder:
        if tokenizer.train is not None:
            _write_trained(corpus, tokenizer, documents, folder)
        else:
            for path, data in _pinned_files(corpus.name, tokenizer, root, read_hub_file):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
        Encoder(folder, "tokenizers")


def separator_id(corpus: Corpus, encoder: Encoder) -> int:
    """Id that ends each document: the row's `separator`, else the tokenizer's separator or end of text.

    Raises:
        EncodingError: nothing says it, or the vocabulary does not have it.
    """
    if corpus.row is not None and corpus.row.separator is not None:
        return encoder.id_of(corpus.row.separator)
    tokenizer = corpus.tokenizer or Tokenizer()
    for declared in (tokenizer.special_ids.separator, tokenizer.special_ids.eos):
        if declared is not None:
            return declared
    if tokenizer.train is not None:
        return encoder.id_of(SEPARATOR)
    raise EncodingError(f"corpus '{corpus.name}': expected a 'separator' in its 'row', found none; add it")


def train_byte_level_bpe(texts: Iterator[str], vocabulary: int, separator: str) -> Backend:
    """Byte-level BPE (Sennrich et al., 2016; bytes as in GPT-2): id 0 is the separator, 1 to 256 are the bytes.

    The result depends on the texts alone, not on their order or on threads.
    """
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[separator],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _write_trained(corpus: Corpus, tokenizer: Tokenizer, documents: Path, folder: Path) -> None:
    separator = corpus.row.separator if corpus.row is not None and corpus.row.separator is not None else SEPARATOR
    vocabulary = tokenizer.vocabulary or 0
    if vocabulary <= ALPHABET:
        raise EncodingError(
            f"corpus '{corpus.name}': expected a 'vocabulary' above {ALPHABET + 1} for its tokenizer, "
            f"found {vocabulary}; correct it"
        )
    texts = (parse_document(line, documents.name).text for lines in read_lines(documents) for line in lines)
    backend = train_byte_level_bpe(texts, vocabulary, separator)
    if backend.get_vocab_size() != vocabulary:
        raise EncodingError(
            f"corpus '{corpus.name}': expected a vocabulary of {vocabulary}, but its text gives "
            f"{backend.get_vocab_size()}; lower 'vocabulary' or add text"
        )
    config = {
        "bos_token": separator,
        "eos_token": separator,
        "pad_token": separator,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    if corpus.row is not None:
        config["model_max_length"] = corpus.row.seq_len
    special = {key: value for key, value in config.items() if key.endswith("_token")}
    (folder / "tokenizer.json").write_text(backend.to_str(pretty=True) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_bytes(canonical_json(config))
    (folder / "special_tokens_map.json").write_bytes(canonical_json(special))


def _pinned_files(
    corpus: str, tokenizer: Tokenizer, root: Path, read_hub_file: ReadHubFile | None
) -> Iterator[tuple[str, bytes]]:
    """`(path, bytes)` of each file of a tokenizer that is not trained, checked against its digest."""
    pinned = {file.path: file.sha256 for file in tokenizer.files}
    if tokenizer.path is not None and not pinned:
        raise EncodingError(f"corpus '{corpus}': its tokenizer has a 'path' but no 'files'; list them with sha256")
    if tokenizer.path is None and (tokenizer.hub is None or tokenizer.revision is None or read_hub_file is None):
        raise EncodingError(
            f"corpus '{corpus}': expected a tokenizer with 'train', 'path', or 'hub' and a commit as 'revision'; add it"
        )
    for path in pinned or HUB_FILES:
        name = f"{tokenizer.path or tokenizer.hub}/{path}"
        if tokenizer.path is not None:
            file = root / tokenizer.path / path
            data = file.read_bytes() if file.is_file() else None
        else:
            data = read_hub_file(str(tokenizer.hub), str(tokenizer.revision), path) if read_hub_file else None
        if data is None:
            if path in pinned or path == "tokenizer.json":
                raise EncodingError(f"{name}: expected a file of the tokenizer, found none; correct 'files'")
            continue
        found = hashlib.sha256(data).hexdigest()
        if len(data) > 8 * MAX_DOCUMENT_BYTES or found != pinned.get(path, found):
            raise EncodingError(
                f"{name}: expected sha256 {pinned.get(path, 'of a file of sane size')}, found {found} "
                f"({len(data)} bytes); restore the file or correct 'files'"
            )
        yield path, data
