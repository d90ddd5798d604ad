"""What a spec states of the components of the Model Openness Framework: code, documents, and whose they are.

An own release's spec is the author's word: what it does not name is missing. A spec that others wrote may leave things
out: what it does not name is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property

from open360.release.reports.openness import TRANSFORMERS_DECODERS, Evidence
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus
from open360.schema.run import Run
from open360.schema.spec import ReleaseSpec

TRANSFORMERS, TRANSFORMERS_LICENSE = "https://github.com/huggingface/transformers", "Apache-2.0"
HARNESS_LICENSES = {"open360": "Apache-2.0", "lm-evaluation-harness": "MIT"}


class StatedEvidence:
    """Evidence that the spec gives. `gone` are addresses and repositories that are known not to be there."""

    def __init__(self, release: ReleaseView, gone: Collection[str] = ()) -> None:
        self.release, self.gone = release, gone
        self.spec: ReleaseSpec = release.spec
        self.licenses = self.spec.licenses
        self.is_foreign = release.foreign is not None

    def unnamed(self, because: str) -> Evidence:
        """Evidence of what the spec does not name."""
        return Evidence(there=None if self.is_foreign else False, because=because)

    def at(self, address: str, license_: str | None, because: str) -> Evidence:
        """Evidence of what the spec names by its address."""
        if address in self.gone:
            return Evidence(there=False, because=f"{address} is not there")
        return Evidence(there=True, because=because, license=license_, path=address)

    @cached_property
    def published_runs(self) -> list[Run]:
        """Runs whose weights are public, by the spec; of a release on this disk all that were built."""
        runs = self.spec.all_runs()
        if self.is_foreign:
            return [run for run in runs if run.hub.model is not None and run.hub.model not in self.gone]
        if self.release.readable_manifest is None:
            return list(runs)
        built = {run.name for run in self.release.readable_manifest.runs}
        return [run for run in runs if run.name in built]

    @cached_property
    def corpora(self) -> list[Corpus]:
        """Corpora that published runs train on; all of them when no run says which."""
        used = {run.corpus for run in self.published_runs}
        return [corpus for corpus in self.spec.corpora if corpus.name in used] or list(self.spec.corpora)

    def sources_named(self) -> bool | None:
        """Whether every corpus names its sources."""
        if self.corpora and all(corpus.sources for corpus in self.corpora):
            return True
        return None if self.is_foreign else False

    def code(self, words: tuple[str, ...], what: str) -> Evidence:
        """Code whose stated purpose is `everything`, or holds one of `words`."""
        for code in self.spec.code:
            purpose = (code.purpose or "").lower()
            if not any(word in purpose for word in (*words, "everything")):
                continue
            if code.repository is not None:
                return self.at(code.repository, self.licenses.code, f"the spec names it for '{code.purpose}'")
            if not self.is_foreign and code.entry is not None:
                because = f"the release's own code, for '{code.purpose}'"
                return Evidence(there=True, because=because, license=self.licenses.code)
        if any(code.purpose is None and code.repository is not None for code in self.spec.code):
            return Evidence(there=None, because="the spec names code, but not what it is for")
        return self.unnamed(f"the spec names no code for {what}")

    def _in_transformers(self) -> Evidence | None:
        """Every published model is of an architecture that `transformers` itself holds."""
        types = {str(run.architecture.get("model_type")) for run in self.published_runs}
        if not types or not types <= TRANSFORMERS_DECODERS or any(run.custom_code for run in self.published_runs):
            return None
        because = f"{', '.join(sorted(types))}: part of the transformers library"
        return Evidence(there=True, because=because, license=TRANSFORMERS_LICENSE, path=TRANSFORMERS)

    def architecture(self) -> Evidence:
        """Code of the architecture: in the stock library, or in what trains the model."""
        return self._in_transformers() or self.code(("train", "architecture", "model"), "the architecture")

    def inference(self) -> Evidence:
        """Code that runs the model: its own, or the stock library."""
        own = self.code(("inference", "generat"), "inference")
        return own if own.there else self._in_transformers() or own

    def evaluation_code(self) -> Evidence:
        """Code of the harnesses that the evaluations name."""
        own = self.code(("evaluat",), "evaluation")
        harnesses = {evaluation.harness: evaluation.harness_repository for evaluation in self.spec.evaluations}
        if own.there or not harnesses:
            return own
        for name, repository in harnesses.items():
            if repository in self.gone:
                return Evidence(there=False, because=f"{repository} is not there")
            if name not in HARNESS_LICENSES:
                return Evidence(there=None, because=f"the licence of harness '{name}' is not stated")
        names = sorted(harnesses)
        licenses = " AND ".join(sorted({HARNESS_LICENSES[name] for name in names}))
        path = next((repository for repository in harnesses.values() if repository is not None), None)
        return Evidence(there=True, because=f"the spec names {', '.join(names)}", license=licenses, path=path)

    def preprocessing(self) -> Evidence:
        """Code that prepares the data."""
        for corpus in self.corpora:
            for step in corpus.processing:
                if step.repository is not None:
                    because = f"the spec names it for step '{step.name}' of corpus '{corpus.name}'"
                    return self.at(step.repository, self.licenses.code, because)
        return self.code(("data", "prepar", "preprocess"), "preparing the data")

    def libraries(self) -> Evidence:
        """The libraries: a lock of the environment, or the code of others that is named."""
        for code in self.spec.code:
            if code.lock is not None or code.external:
                because = f"pinned by {code.lock}" if code.lock else f"{len(code.external)} repositories are named"
                return Evidence(there=True, because=because, license=self.licenses.code, path=code.lock)
        return self.unnamed("the spec names no lock and no external code")

    def evaluation_data(self) -> Evidence:
        """Held-out data of the release, where its own evaluations are all; benchmarks are other people's."""
        if not self.spec.evaluations:
            return self.unnamed("the spec names no evaluation")
        others = sorted(
            {e.task for e in self.spec.evaluations if not (e.harness == "open360" and e.task == "held_out")}
        )
        if others:
            return Evidence(there=None, because=f"no licence is stated of the data of {some(others)}")
        held_out = [corpus for corpus in self.corpora if corpus.held_out is not None]
        if not held_out:
            return self.unnamed("no corpus holds documents out")
        terms = joined(filter(None, (corpus.license or self.licenses.data for corpus in held_out)))
        return Evidence(there=True, because="the held-out documents of the corpus", license=terms)

    def document(self, word: str, what: str) -> Evidence:
        """A document that the spec links under a name that says so."""
        for link in self.spec.links:
            if word in link.name.lower():
                return self.at(link.url, self.licenses.documents, f"the spec links '{link.name}'")
        return self.unnamed(f"the spec links no {what}")


def some(names: list[str]) -> str:
    """Names, the first three of many."""
    names = list(dict.fromkeys(names))
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3:,} more"


def joined(licenses: Iterable[str | None]) -> str | None:
    """One expression for all; None when one is not stated, or there is none."""
    terms = list(dict.fromkeys(licenses))
    if not terms or None in terms:
        return None
    return " AND ".join(f"({term})" if " OR " in str(term) and len(terms) > 1 else str(term) for term in terms)
