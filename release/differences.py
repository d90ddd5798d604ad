"""What two releases differ in: what the second lacks, has beyond the first, has altered, or calls otherwise.

A file is the same when its sha256 is (or, for small files on the Hub, its git id); nothing is downloaded to find out.
Comparing the other way round gives the same differences, mirrored.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from open360.release.hub_objects import RemoteFile
from open360.release.release_contents import ReleaseContents, ReleasePart
from open360.release.reports.report_words import plural, printable
from open360.release.rules.storage import all_weight_files

Change = Literal["missing", "extra", "altered", "renamed"]
Thing = Literal["field", "checkpoint", "chunk", "file"]
CHANGES: tuple[Change, ...] = ("missing", "extra", "altered", "renamed")
THINGS: tuple[Thing, ...] = ("field", "checkpoint", "chunk", "file")
MIRRORED: dict[Change, Change] = {"missing": "extra", "extra": "missing"}
MAX_NAMED = 3
MAX_SHOWN = 80

Pair = tuple[str, str]  # names of one thing in the first and in the second release


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference. `before` is what the first release says or has, `after` the second.

    `name` is that in the first release, in the second where the first has no such thing. Of a file or a fact of a
    checkpoint or chunk, `within` names that in the first release, `within_after` in the second.
    """

    change: Change
    thing: Thing
    name: str
    within: str | None = None
    within_after: str | None = None
    before: Any = None
    after: Any = None

    def mirrored(self) -> Difference:
        """The same difference, seen from the second release."""
        return Difference(
            change=MIRRORED.get(self.change, self.change),
            thing=self.thing,
            name=self.after if self.change == "renamed" else self.name,
            within=self.within_after,
            within_after=self.within,
            before=self.after,
            after=self.before,
        )

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """Its place in a report: by thing, by change, by name."""
        return THINGS.index(self.thing), CHANGES.index(self.change), self.within or "", self.name


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All differences of two releases. `equal` counts what both have alike; `unsaid` is what could not be compared."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    equal: Mapping[Thing, int]
    unsaid: tuple[str, ...] = ()

    def mirrored(self) -> Comparison:
        """The second release compared with the first."""
        turned = sorted((difference.mirrored() for difference in self.differences), key=lambda d: d.rank)
        return replace(self, first=self.second, second=self.first, differences=tuple(turned))

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        counts = Counter(difference.change for difference in self.differences)
        return {
            "first": self.first,
            "second": self.second,
            "counts": {change: counts[change] for change in CHANGES},
            "equal": dict(self.equal),
            "differences": [asdict(difference) for difference in self.differences],
            "not_compared": list(self.unsaid),
        }


def compare(first: ReleaseContents, second: ReleaseContents) -> Comparison:
    """What `second` lacks, has beyond `first`, has altered or renamed."""
    found = _Comparing()
    if first.fields and second.fields:
        found.compare_values(first.fields, second.fields)
    found.compare_parts("checkpoint", first.checkpoints, second.checkpoints)
    found.compare_parts("chunk", first.chunks, second.chunks)
    found.compare_files(first.files, second.files)
    return Comparison(
        first=first.label,
        second=second.label,
        differences=tuple(sorted(found.differences, key=lambda difference: difference.rank)),
        equal={thing: found.equal[thing] for thing in THINGS},
        unsaid=tuple(sorted({*first.unsaid, *second.unsaid, *found.told()})),
    )


class _Comparing:
    """Differences as they are found."""

    def __init__(self) -> None:
        self.differences: list[Difference] = []
        self.equal: Counter[Thing] = Counter()
        self.unknown: list[str] = []

    def told(self) -> Iterator[str]:
        """What could not be compared, in a sentence."""
        if self.unknown:
            count = len(self.unknown)
            files = "1 file of equal size" if count == 1 else f"{count:,} files of equal size"
            named = ", ".join(sorted(self.unknown)[:MAX_NAMED]) + (", …" if count > MAX_NAMED else "")
            yield f"{files}, since the two sides know no digest of one kind: {named}"

    def compare_values(self, first: Mapping[str, Any], second: Mapping[str, Any], inside: Pair | None = None) -> None:
        """Compare what two documents say, place by place."""
        for place in sorted({*first, *second}):
            if place not in second:
                self._add("missing", "field", place, inside, first[place], None)
            elif place not in first:
                self._add("extra", "field", place, inside, None, second[place])
            elif first[place] != second[place]:
                self._add("altered", "field", place, inside, first[place], second[place])
            else:
                self.equal["field"] += inside is None

    def compare_parts(self, thing: Thing, first: Sequence[ReleasePart], second: Sequence[ReleasePart]) -> None:
        """Compare checkpoints or chunks: by name, then those that are left by what they hold."""
        before, after = _by_name(first, second)
        gone = {name: _holdings(before[name]) for name in before.keys() - after.keys()}
        new = {name: _holdings(after[name]) for name in after.keys() - before.keys()}
        renamed = _paired(gone, new)
        for pair in [*((name, name) for name in sorted(before.keys() & after.keys())), *renamed]:
            known = len(self.differences)
            old, late = before[pair[0]], after[pair[1]]
            shared = old.facts.keys() & late.facts.keys()
            self.compare_values({k: old.facts[k] for k in shared}, {k: late.facts[k] for k in shared}, pair)
            self.compare_files(old.files, late.files, pair)
            self.equal[thing] += len(self.differences) == known and pair[0] == pair[1]
        self._add_renamed(thing, gone, new, renamed, None, lambda name: _size(before[name]), lambda n: _size(after[n]))

    def compare_files(
        self, first: Mapping[str, RemoteFile], second: Mapping[str, RemoteFile], inside: Pair | None = None
    ) -> None:
        """Compare files by path, then those that are left by what they hold."""
        for path in sorted(first.keys() & second.keys()):
            same = is_same(first[path], second[path])
            if same is None:
                self.unknown.append(f"{min(inside)}/{path}" if inside is not None else path)
            elif same:
                self.equal["file"] += 1
            else:
                self._add("altered", "file", path, inside, _content(first[path]), _content(second[path]))
        gone = {path: _key(first[path]) for path in first.keys() - second.keys()}
        new = {path: _key(second[path]) for path in second.keys() - first.keys()}
        pairs = _paired(gone, new)
        self._add_renamed("file", gone, new, pairs, inside, lambda p: _content(first[p]), lambda p: _content(second[p]))

    def _add_renamed(
        self,
        thing: Thing,
        gone: Iterable[str],
        new: Iterable[str],
        renamed: Sequence[Pair],
        inside: Pair | None,
        before: Callable[[str], Any],
        after: Callable[[str], Any],
    ) -> None:
        for old, name in renamed:
            self._add("renamed", thing, old, inside, old, name)
        for name in set(gone) - {old for old, _ in renamed}:
            self._add("missing", thing, name, inside, before(name), None)
        for name in set(new) - {name for _, name in renamed}:
            self._add("extra", thing, name, inside, None, after(name))

    def _add(self, change: Change, thing: Thing, name: str, inside: Pair | None, before: Any, after: Any) -> None:
        within, within_after = inside if inside is not None else (None, None)
        self.differences.append(
            Difference(
                change=change, thing=thing, name=name, within=within, within_after=within_after, before=before,
                after=after,
            )
        )  # fmt: skip


