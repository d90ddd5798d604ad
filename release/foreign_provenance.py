"""The record that a pull from a foreign release leaves: what was read from where, and what nobody could verify."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from open360.release.foreign_selection import Chosen
from open360.release.foreign_target import ForeignTarget
from open360.release.provenance import PROVENANCE_FILE, PROVENANCE_VERSION, PlannedRead, written_files
from open360.release.read_plan import ReadPlan
from open360.release.row_sources import Needed, TrainingRows
from open360.release.survey import ListedRevision
from open360.release.whole_files import FetchedWhole, WholeFile
from open360.schema.run import Run
from open360.schema.serialization import canonical_json

Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ForeignPull:
    """A pull from a release that open360 did not make: what was asked for, what it reads, and where it was put.

    `notes` are for people: what they should know before they rely on it. `unverified` is known afterwards. `out` is
    None when nothing was done.
    """

    target: ForeignTarget
    what: str
    run: Run
    chosen: Chosen | None = None
    checkpoint: str | None = None
    form: str | None = None
    plan: ReadPlan
    whole: tuple[WholeFile, ...] = ()
    notes: tuple[str, ...] = ()
    out: Path | None = None
    facts: Facts = field(default_factory=dict)
    unverified: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[PlannedRead, ...]:
        """Ranges of files, in the order of reading; for very many of them one enclosing range a file."""
        if self.plan.reads is not None:
            return tuple(self.plan.reads)
        return tuple(PlannedRead(path=f.path, begin=f.begin, end=f.end) for f in self.plan.files.values())

    @property
    def bytes(self) -> int:
        """Bytes to read when nothing is cached."""
        return self.plan.bytes

    def done(self, out: Path, unverified: Sequence[str]) -> ForeignPull:
        """The same pull, carried out; `unverified` is what nobody could verify."""
        return replace(self, out=out, unverified=tuple(unverified))

    def identity(self) -> str:
        """Equal for requests of equal content: what is fetched for one serves the other."""
        return canonical_json({**self._request(), "form": self.form, "bytes": self.bytes}).decode()

    def as_json(self) -> dict[str, Any]:
        """The pull for a program to read."""
        return {
            **self._request(),
            **self.facts,
            "files": [asdict(file) for file in self.plan.files.values()],
            "reads": [asdict(read) for read in self.plan.reads] if self.plan.reads is not None else None,
            "bytes": self.bytes,
            "estimated": self.plan.estimated,
            "notes": list(self.notes),
            "not_verified": list(self.unverified),
            "out": str(self.out) if self.out is not None else None,
        }

    def _request(self) -> dict[str, Any]:
        document, chosen = self.target.document, self.chosen
        return {
            "target": self.target.label,
            "endpoint": self.target.survey.hub.endpoint,
            "release": document.spec.name,
            "version": document.spec.version,
            "spec": {
                "origin": document.origin,
                "sha256": hashlib.sha256(document.data).hexdigest(),
                "is_guess": document.is_guess,
            },
            "what": self.what,
            "run": self.run.name,
            "checkpoint": self.checkpoint,
            "form": self.form,
            "source": chosen.source if chosen is not None else None,
            "steps": {"first": chosen.first_step, "end": chosen.end_step} if chosen is not None else None,
            "rows": {"first": chosen.first_row, "end": chosen.end_row} if chosen is not None else None,
        }

    def write_provenance(
        self,
        folder: Path,
        *,
        fetched: Sequence[FetchedWhole] = (),
        batches: Mapping[int, str] | None = None,
        verified: Sequence[str] = (),
        unverified: Sequence[str] = (),
    ) -> None:
        """Write `provenance.json` beside the files of the pull. It holds no time: equal pulls are equal.

        Args:
            fetched: whole files.
            batches: digest of the ids of each batch.
            verified, unverified: what was compared with what, and what could not be.
        """
        record = {
            "provenance_version": PROVENANCE_VERSION,
            **self._request(),
            **self.facts,
            "ranges": [asdict(f) for f in self.plan.files.values()] if not fetched else [],
            "sources": [
                {"path": one.file.path, "bytes": one.file.bytes, "sha256": one.sha256, "verified_by": one.proof}
                for one in fetched
            ],
            "batches": {str(step): digest for step, digest in (batches or {}).items()},
            "verified": list(verified),
            "not_verified": list(unverified),
            "notes": list(self.notes),
            "files": written_files(folder),
        }
        (folder / PROVENANCE_FILE).write_bytes(canonical_json(record))


def repositories(revisions: Iterable[ListedRevision]) -> list[dict[str, str]]:
    """Revisions on the Hub with the commits that they stood for."""
    return [
        {"repo": one.repo.id, "repo_type": one.repo.type, "revision": one.revision, "commit": one.commit}
        for one in sorted(revisions, key=lambda one: one.root)
    ]


def facts_of_rows(rows: TrainingRows) -> dict[str, Any]:
    """How the order was resolved, and from which commits everything is."""
    resolver = rows.resolver
    return {
        "repositories": repositories(rows.revisions),
        "order": {
            "kind": rows.run.order.kind,
            "exact": resolver.exact,
            "reason": resolver.reason,
            "layout": resolver.layout,
            "numpy": rows.numpy_version,
            "needed": [asdict(needed) for needed in rows.needed],
        },
    }


def doubts_about(rows: TrainingRows, plan: ReadPlan, *, ranges: bool = True) -> list[str]:
    """What could not be verified of rows that were read by range."""
    found = []
    for path in plan.files if ranges else ():
        identity = rows.identity(path)
        if identity.sha256 is not None or identity.git_id is not None:
            continue
        found.append(f"{path}: its host states no digest" + (", only an ETag" if identity.etag else ""))
    if len(found) > 20:
        found = [*found[:20], f"and {len(found) - 20} more files at plain addresses"]
    if ranges and any(rows.identity(path).sha256 is not None for path in list(plan.files)[:1]):
        found.append(
            "parts of files: the Hub states the sha256 of whole files only; each part came from the listed one"
        )
    return [*found, *(_doubt(needed) for needed in rows.needed if not needed.verified)]


def _doubt(needed: Needed) -> str:
    if needed.kind == "sizes":
        return f"sizes of {needed.name}: as their host states them"
    stated = f", its digest {needed.sha256} is that of the whole file" if needed.sha256 is not None else ""
    return (
        f"{needed.name}: only parts of it were read{stated}" if needed.kind == "index" else f"{needed.name}: no digest"
    )
