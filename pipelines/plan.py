"""Write `segments.json` and `code.json`, which `dvc.yaml` reads: `python -P -m open360.pipelines.plan`.

`segments.json` is the table that DVC loops over, with `prev` pointers, and the digest of the slice of the spec that
each stage reads: a stage runs again when its slice changes, and only then. Both files are committed; a stage refuses
to run when they are stale.
"""

from __future__ import annotations

import hashlib
import posixpath
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from open360.pipelines.code_digests import StaleCodeError, check_environment, code_digest, code_digests
from open360.schema.atomic import write_bytes
from open360.schema.corpus import Corpus
from open360.schema.errors import IntegrityError, Open360Error, SpecError
from open360.schema.layout import CODE_FILE, SEGMENTS_FILE, SPEC_FILE, chunk_name, corpus_folder, run_folder
from open360.schema.run import Run
from open360.schema.schedule import checkpoints, segments
from open360.schema.serialization import canonical_json, load_spec, parse_json
from open360.schema.spec import ReleaseSpec
from open360.trainer.recipe import parent_folder
from open360.trainer.slices import slice_digest

NOTHING_LOCAL = ".dvcignore"


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _corpus_slices(corpus: Corpus) -> dict[str, str]:
    """What each stage of data preparation reads of a corpus."""
    plain = corpus.model_dump(mode="json", exclude_defaults=True)
    origin = ("name", "pypi", "http", "hub", "local", "sha256")
    taken = (*origin, "include", "exclude")
    sources = plain.get("sources", [])
    return {
        "watch": _local_folder(corpus),
        "sources": _digest([{key: s[key] for key in origin if key in s} for s in sources]),
        "documents": _digest(
            [
                [{key: s[key] for key in taken if key in s} for s in sources],
                [plain.get(key) for key in ("deduplicate", "held_out", "seed")],
            ]
        ),
        "tokenizer": _digest([plain.get("tokenizer"), plain.get("row", {}).get("separator")]),
        "order": _digest([[(s["name"], s.get("epochs", 1)) for s in sources], plain.get("seed"), plain.get("row")]),
    }


def segments_table(spec: ReleaseSpec) -> dict[str, Any]:
    """The content of `segments.json`. Raises Open360Error when a run cannot be built as it is declared."""
    table: dict[str, Any] = {"corpora": {}, "runs": {}, "segments": {}, "checkpoints": {}}
    for corpus in spec.corpora:
        table["corpora"][corpus.name] = _corpus_slices(corpus)
    names = Counter(plan.name for run in spec.all_runs() for plan in checkpoints(run, spec.corpus_of(run)))
    for run in spec.all_runs():
        _add_run(table, spec, run, names)
    return table


def _add_run(table: dict[str, Any], spec: ReleaseSpec, run: Run, names: Counter[str]) -> None:
    if run.corpus is None or run.series is None or run.series.initial is None:
        raise Open360Error(
            f"{SPEC_FILE}: run '{run.name}' needs a 'corpus' and a 'series' with an 'initial' checkpoint to be built"
        )
    corpus = spec.corpus(run.corpus)
    plain = run.model_dump(mode="json", exclude_defaults=True)
    fresh = f"{corpus_folder(corpus.name)}/tokenizer/tokenizer_config.json"
    table["runs"][run.name] = {
        "corpus": corpus.name,
        "start": parent_folder(spec, run, run.parent) if run.parent is not None else fresh,
        "initial": run.series.initial,
        "training": slice_digest(spec, run, 0),
        "packing": _digest([plain.get(key) for key in ("steps", "batch", "seq_len", "order", "series")]),
    }
    for segment in segments(run, corpus):
        table["segments"][_key(names, run.name, segment.name)] = {
            "run": run.name,
            "corpus": corpus.name,
            "checkpoint": segment.name,
            "prev": segment.parent,
            "chunk": chunk_name(segment.index),
            "training": slice_digest(spec, run, segment.end_step),
            "steps": [segment.first_step, segment.end_step],
        }
    evaluation = _evaluation_slice(run, corpus)
    for plan in checkpoints(run, corpus):
        table["checkpoints"][_key(names, run.name, plan.name)] = {
            "run": run.name,
            "corpus": corpus.name,
            "checkpoint": plan.name,
            "evaluation": evaluation,
        }