def is_same(first: RemoteFile, second: RemoteFile) -> bool | None:
    """Whether two files hold the same bytes; None when no digest of one kind is known of both."""
    if first.bytes != second.bytes:
        return False
    if first.sha256 is not None and second.sha256 is not None:
        return first.sha256 == second.sha256
    plain = first.sha256 is None and second.sha256 is None  # the git id of a large file is that of a pointer to it
    if plain and first.git_id is not None and second.git_id is not None:
        return first.git_id == second.git_id
    return True if first.bytes == 0 else None


def _by_name(
    first: Sequence[ReleasePart], second: Sequence[ReleasePart]
) -> tuple[dict[str, ReleasePart], dict[str, ReleasePart]]:
    """Parts by name. Where each release has a single run or repository, its name does not matter."""
    alone = all(len({part.group for part in parts}) <= 1 for parts in (first, second))

    def named(parts: Sequence[ReleasePart]) -> dict[str, ReleasePart]:
        return {part.name if alone else f"{part.group}/{part.name}": part for part in parts}

    return named(first), named(second)


def _key(file: RemoteFile) -> Hashable | None:
    """What equal files share; None when it is not known, or says nothing."""
    if file.bytes == 0:
        return None
    return file.sha256 or file.git_id


def _holdings(part: ReleasePart) -> Hashable | None:
    """What tells a part under another name: its weights, else all of its files; None when a digest is not known."""
    keys = [_key(part.files[path]) for path in all_weight_files(part.files) or part.files]
    return None if None in keys or not keys else tuple(sorted(str(key) for key in keys))


def _paired(gone: Mapping[str, Hashable | None], new: Mapping[str, Hashable | None]) -> list[Pair]:
    """Names that are gone and new names of the same content, each used once."""
    places: dict[Hashable, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, names in enumerate((gone, new)):
        for name, key in sorted(names.items()):
            if key is not None:
                places[key][side].append(name)
    return sorted((old, name) for olds, names in places.values() for old, name in zip(olds, names, strict=False))


def _content(file: RemoteFile) -> dict[str, Any]:
    known = {"bytes": file.bytes, "sha256": file.sha256, "git_id": file.git_id}
    return {name: value for name, value in known.items() if value is not None}


def _size(part: ReleasePart) -> dict[str, int]:
    return {"files": len(part.files), "bytes": sum(file.bytes for file in part.files.values())}


def comparison_text(comparison: Comparison) -> str:
    """A comparison for people: a line for each difference, then what is equal and what could not be compared."""
    lines = [f"{comparison.first} -> {comparison.second}"]
    lines += [f"  {found.change:<8} {found.thing:<10} {_described(found)}" for found in comparison.differences]
    counts = Counter(difference.change for difference in comparison.differences)
    told = ", ".join(f"{counts[change]:,} {change}" for change in CHANGES if counts[change])
    lines.append(told or "no difference")
    lines.append("equal: " + ", ".join(plural(comparison.equal[thing], thing) for thing in THINGS))
    lines += [f"not compared: {reason}" for reason in comparison.unsaid]
    return "\n".join(printable(line) for line in lines) + "\n"


def _described(difference: Difference) -> str:
    where = ""
    if difference.within is not None:
        renamed = difference.within != difference.within_after
        where = f"{difference.within} -> {difference.within_after}: " if renamed else f"{difference.within}: "
    if difference.change == "renamed":
        return f"{where}{difference.name} -> {difference.after}"
    known = [value for value in (difference.before, difference.after) if value is not None]
    return f"{where}{difference.name}: {' -> '.join(_shown(value) for value in known)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "bytes" in value:
        digest = str(value.get("sha256") or value.get("git_id") or "")[:12]
        files = f"{plural(value['files'], 'file')}, " if "files" in value else ""
        return f"{files}{plural(value['bytes'], 'byte')}{f' {digest}' if digest else ''}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
