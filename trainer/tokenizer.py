"""The tokenizer of a corpus, as training and evaluation need it: read, measured, copied into checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from open360.schema.errors import IntegrityError
from open360.trainer.errors import MissingInputError, UntrainableRunError
from open360.trainer.recipe import Recipe

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    TOKENIZER_FILE,
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)


def read_tokenizer(folder: Path, recipe: Recipe) -> Any:
    """The `tokenizers.Tokenizer` of `folder`.

    Raises:
        MissingInputError, IntegrityError: there is none, or it cannot be read.
        UntrainableRunError: it gives ids that the model does not embed.
    """
    from tokenizers import Tokenizer

    label = _label(folder)
    if not (folder / TOKENIZER_FILE).is_file():
        raise MissingInputError(label, "the tokenizer of the corpus")
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:
        # The library raises plain Exception for a file that it cannot read.
        if type(error) is not Exception:
            raise
        raise IntegrityError(label, "a tokenizer", f"{error}"[:200], "build or fetch the tokenizer again") from error
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= recipe.vocabulary:
        problem = f"vocab_size {recipe.vocabulary} does not cover its tokenizer, whose largest id is {largest}"
        raise UntrainableRunError(recipe.run.name, (problem,))
    return tokenizer


def copy_tokenizer(folder: Path, target: Path) -> None:
    """Copy the tokenizer's files into `target`. Raises MissingInputError."""
    if not (folder / TOKENIZER_FILE).is_file():
        raise MissingInputError(_label(folder), "the tokenizer of the corpus")
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def _label(folder: Path) -> str:
    return "/".join((*folder.parts[-3:], TOKENIZER_FILE))
