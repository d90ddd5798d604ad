"""Tokenizers: trained to the same bytes, loaded by stock transformers, or taken exactly as pinned."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from open360.release.corpus.encoder import Encoder, EncodingError
from open360.release.corpus.tokenizer import build_tokenizer, separator_id
from open360.schema.corpus import Corpus, PinnedFile, SpecialIds, Tokenizer
from tests.release.corpus.conftest import make_spec, some_texts, write_documents


def corpus_with(tokenizer: Tokenizer) -> Corpus:
    return make_spec().corpora[0].model_copy(update={"tokenizer": tokenizer})


def pinned(folder: Path, *names: str) -> tuple[PinnedFile, ...]:
    return tuple(PinnedFile(path=n, sha256=hashlib.sha256((folder / n).read_bytes()).hexdigest()) for n in names)


def test_training_gives_the_same_bytes_in_any_order_and_process(tmp_path: Path, tokenizer_folder: Path) -> None:
    texts = some_texts(400)
    random.Random(3).shuffle(texts)
    write_documents(tmp_path / "documents.jsonl.zst", texts)
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.release.corpus.conftest import make_spec\n"
        "from open360.release.corpus.tokenizer import build_tokenizer\n"
        "root = Path(sys.argv[1])\n"
        "build_tokenizer(make_spec().corpora[0], root, root / 'documents.jsonl.zst', root / 'tokenizer')\n"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "5",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    subprocess.run([sys.executable, "-P", "-c", script, str(tmp_path)], check=True, env=environment)
    for file in tokenizer_folder.iterdir():
        assert (tmp_path / "tokenizer" / file.name).read_bytes() == file.read_bytes()


def test_transformers_loads_it_and_gives_the_same_ids(tokenizer_folder: Path) -> None:
    script = (
        "import sys; from transformers import AutoTokenizer\n"
        "t = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "print(t('alpha über 42').input_ids, t.eos_token_id, t.model_max_length, len(t))\n"
        "print(t.decode(t('a  b , c 漢').input_ids))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tokenizer_folder)], check=True, capture_output=True, text=True
    )
    ids = Encoder(tokenizer_folder).encode_batch(["alpha über 42"])[0].tolist()
    assert done.stdout.splitlines() == [f"{ids} 0 16 300", "a  b , c 漢"]


def test_the_separator_is_id_0_and_text_never_gives_it(tokenizer_folder: Path) -> None:
    corpus = make_spec().corpora[0]
    for engine in (None, "tokenizers"):
        encoder = Encoder(tokenizer_folder, engine)  # type: ignore[arg-type]
        assert separator_id(corpus, encoder) == 0
        (ids,) = encoder.encode_batch(["<|endoftext|> a <|endoftext|><|endoftext|>"])
        assert 0 not in ids


def test_text_that_is_too_small_for_the_vocabulary_is_an_error(tmp_path: Path) -> None:
    write_documents(tmp_path / "documents.jsonl.zst", some_texts(3))
    with pytest.raises(EncodingError, match="expected a vocabulary of 4096, but its text gives"):
        build_tokenizer(
            make_spec(vocabulary=4096).corpora[0], tmp_path, tmp_path / "documents.jsonl.zst", tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_a_pinned_tokenizer_is_taken_as_it_is(tmp_path: Path, tokenizer_folder: Path) -> None:
    files = pinned(tokenizer_folder, "tokenizer.json", "tokenizer_config.json")
    corpus = corpus_with(Tokenizer(path=tokenizer_folder.name, files=files))
    build_tokenizer(corpus, tokenizer_folder.parent, tmp_path / "none", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (tokenizer_folder / "tokenizer.json").read_bytes()


def test_a_pinned_file_of_another_digest_is_refused(tmp_path: Path, tokenizer_folder: Path) -> None:
    corpus = corpus_with(Tokenizer(path="tokenizer", files=(PinnedFile(path="tokenizer.json", sha256="0" * 64),)))
    with pytest.raises(EncodingError, match=r"tokenizer/tokenizer\.json: expected sha256 0000"):
        build_tokenizer(corpus, tokenizer_folder.parent, tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_the_hub_is_read_at_its_commit(tmp_path: Path, tokenizer_folder: Path) -> None:
    asked = []

    def read_hub_file(repo: str, revision: str, path: str) -> bytes | None:
        asked.append((repo, revision))
        file = tokenizer_folder / path
        return file.read_bytes() if path != "special_tokens_map.json" else None

    corpus = corpus_with(Tokenizer(hub="org/words", revision="a" * 40))
    build_tokenizer(corpus, tmp_path, tmp_path / "none", tmp_path / "out", read_hub_file=read_hub_file)
    assert set(asked) == {("org/words", "a" * 40)}
    assert Encoder(tmp_path / "out").vocabulary == 300
    with pytest.raises(EncodingError, match="a commit as 'revision'"):
        build_tokenizer(
            corpus_with(Tokenizer(hub="org/words")), tmp_path, tmp_path, tmp_path / "x", read_hub_file=read_hub_file
        )


def test_bytes_that_are_no_tokenizer_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(EncodingError, match="expected a tokenizer"):
        Encoder(tmp_path)
    with pytest.raises(EncodingError, match="expected a tokenizer"):
        Encoder(tmp_path / "nowhere")


def test_a_separator_outside_the_vocabulary_is_an_error(tokenizer_folder: Path) -> None:
    corpus = make_spec().corpora[0]
    assert corpus.row is not None
    changed = corpus.model_copy(update={"row": corpus.row.model_copy(update={"separator": "</s>"})})
    with pytest.raises(EncodingError, match="no token '</s>'"):
        separator_id(changed, Encoder(tokenizer_folder))
    undeclared = corpus.model_copy(
        update={
            "row": corpus.row.model_copy(update={"separator": None}),
            "tokenizer": Tokenizer(path="x", special_ids=SpecialIds(eos=5)),
        }
    )
    assert separator_id(undeclared, Encoder(tokenizer_folder)) == 5
