"""Drafts: a spec for a release that nobody has described yet, guessed from what the Hub shows of its repository.

Nothing of it is believed: names, cards and configurations of a repository are bounded, and what the grammar of the spec
does not take is left out. A person finishes the draft.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice, pairwise
from typing import Any

from pydantic import TypeAdapter, ValidationError

from open360.release.evidence.card_facts import MAX_CARD_BYTES, architecture_of, front_matter, spdx_of, words
from open360.release.foreign_target import GUESS, MAIN, ForeignSpec
from open360.release.hub_errors import HubError
from open360.release.hub_objects import Repo
from open360.release.revision_names import NamedSeries, compressed, group_names
from open360.release.rules.storage import all_weight_files
from open360.release.survey import ListedRevision, Survey
from open360.release.targets import TargetError
from open360.schema.corpus import Corpus, DataRepository, HubPin, Source
from open360.schema.errors import SpecError
from open360.schema.names import GitCommit, Name, RepoId, Revision
from open360.schema.order import UnknownOrder
from open360.schema.run import HubRepositories, Run
from open360.schema.serialization import dump_yaml, parse_json
from open360.schema.series import Series, StepLabel, TokenLabel
from open360.schema.spec import Licenses, Link, ReleaseSpec

ORIGIN = "a guess from the repository's refs, files and card"
MAX_REVISIONS = 10_000
MAX_RUNS = 100
MAX_CONFIG_BYTES = 1 << 20
MAX_DATA_REPOS = 8
HEADER = """\
# A draft: a guess from the refs, files and card of {repo}. Check every line, then fill in
#   runs[].batch, seq_len, steps   rows a step, predicted ids a row, last step: tokens follow from these three
#   runs[].order                   how a step maps to rows: materialized, chunk, permutation-file, function
#   runs[].parent                  the checkpoint that a later stage starts from
#   runs[].optimizer, schedule, precision, seed
#   corpora, code, licenses        sources with their revisions, code with its commit, SPDX ids
# and strike the lines of 'unconfirmed' that you have confirmed (the key, too, with the last of them).
# 'open360 validate {repo} --spec FILE' judges the repository by this file.
"""


def draft_spec(survey: Survey, repo: Repo) -> ForeignSpec:
    """A spec guessed from a model repository: its series, storage, architecture, licence and data.

    Raises:
        TargetError: there is no such repository, or it holds neither weights nor a configuration of a model.
        HubError: the Hub does not answer.
    """
    refs = survey.refs(repo)
    if refs is None:
        raise TargetError(
            f"{repo.id}: expected a model repository on the Hub, found none; "
            "check the name, or HF_TOKEN if it is private"
        )
    found = _Repository(survey, repo, {**refs.tags, **refs.branches})
    if not any(weights_of(listed) or "config.json" in listed.files for listed in found.listed.values()):
        raise TargetError(
            f"{repo.id}: expected weights or a config.json on one of its {len(found.listed)} revisions, found none: "
            "there is no model to draft a spec for; describe it in a spec of your own and give it with --spec"
        )
    spec = _spec(found)
    data = HEADER.format(repo=repo.id).encode() + dump_yaml(spec)
    return ForeignSpec(origin=ORIGIN, path="draft.yaml", data=data, spec=spec, is_guess=True)


def weights_of(listed: ListedRevision) -> dict[str, str]:
    """Files at the top of a revision that hold weights, with what tells their content."""
    return {
        path: listed.files[path].sha256 or listed.files[path].git_id or "" for path in all_weight_files(listed.files)
    }


@dataclass(frozen=True)
class _Repository:
    """A repository and what was looked at in it."""

    survey: Survey
    repo: Repo
    refs: Mapping[str, str]

    @cached_property
    def listed(self) -> dict[str, ListedRevision]:
        """Revisions with names that the grammar takes, as a spec may call them, `main` included; so many at most."""
        usable = {r: _as_name(r) for r in sorted(self.refs) if is_a(Revision, r) and is_a(GitCommit, self.refs[r])}
        counts = Counter(usable.values())
        kept = [r for r, name in usable.items() if name is not None and counts[name] == 1]
        kept.sort(key=lambda r: r != MAIN)
        there = self.survey.revisions((self.repo, r) for r in kept[:MAX_REVISIONS])
        return {str(usable[r]): found for (_, r), found in there.items() if found is not None}

    @cached_property
    def best(self) -> ListedRevision | None:
        """The revision whose card and configuration speak for all."""
        with_config = (found for found in self.listed.values() if "config.json" in found.files)
        return self.listed.get(MAIN) or next(with_config, None)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the model, as far as it can be read."""
        for listed in self.listed.values():
            if "config.json" in listed.files:
                data = self.read(listed, "config.json", MAX_CONFIG_BYTES)
                try:
                    plain = parse_json(data, "config.json", MAX_CONFIG_BYTES) if data is not None else None
                except SpecError:
                    plain = None
                return plain if isinstance(plain, dict) else {}
        return {}

    @cached_property
    def card(self) -> dict[str, Any]:
        """The front matter of the card, as far as it can be read."""
        return front_matter(self.read(self.best, "README.md", MAX_CARD_BYTES) or b"") if self.best is not None else {}

    def read(self, listed: ListedRevision, path: str, limit: int) -> bytes | None:
        """A small file; None when it is not there or too large."""
        if path not in listed.files or listed.files[path].bytes > limit:
            return None
        try:
            return self.survey.read(listed, path, limit)
        except HubError:
            return None


