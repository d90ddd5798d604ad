"""The rule about golden batches: the published data, read by the declared order, gives what the trainer saw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from weakref import WeakKeyDictionary

import numpy as np

from open360.release.evidence.batch_bytes import ids_of_batch
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.listed_view import CannotCheckError
from open360.release.order.spans import OrderError
from open360.release.rules.data import stated_digests
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.run import Run

_COMPARED: WeakKeyDictionary[ReleaseView, set[str]] = WeakKeyDictionary()


class GoldenBatchDiffers(Rule):
    """A batch that is read from the published data is not the one that was trained on.

    ## What it does
    Reads every golden batch of a run by the declared order (arithmetic, a stored permutation, a shuffle, a chunk in the
    order of its lines) from the data files, by ranges, and compares the digest of its ids with the declared one. In a
    release of open360 it compares the step tables. Runs whose order cannot be resolved are not looked at.

    ## Why is this bad?
    Data, order, batch size and conventions (does step 0 count? does a row hold one id more?) meet in this one number.
    When it differs, every lookup of what a step saw is wrong.

    ## Example
    `golden_batches: [{step: 0, sha256: …}]`, and the first 1,024 rows have another digest.

    ## Remedy
    Find out which of data, order, batch and first row is not that of the training. Declare the digests of a first, a
    middle and the last batch from the trainer's own log.

    ## Seen in practice
    The official viewer of Pythia's batches returned wrong rows for two years, by three errors of counting one after the
    other; OLMo's snippet took the batch size from a configuration that was overridden on the command line.
    """

    code = "ORD008"
    name = "golden-batch-differs"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ, "ORD003", "ORD004", "ORD005", "ORD006", "DAT005", "DAT008", "DAT009", "DAT010"})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs of which a golden batch was compared."""
        return len(_COMPARED.get(release, ()))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each batch."""
        compared = _COMPARED.setdefault(release, set())
        reasons = []
        for run in release.spec.all_runs():
            own = _own_digests(release, run) if run.golden_batches and release.foreign is None else {}
            for number, golden in enumerate(run.golden_batches):
                try:
                    found = own.get(golden.step) if release.foreign is None else _digest(release, run, golden.step)
                except OrderError as error:
                    reasons.append(str(error))
                    continue
                if found is None:
                    reasons.append(f"batch {golden.step} of run '{run.name}' is in no chunk that is intact")
                    continue
                compared.add(run.name)
                if found != golden.sha256:
                    message = (
                        f"batch {golden.step} of run '{run.name}' has the digest {found[:12]}… in the published data, "
                        f"declared is {golden.sha256[:12]}…"
                    )
                    place = release.place(f"{release.run_pointer(run.name)}/golden_batches/{number}")
                    fix = "find out which of data, order, batch and first row is not that of the training"
                    yield self.finding(place, run.name, message, fix)
        if reasons and not compared:
            raise CannotCheckError(f"no golden batch could be read: {reasons[0]}")


def _digest(release: ReleaseView, run: Run, step: int) -> str:
    ids = ids_of_batch(release, run, step)
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<u4").tobytes()).hexdigest()


def _own_digests(release: ReleaseView, run: Run) -> dict[int, str]:
    """Digests of a run's batches by its step tables, whose digests of ids another rule compares with the rows."""
    if release.readable_manifest is None:
        raise CannotCheckError("there is no manifest that says which chunks there are")
    records = [record for built, record in release.built_runs() if built.name == run.name]
    return {
        step: digest
        for record in records
        for chunk in record.chunks
        for step, digest in stated_digests(release, chunk).items()
    }