def _local_folder(corpus: Corpus) -> str:
    """The folder with all local sources of a corpus, for DVC to watch; `.dvcignore`, which is always there, if none."""
    paths = [source.local for source in corpus.sources if source.local is not None]
    folder = posixpath.commonpath(paths) if paths else NOTHING_LOCAL
    if not folder:
        raise Open360Error(
            f"{SPEC_FILE}: the local sources of corpus '{corpus.name}' ({', '.join(paths)}) have no folder in common; "
            "move them into one, so that DVC can watch it"
        )
    return folder


def _evaluation_slice(run: Run, corpus: Corpus) -> str:
    """Digest of what an evaluation reads of the spec besides the checkpoint and the documents."""
    plain = corpus.model_dump(mode="json", exclude_defaults=True)
    domains = [(source.name, source.domain) for source in corpus.sources]
    return _digest([domains, plain.get("row"), plain.get("tokenizer"), run.seq_len, run.determinism])


def _key(names: Counter[str], run: str, checkpoint: str) -> str:
    """A checkpoint's name as a stage name: with its run where the name alone would be ambiguous."""
    return checkpoint if names[checkpoint] == 1 else f"{run}.{checkpoint}"


def lock_text(spec: ReleaseSpec, root: Path) -> str:
    """Text of the environment lock that the spec names; empty when it names none."""
    for code in spec.code:
        if code.lock is not None and (root / code.lock).is_file():
            return (root / code.lock).read_text()
    return ""


def check_fresh(spec: ReleaseSpec, root: Path, stage: str) -> None:
    """Raise when the committed tables do not describe the spec and the code of `stage`."""
    found = parse_json((root / SEGMENTS_FILE).read_bytes(), SEGMENTS_FILE)
    if found != segments_table(spec):
        raise IntegrityError(
            SEGMENTS_FILE,
            f"the table of {SPEC_FILE} as it is",
            "another one",
            "run 'python -P -m open360.pipelines.plan', then 'dvc repro' again",
        )
    lock = lock_text(spec, root)
    check_environment(stage, lock)
    written = parse_json((root / CODE_FILE).read_bytes(), CODE_FILE)
    if written.get(stage) != code_digest(stage, lock):
        raise StaleCodeError(CODE_FILE, [stage])


def main(root: Path) -> None:
    """Write both tables into the release folder `root`."""
    spec = load_spec((root / SPEC_FILE).read_bytes(), SPEC_FILE)
    write_bytes(root / SEGMENTS_FILE, canonical_json(segments_table(spec)))
    write_bytes(root / CODE_FILE, canonical_json(code_digests(lock_text(spec, root))))
    for path in left_over(spec, root):
        sys.stderr.write(f"left over from an earlier spec: {path}; remove it with 'rm -r {path}'\n")
    sys.stderr.write(f"wrote {SEGMENTS_FILE} and {CODE_FILE}; next: dvc repro\n")


def left_over(spec: ReleaseSpec, root: Path) -> list[str]:
    """Outputs in the folders of runs that belong to no checkpoint of the spec any more."""
    found: list[str] = []
    for run in spec.all_runs():
        names = {plan.name for plan in checkpoints(run, spec.corpus_of(run))}
        for part in ("checkpoints", "traces", "evaluations"):
            paths = (root / run_folder(run.name) / part).glob("[!.]*")
            strange = [path for path in paths if path.name.split(".json")[0] not in names]
            found += sorted(path.relative_to(root).as_posix() for path in strange)
    return found


if __name__ == "__main__":
    try:
        main(Path.cwd())
    except SpecError as error:
        sys.exit(f"{error}")
    except (Open360Error, OSError) as error:
        sys.exit(f"error: {error}")