@cache
def _grammar(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def is_a(kind: Any, value: object) -> bool:
    """Whether the grammar of the spec takes a value as `kind`."""
    try:
        _grammar(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _as_name(revision: str) -> str | None:
    name = re.sub(r"[/+]", "-", revision)
    return name if is_a(Name, name) else None


def _spec(found: _Repository) -> ReleaseSpec:
    series, rest = group_names(name for name in found.listed if name != MAIN)
    with_weights = [s for s in series if any(weights_of(found.listed[n]) for n in (*s.steps, *s.named))]
    for one in sorted(with_weights, key=lambda s: -len(s.steps) - len(s.named))[MAX_RUNS:]:
        with_weights.remove(one)
        rest += [*one.steps, *one.named]
    unplaced = [name for name in sorted(rest) if weights_of(found.listed[name])]
    corpora = tuple(_corpora(found))
    runs = tuple(_runs(found, with_weights, unplaced, corpora[0].name if corpora else None))
    licence = spdx_of(found.card.get("license"))
    left_out = len(found.refs) - len(found.listed)
    return ReleaseSpec(
        open360=1,
        name=found.repo.id.split("/")[1],
        aliases=(found.repo.id,),
        licenses=Licenses(weights=licence),
        corpora=corpora,
        runs=runs,
        facts_from=(Link(name=ORIGIN, url=f"{found.survey.hub.endpoint}/{found.repo.id}"),),
        unconfirmed=tuple(_unconfirmed(with_weights, left_out, found.card)),
    )


def _unconfirmed(series: Iterable[NamedSeries], left_out: int, card: Mapping[str, Any]) -> Iterator[str]:
    yield GUESS
    for one in series:
        holes = _holes(sorted(one.steps.values()))
        if holes:
            shown = ", ".join(str(step) for step in holes[:20])
            yield f"whether '{one.pattern}' has holes: steps {shown} would make it regular, and are not there"
        distances = {b - a for a, b in zip(sorted(one.steps.values()), sorted(one.steps.values())[1:], strict=False)}
        if len(one.steps) > 2 and distances == {1}:
            yield f"whether the numbers in '{one.pattern}' are steps: they may count checkpoints or chunks of data"
        if one.tokens.nominal is not None:
            rate = one.tokens.nominal.at(0)
            yield f"{rate} tokens a step in '{one.pattern}': batch x seq_len fits the names at this rate"
    if left_out:
        yield f"{left_out} further revisions were left out: too many, or of names that a spec does not take"
    spoken = [word for word in words(card.get("language")) if re.fullmatch(r"[A-Za-z-]{2,12}", word)]
    if spoken:
        yield f"languages, by the card: {', '.join(spoken[:50])}"


def _holes(steps: list[int]) -> list[int]:
    """Steps that are missing in what is otherwise a regular series: at most a fifth of it."""
    distances = [b - a for a, b in pairwise(steps)]
    usual, count = Counter(distances).most_common(1)[0] if distances else (0, 0)
    if count < 2 or any(distance % usual for distance in distances):
        return []
    missing = (step for a, b in pairwise(steps) for step in range(a + usual, b, usual))
    found = list(islice(missing, len(steps)))
    return found if len(found) <= max(len(steps) // 5, 1) else []


def _runs(found: _Repository, series: list[NamedSeries], unplaced: list[str], corpus: str | None) -> Iterator[Run]:
    """One run for each series, or a single one. Checkpoints whose step is not known go to the first."""
    placed = {name: step for one in series for name, step in {**one.steps, **one.named}.items()}
    aliases = dict(_aliases(found, placed, unplaced))
    left = [name for name in unplaced if found.listed[name].revision not in aliases]
    if MAIN in found.listed and MAIN not in aliases and weights_of(found.listed[MAIN]):
        left.append(MAIN)
    groups: list[NamedSeries | None] = [*series] or [None]
    config = found.config
    for number, one in enumerate(groups):
        names = [*one.steps, *one.named] if one is not None else []
        extra = left if number == 0 else []
        ours = {revision: name for revision, name in aliases.items() if name in names}
        yield Run(
            name=one.run if one is not None else "pretrain",
            objective="pretrain",
            corpus=corpus,
            architecture=architecture_of(config),
            custom_code="auto_map" in config,
            order=UnknownOrder(kind="unknown", reason="a guess: no file of the repository says how steps map to data"),
            series=_series(found, one, extra, ours) if names or extra else None,
            hub=HubRepositories(model=found.repo.id),
        )


def _series(found: _Repository, one: NamedSeries | None, unplaced: list[str], aliases: dict[str, str]) -> Series:
    placed = {**one.steps, **one.named} if one is not None else {}
    every = [*sorted(placed, key=lambda name: placed[name]), *unplaced]
    formats = Counter(_format(found.listed[name]) for name in every)
    formats.pop(None, None)
    return Series(
        evidence=f"a guess from the names of {len(every)} revisions",
        name=one.pattern if one is not None else "",
        at=compressed(one.steps.values()) if one is not None else (),
        named=dict(sorted(one.named.items(), key=lambda pair: pair[1])) if one is not None else {},
        unplaced=tuple(unplaced),
        step_label=one.step_label if one is not None else StepLabel(),
        tokens=one.tokens if one is not None else TokenLabel(),
        format=formats.most_common(1)[0][0] if formats else None,
        optimizer=_optimizer(found, one),
        revisions={name: found.listed[name].revision for name in every if found.listed[name].revision != name},
        aliases=aliases,
        commits={name: found.listed[name].commit for name in every},
    )


def _aliases(found: _Repository, placed: Mapping[str, int], unplaced: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Revisions without a step whose weights are those of a checkpoint: `(revision, the latest such checkpoint)`."""
    by_weights: dict[frozenset[str], str] = {}
    for name in sorted(placed, key=lambda n: placed[n]):
        by_weights[frozenset(weights_of(found.listed[name]).values())] = name
    by_weights.pop(frozenset(), None)
    for name in (MAIN, *unplaced):
        held = frozenset(weights_of(found.listed[name]).values()) if name in found.listed else frozenset()
        if held in by_weights:
            yield found.listed[name].revision, by_weights[held]


def _format(listed: ListedRevision) -> Any:
    weights = weights_of(listed)
    if not weights:
        return None
    return "safetensors" if any(path.endswith(".safetensors") for path in weights) else "pickle"


def _optimizer(found: _Repository, one: NamedSeries | None) -> Any:
    if one is None:
        return "unknown"
    steps = sorted({**one.steps, **one.named}.items(), key=lambda pair: pair[1])
    holds = [any("optim" in path for path in found.listed[name].files) for name, _ in steps]
    if all(holds):
        return "always"
    if not any(holds):
        return "never"
    return "final" if holds[-1] and not any(holds[:-1]) else "unknown"


def _corpora(found: _Repository) -> Iterator[Corpus]:
    """A corpus of the data sets that the card names and the Hub has."""
    named = [word for word in dict.fromkeys(words(found.card.get("datasets"))) if is_a(RepoId, word)]
    there: dict[str, str] = {}
    for name in named[:MAX_DATA_REPOS]:
        try:
            refs = found.survey.refs(Repo(id=name, type="dataset"))
        except HubError:
            continue
        commit = refs.branches.get(MAIN) if refs is not None else None
        if commit is not None and is_a(GitCommit, commit):
            there[name] = commit
    if there:
        first, *others = there
        yield Corpus(
            name="data",
            evidence="a guess: the data sets that the card names",
            sources=tuple(
                Source(name=name.replace("/", "-")[:90], hub=HubPin(repo=name, revision=there[name])) for name in others
            ),
            repository=DataRepository(dataset=first, revision=there[first]),
        )
