"""Hypothesis strategies for the models of the schema: valid objects in all their variety."""

from __future__ import annotations

import datetime
from typing import Any

from hypothesis import strategies as st

from open360.schema.corpus import (
    Corpus,
    DataRepository,
    FileSet,
    HeldOut,
    HubPin,
    PinnedFile,
    Processing,
    RowFormat,
    Source,
    SpecialIds,
    Tokenizer,
)
from open360.schema.manifest import (
    CheckpointRecord,
    ChunkRecord,
    CorpusRecord,
    FileRecord,
    Manifest,
    Publication,
    PublishedRelease,
    RunRecord,
    SourceRecord,
    StageCode,
    TensorDigests,
)
from open360.schema.model import StepFunction
from open360.schema.order import ChunkOrder, FileOrder, FunctionOrder, MaterializedOrder, UnknownOrder
from open360.schema.run import (
    HubRepositories,
    LearningRate,
    Merge,
    Optimizer,
    ParameterGroup,
    Parent,
    Preference,
    Restart,
    Run,
    RunVariant,
    StepSpan,
)
from open360.schema.series import OtherStorage, Series, StepLabel, StepRange, TokenLabel
from open360.schema.spec import Code, Evaluation, Licenses, Link, Person, ReleaseSpec, Waiver

# Words that a reader of YAML takes for something else.
TRAPS = (
    "no", "yes", "on", "off", "true", "null", "~", "", "008", "0o17", "0x1F", "12:30", "3e-4", "1_000", "1.", ".5",
    ".inf", ".nan", "-", "- x", "a: b", "#x", " x", "x ", "{x", "[x", "&x", "*x", "!x", "|", ">", "%x", "@x", "`x",
    "'x'", '"x"', "a\nb", "a\tb", "a\r\nb", "\u2028", "\x85", "\ufeff", "é", "日本", "2024-01-01", "=", "<<", "?", "\\",
)  # fmt: skip

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
texts = st.one_of(st.sampled_from(TRAPS), st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12))
names = st.one_of(
    st.sampled_from(["no", "008", "1e5", "0x1F", "null", "true", "1", "1.5", "y"]),
    st.builds(str.__add__, st.sampled_from(ALPHABET[:-3]), st.text(ALPHABET, max_size=8)),
)
parts = st.text(ALPHABET + "é ", min_size=1, max_size=6).filter(lambda part: part not in (".", ".."))
revisions = names.filter(lambda name: ".." not in name and not name.endswith((".", ".lock")))
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)
sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
commits = st.text("0123456789abcdef", min_size=40, max_size=40)
repos = st.builds("{}/{}".format, names, names)
urls = st.text("abcdef0123./?=&#%", min_size=1, max_size=12).map("https://{}".format)
counts = st.integers(0, 1 << 62)
positives = st.integers(1, 1 << 62)
rates = st.floats(1e-12, 1.0, allow_nan=False)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or None."""
    return st.none() | strategy


def tuples(strategy: st.SearchStrategy[Any], limit: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    """A short tuple of values."""
    return st.lists(strategy, max_size=limit).map(tuple)


def step_functions(values: st.SearchStrategy[Any], kind: type[Any] = int) -> st.SearchStrategy[Any]:
    """A value by step."""
    steps = st.lists(st.integers(1, 400), unique=True, max_size=3).map(lambda found: [0, *sorted(found)])
    pairs = steps.flatmap(lambda found: st.tuples(*[st.tuples(st.just(step), values) for step in found]))
    return pairs.map(StepFunction[kind].model_validate)  # type: ignore[valid-type]


sources = st.one_of(
    st.builds(
        Source,
        name=names,
        pypi=st.just("django==5.2.8"),
        sha256=sha256s,
        include=tuples(texts),
        exclude=tuples(texts),
        domain=maybe(names),
        license=maybe(st.sampled_from(["MIT", "Apache-2.0 OR MIT", "CC-BY-4.0"])),
        epochs=positives,
        description=maybe(texts),
    ),
    st.builds(Source, name=names, http=urls, tokens=maybe(counts), documents=maybe(counts), weight=maybe(rates)),
    st.builds(Source, name=names, hub=st.builds(HubPin, repo=repos, revision=maybe(commits), config=maybe(texts))),
    st.builds(Source, name=names, local=paths, evidence=maybe(texts)),
)
tokenizers = st.one_of(
    st.builds(Tokenizer, train=st.just("byte_level_bpe"), vocabulary=maybe(positives)),
    st.builds(Tokenizer, hub=repos, revision=maybe(commits), special_ids=st.builds(SpecialIds, eos=maybe(counts))),
    st.builds(Tokenizer, path=paths, files=tuples(st.builds(PinnedFile, path=paths, sha256=sha256s))),
)
file_sets = st.builds(
    FileSet,
    pattern=st.sampled_from(["data-{index:05d}.bin", "part_{index}.jsonl", "whole"]),
    first=st.integers(0, 9),
    stride=st.integers(1, 3),
    count=maybe(st.integers(1, 99)),
    rows=maybe(positives),
    bytes=maybe(positives),
    last_bytes=maybe(positives),
)


@st.composite
def row_formats(draw: st.DrawFn) -> RowFormat:
    """Rows of `seq_len` or `seq_len + 1` ids."""
    seq_len = draw(st.integers(1, 1 << 20))
    return RowFormat(
        row_len=seq_len + draw(st.integers(0, 1)),
        seq_len=seq_len,
        dtype=draw(st.sampled_from(["uint16", "uint32", "int32", "json"])),
        separator=draw(maybe(texts)),
    )


corpora = st.builds(
    Corpus,
    name=names,
    sources=st.lists(sources, max_size=3, unique_by=lambda source: source.name).map(tuple),
    processing=tuples(st.builds(Processing, name=names, seed=maybe(st.integers(-(1 << 62), 1 << 62)))),
    deduplicate=maybe(st.sampled_from(["exact", "none"])),
    held_out=maybe(st.builds(HeldOut, fraction=maybe(rates), documents=maybe(counts))),
    seed=maybe(st.integers(0, 1 << 62)),
    tokenizer=maybe(tokenizers),
    row=maybe(row_formats()),
    counting=st.sampled_from(["ids", "trained"]),
    files=maybe(file_sets),
    repository=maybe(st.builds(DataRepository, dataset=maybe(repos), url=maybe(urls), revision=maybe(commits))),
)

orders = st.one_of(
    st.builds(MaterializedOrder, kind=st.just("materialized"), first_row=counts),
    st.builds(UnknownOrder, kind=st.just("unknown"), reason=st.just("nobody wrote it down")),
    st.builds(
        FunctionOrder,
        kind=st.just("function"),
        algorithm=st.sampled_from(["numpy-pcg64-shuffle", "nanoset"]),
        seed=maybe(counts),
        epoch_base=st.sampled_from([0, 1]),
        chunk_rows=positives,
    ),
)


@st.composite
def learning_rates(draw: st.DrawFn) -> LearningRate:
    """Any schedule, in steps or in tokens."""
    peak = draw(rates)
    warmup = draw(st.integers(0, 50))
    length = draw(st.integers(1, 400))
    kinds: list[Any] = ["cosine", "linear", "constant", "wsd", "inverse_sqrt"]
    kind = draw(st.sampled_from(kinds))
    return LearningRate(
        type=kind,
        unit=draw(st.sampled_from(["steps", "tokens"])),
        peak=peak,
        end=peak * draw(st.floats(0, 1)),
        start=peak * draw(st.floats(0, 1)),
        warmup=warmup,
        counted_from=draw(st.sampled_from([None, 0, 1])),
        horizon=warmup + length,
        decay=draw(st.integers(1, length)) if kind == "wsd" else None,
    )


@st.composite
def serieses(draw: st.DrawFn, steps: int) -> Series:
    """A series of a run of `steps` steps; its names differ by index or step."""
    name = draw(st.sampled_from(["ckpt_{index:03d}", "step{step}", "s{step:07d}-t{tokens}B", "{index}"]))
    common: dict[str, Any] = {
        "name": name,
        "initial": draw(st.sampled_from([None, "init", "no"])),
        "first_index": draw(st.integers(0, 2)),
        "final": draw(st.booleans()),
        "tokens": draw(
            st.builds(
                TokenLabel,
                per=st.integers(1, 10**9),
                round=st.sampled_from(["floor", "ceil", "nearest"]),
                nominal=maybe(step_functions(st.integers(1, 10**7))),
            )
        ),
        "step_label": draw(st.builds(StepLabel, plus=st.integers(0, 99), times=st.integers(1, 3))),
        "optimizer": draw(st.sampled_from(["always", "final", "never", "unknown"])),
        "stored_otherwise": draw(
            tuples(st.builds(OtherStorage, checkpoints=st.tuples(names), dtype=st.just("bfloat16")))
        ),
    }
    if draw(st.booleans()):
        return Series(every=draw(st.integers(1, steps + 3)), **common)
    first = draw(st.integers(0, steps))
    last = draw(st.integers(first, steps))
    single = draw(st.integers(0, steps))
    return Series(at=(single, StepRange(first=first, last=last, every=draw(st.integers(1, 9)))), **common)


@st.composite
def runs(draw: st.DrawFn, name: str, corpus: str | None, parent: Parent | None) -> Run:
    """A run that may have everything."""
    steps = draw(st.integers(1, 120))
    objectives: list[Any] = ["pretrain", "sft", "dpo"]
    objective = draw(st.sampled_from(objectives))
    return Run(
        name=name,
        objective=objective,
        parent=parent,
        corpus=corpus,
        architecture=draw(st.dictionaries(names, st.one_of(st.integers(-9, 9), texts, st.booleans()), max_size=3)),
        optimizer=draw(
            maybe(
                st.builds(
                    Optimizer,
                    type=st.sampled_from(["adamw", "muon"]),
                    betas=st.tuples(rates, rates),
                    epsilon=rates,
                    clip=maybe(rates),
                    groups=tuples(st.builds(ParameterGroup, match=texts, learning_rate=maybe(rates))),
                )
            )
        ),
        schedule=draw(maybe(learning_rates())),
        preference=draw(maybe(st.builds(Preference, beta=rates))) if objective == "dpo" else None,
        batch=draw(maybe(step_functions(st.integers(1, 64)))),
        seq_len=draw(maybe(st.integers(1, 4096))),
        steps=steps,
        precision=draw(maybe(step_functions(st.sampled_from(["float32", "bfloat16-mixed"]), str))),
        seed=draw(maybe(st.integers(-5, 1 << 62))),
        determinism=draw(st.sampled_from([None, "portable", "machine", "tolerance"])),
        order=draw(orders),
        series=draw(maybe(serieses(steps))),
        restarts=draw(tuples(st.builds(Restart, at=counts, restored=counts))),
        skipped=draw(tuples(st.just(StepSpan(first=0, last=steps - 1, reason="a spike")))),
        hub=draw(st.builds(HubRepositories, model=maybe(repos), aliases=tuples(repos))),
        logs=draw(tuples(texts)),
    )


@st.composite
def specs(draw: st.DrawFn) -> ReleaseSpec:
    """A whole spec: corpora, a tree of runs, variants, a merge."""
    found = draw(st.lists(corpora, max_size=2, unique_by=lambda corpus: corpus.name))
    run_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    tree: list[Run] = []
    for name in run_names[:3]:
        parent = None
        starts_elsewhere = draw(st.booleans())
        if tree and starts_elsewhere:
            above = draw(st.sampled_from(tree))
            parent = draw(
                st.sampled_from([Parent(run=above.name, step=above.steps), Parent(run=above.name, final=True)])
            )
        corpus = draw(st.sampled_from([None, *(corpus.name for corpus in found)]))
        tree.append(draw(runs(name, corpus, parent)))
    if draw(st.booleans()) and len(tree) == 1:
        variants = (RunVariant(name=tree[0].name, seed=1), RunVariant(name=f"{tree[0].name}-2", seed=2))
        tree = [Run.model_validate({**dict(tree[0]), "variants": variants})]
    merges: tuple[Merge, ...] = ()
    if len(tree) > 1 and len(run_names) > len(tree):
        ends = tuple(Parent(run=run.name, final=True) for run in tree)
        merges = (Merge(name=run_names[-1], of=ends),)
    return ReleaseSpec(
        open360=1,
        name=draw(names),
        version=draw(st.sampled_from(["0.0.0", "1.2.3", "1.0.0-rc.1+b"])),
        date=draw(maybe(st.dates(datetime.date(1980, 1, 1), datetime.date(2100, 1, 1)))),
        description=draw(maybe(texts)),
        aliases=draw(tuples(texts)),
        authors=draw(tuples(st.builds(Person, name=texts.filter(bool), email=maybe(texts)))),
        licenses=draw(st.builds(Licenses, weights=maybe(st.just("MIT")))),
        links=draw(tuples(st.builds(Link, name=texts, url=urls))),
        code=draw(tuples(st.builds(Code, entry=maybe(texts), lock=maybe(paths), dirty=maybe(st.booleans())))),
        corpora=tuple(found),
        runs=tuple(tree),
        merges=merges,
        evaluations=draw(
            tuples(st.builds(Evaluation, task=texts.filter(bool), metrics=st.tuples(texts), shots=st.integers(0, 5)))
        ),
        waivers=draw(tuples(st.builds(Waiver, rule=st.just("ABC123"), reason=st.just("we know and accept")))),
        unconfirmed=draw(tuples(texts)),
    )


def _publications(form: str) -> st.SearchStrategy[Publication | None]:
    found = st.builds(
        Publication, repo=repos, repo_type=st.sampled_from(["model", "dataset"]), revision=revisions, commit=commits
    )
    return found if form == "published" else st.none()


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """A manifest of one run, built or published, with fields that this version does not know."""
    form = draw(st.sampled_from(["built", "published"]))
    files = draw(st.lists(st.builds(FileRecord, path=paths, bytes=st.integers(0, 1 << 50), sha256=sha256s), max_size=3))
    taken: set[str] = set()
    apart = [f for f in files if not (f.path in taken or taken.add(f.path) or f.path.startswith(("c/", "k/")))]  # type: ignore[func-returns-value]
    chunk = ChunkRecord(
        name="chunk_000",
        file=FileRecord(path="c/chunk.parquet", bytes=1, sha256=draw(sha256s)),
        step_table=FileRecord(path="c/steps.parquet", bytes=1, sha256=draw(sha256s)),
        first_step=0,
        end_step=draw(positives),
        first_row=0,
        end_row=draw(positives),
        row_len=draw(positives),
        rows_sha256=draw(sha256s),
        published=draw(_publications(form)),
    )
    checkpoint = CheckpointRecord(
        name=draw(names),
        step=draw(counts),
        tokens=draw(counts),
        learning_rate=draw(maybe(rates)),
        parent=draw(maybe(names)),
        chunk=draw(maybe(names)),
        first_row=draw(counts),
        end_row=draw(counts),
        holds=draw(tuples(st.sampled_from(["weights", "optimizer", "rng", "position"]))),
        folder="k/checkpoint",
        files=(FileRecord(path="model.safetensors", bytes=draw(counts) % (1 << 50), sha256=draw(sha256s)),),
        tensors=TensorDigests(weights=draw(sha256s), optimizer=draw(maybe(sha256s))),
        metrics=draw(st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=3)),
        published=draw(_publications(form)),
    )
    published = PublishedRelease(
        code_commit=draw(maybe(commits)),
        code_swhid=None,
        dirty=draw(maybe(st.booleans())),
        primary=draw(repos),
        tag=draw(revisions),
        repositories=(),
    )
    known = Manifest(
        open360=1,
        form=form,  # type: ignore[arg-type]
        name=draw(names),
        version="1.0.0",
        spec_sha256=draw(sha256s),
        environment_sha256=draw(maybe(sha256s)),
        code=draw(tuples(st.builds(StageCode, stage=names, sha256=sha256s))),
        corpora=(
            CorpusRecord(
                name=draw(names),
                sources=(
                    SourceRecord(name=draw(names), documents=1, duplicates=0, held_out=0, bytes=9, tokens=draw(counts)),
                ),
                documents=1,
                duplicates=0,
                held_out=0,
                tokens=draw(counts),
                tokenizer_sha256=draw(sha256s),
            ),
        ),
        runs=(
            RunRecord(name=draw(names), corpus=None, chunks=(chunk,), checkpoints=(checkpoint,), tokens=draw(counts)),
        ),
        files=tuple(apart),
        published=published if form == "published" else None,
    )
    extra = draw(st.dictionaries(st.just("from_a_newer_writer"), st.one_of(texts, counts, st.lists(texts)), max_size=1))
    return Manifest.model_validate({**known.model_dump(exclude_unset=True), **extra}) if extra else known


chunk_orders = st.builds(
    ChunkOrder,
    kind=st.just("chunk"),
    chunks=st.lists(st.integers(0, 50).flatmap(lambda a: st.tuples(st.just(a), st.integers(a, a + 9))), min_size=1).map(
        tuple
    ),
    rows_used=st.integers(1, 99),
    within=st.just(FileOrder(kind="file")),
)
