"""The tokenizer of a release, to read its rows by: as pinned, and compared with what the release says of it."""

from __future__ import annotations

import hashlib

from open360.release.foreign_target import MAIN, ForeignTarget
from open360.release.hub_errors import HubAuthError, HubNotFoundError
from open360.release.hub_objects import Repo
from open360.release.row_text import MAX_TOKENIZER_BYTES, Decoder, TokenizerError
from open360.release.survey import Survey
from open360.release.targets import Target
from open360.schema.corpus import Corpus
from open360.schema.errors import IntegrityError
from open360.schema.layout import corpus_folder
from open360.schema.manifest import Manifest
from open360.schema.run import Run

TOKENIZER = "tokenizer.json"


def tokenizer_of_foreign(target: ForeignTarget, run: Run, corpus: Corpus) -> Decoder:
    """The tokenizer that the spec names, at its commit (of `main` where none is pinned); else that of the weights.

    Raises TokenizerError when there is none, IntegrityError when it is not the pinned one, HubError.
    """
    looked: list[str] = []
    stated = corpus.tokenizer
    places: list[tuple[str, str | None]] = []
    if stated is not None and stated.hub is not None:
        places.append((stated.hub, stated.revision))
    if run.hub.model is not None:
        places.append((run.hub.model, None))
    for repo_id, revision in places:
        repo = Repo(id=repo_id, type="model")
        try:
            commit = revision if revision is not None else target.survey.hub.commit_of(repo, MAIN)
            data = _read(target.survey, repo, commit)
        except (HubNotFoundError, HubAuthError) as error:
            looked.append(f"{repo_id} ({str(error)[:120]})")
            continue
        pinned = {file.path: file.sha256 for file in stated.files} if stated is not None else {}
        found = hashlib.sha256(data).hexdigest()
        if stated is not None and repo_id == stated.hub and found != pinned.get(TOKENIZER, found):
            raise IntegrityError(f"{repo_id}, {TOKENIZER}", pinned[TOKENIZER], found, "correct the spec")
        return Decoder(f"{repo_id}@{commit[:12]}/{TOKENIZER}", data)
    raise TokenizerError(
        f"corpus '{corpus.name}': expected a {TOKENIZER} to read its rows by, found none in "
        f"{'; '.join(looked) or 'any repository that the spec names'}; choose another --as"
    )


def _read(survey: Survey, repo: Repo, commit: str) -> bytes:
    return survey.read_at(repo, commit, TOKENIZER, MAX_TOKENIZER_BYTES)


def tokenizer_of_own(target: Target, manifest: Manifest, corpus: str) -> Decoder:
    """The tokenizer of a corpus of a release of ours, compared with the manifest.

    Raises TokenizerError, IntegrityError, TargetError, HubError.
    """
    path = f"{corpus_folder(corpus)}/tokenizer/{TOKENIZER}"
    record = next((file for file in manifest.files if file.path == path), None)
    if record is None:
        raise TokenizerError(
            f"{target.label}: expected a file '{path}' to read rows by, found none; choose another --as"
        )
    data = target.read(path, MAX_TOKENIZER_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise IntegrityError(f"{target.label}/{path}", f"sha256 {record.sha256}", found, "see 'open360 validate'")
    return Decoder(path, data)
