"""Every address outside the Hub that a spec names, grouped by where it stands: what a look at addresses is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from open360.release.evidence.addresses import AddressError
from open360.release.evidence.checkpoint_lists import MAX_LIST_BYTES, ListError, parse_list
from open360.release.evidence.foreign_data import address_of, declared_files, names_in_list
from open360.release.evidence.measurements import evaluation_name, measurements
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus
from open360.schema.run import Run


@dataclass(frozen=True, kw_only=True)
class AddressGroup:
    """Addresses that stand at one place of the spec, and what they are addresses of."""

    pointer: str
    subject: str
    what: str
    urls: tuple[str, ...]


def address_groups(release: ReleaseView) -> list[AddressGroup]:
    """All of them, each address once. Reads the published lists that name further ones.

    Addresses of order files are left out: a rule of their own looks at these. Raises CannotCheckError, HubError.
    """
    seen: set[str] = set()
    found = []
    for pointer, subject, what, urls in _declared(release):
        new = tuple(dict.fromkeys(url for url in urls if url is not None and _is_web(url) and url not in seen))
        if new:
            seen.update(new)
            found.append(AddressGroup(pointer=pointer, subject=subject, what=what, urls=new))
    return found


_Group = tuple[str, str, str, Iterable[str | None]]


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _declared(release: ReleaseView) -> Iterator[_Group]:
    spec = release.spec
    for index, link in enumerate(spec.links):
        yield f"/links/{index}/url", link.name, "link", [link.url]
    for index, code in enumerate(spec.code):
        subject = code.purpose or spec.name
        yield f"/code/{index}/repository", subject, "repository of code", [code.repository]
        for number, external in enumerate(code.external):
            yield f"/code/{index}/external/{number}", subject, "repository of external code", [external.repository]
    for index, corpus in enumerate(spec.corpora):
        yield from _of_corpus(f"/corpora/{index}", corpus)
    for index, corpus, files in declared_files(release):
        names = names_in_list(release, corpus) if files.listed is not None else []
        if files.pattern is not None and files.count is not None and not _is_on_hub(corpus):
            names = [files.file(number) for number in files.numbers()]
        if names and not _is_on_hub(corpus):
            urls = [address_of(corpus, name) for name in names]
            yield f"/corpora/{index}/files", corpus.name, "data files", urls
    for run in spec.all_runs():
        yield from _of_run(release, run)
    yield from _of_evaluations(release)


def _is_on_hub(corpus: Corpus) -> bool:
    return corpus.repository is not None and corpus.repository.url is None


def _of_corpus(at: str, corpus: Corpus) -> Iterator[_Group]:
    for index, source in enumerate(corpus.sources):
        yield f"{at}/sources/{index}/http", source.name, "source", [source.http]
        if source.files is not None:
            yield f"{at}/sources/{index}/files/listed", source.name, "list of data files", [source.files.listed]
    for index, step in enumerate(corpus.processing):
        yield f"{at}/processing/{index}/repository", corpus.name, f"code of step '{step.name}'", [step.repository]
    if corpus.files is not None:
        yield f"{at}/files/listed", corpus.name, "list of data files", [corpus.files.listed]


def _of_run(release: ReleaseView, run: Run) -> Iterator[_Group]:
    at, plans = release.run_pointer(run.name), release.plans(run)
    for number, log in enumerate(run.logs):
        steps = [(plan.name, str(plan.step)) for plan in plans] if "{" in log else [("", "")]
        urls = [
            log.replace("{checkpoint}", name).replace("{step}", step).replace("{run}", run.name) for name, step in steps
        ]
        yield f"{at}/logs/{number}", run.name, "training log", urls
    if run.configuration is not None:
        yield f"{at}/configuration", run.name, "configuration", [run.configuration.url]
    series = run.series
    if series is None:
        return
    if series.native is not None:
        missing = [range(gap.first, gap.last + 1) for gap in series.missing]
        steps = [(plan.name, str(plan.step)) for plan in plans if not any(plan.step in gap for gap in missing)]
        urls = [series.native.replace("{step}", step) for _, step in steps]
        yield f"{at}/series/native", run.name, "the trainer's own checkpoints", urls
    for number, declared in enumerate(series.lists):
        place = f"{at}/series/lists/{number}"
        yield place, run.name, "list of checkpoints", [declared.url]
        if declared.url is not None and declared.link is not None:
            try:
                rows = parse_list(declared.url, release.addresses.read(declared.url, MAX_LIST_BYTES), declared)
            except (AddressError, ListError):
                continue
            what = "checkpoints in the list" + "".join(f", {column} {value}" for column, value in declared.only.items())
            yield place, run.name, what, [row.link for row in rows]


def _of_evaluations(release: ReleaseView) -> Iterator[_Group]:
    records: dict[int, list[str]] = {}
    for measured in measurements(release):
        if measured.place is not None:
            records.setdefault(measured.number, []).append(measured.place)
    for number, evaluation in enumerate(release.spec.evaluations):
        subject = evaluation_name(release.spec, number)
        at = f"/evaluations/{number}"
        yield f"{at}/harness_repository", subject, "repository of the harness", [evaluation.harness_repository]
        yield f"{at}/results", subject, "records", records.get(number, [])
