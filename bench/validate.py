"""Cost of listing a release of real size on a Hub: `python -P bench/validate.py [REPEATS]`.

A release in Amber's layout and one that open360 published, of 36, 360 and 3,600 checkpoints of twelve files, on a local
Hub, validated at level `listed` in processes of their own: first with an empty cache, then from it. CPU time, peak
memory and calls; sizes in turn, so that a slow minute meets all. Time and memory are linear when a checkpoint costs at
3,600 what it costs at 360.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

SIZES = (36, 360, 3_600)
REPEATS = 7
LIMIT = 2.0  # of the cost of a checkpoint at 3,600, by that at 360; quadratic work would make it ten
MORE_CALLS = 20
PAGES_A_THOUSAND = 5  # of the trees that list a file or two for each checkpoint, beyond the first
WARM_CALLS = 5
SECONDS = {"first": 60.0, "again": 5.0}  # what 360 checkpoints may take, of CPU


@dataclass(kw_only=True)
class Case:
    """A release of a size on a Hub that runs."""

    kind: str
    size: int
    url: str
    target: str
    spec: Path | None
    cache: Path
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "again": []})
    peaks: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "again": []})
    calls: dict[str, set[int]] = field(default_factory=lambda: {"first": set(), "again": set()})


@contextlib.contextmanager
def cases(root: Path) -> Iterator[list[Case]]:
    """All releases, each on a Hub of its own."""
    from open360.release.local_hub import running_hub
    from tests.support.big_hub import put_amber, put_own
    from tests.support.hub_folder import HubFolder
    from tests.support.page_server import page_server

    found = []
    with contextlib.ExitStack() as stack:
        for size in SIZES:
            for kind in ("Amber's layout", "published by open360"):
                folder = HubFolder(root / f"{kind}-{size}")
                spec, target = None, "LLM360/AmberTiny"
                if kind == "Amber's layout":
                    spec = folder.root / "spec.yaml"
                    spec.write_bytes(put_amber(folder, stack.enter_context(page_server()), size))
                else:
                    target = put_own(folder, size)
                hub = stack.enter_context(running_hub(folder.root))
                cache = folder.root / "cache"
                found.append(Case(kind=kind, size=size, url=hub.url, target=target, spec=spec, cache=cache))
        yield found


def measure(case: Case) -> None:
    """Look at a release with an empty cache, and once more."""
    shutil.rmtree(case.cache, ignore_errors=True)
    for turn in ("first", "again"):
        stats = f"{case.url}/.open360/stats"
        urllib.request.urlopen(urllib.request.Request(stats, method="DELETE"), timeout=60).close()
        command = [sys.executable, "-P", __file__, "look", case.target, str(case.spec or ""), case.url]
        environment = {**os.environ, "OPEN360_CACHE": str(case.cache), "HF_TOKEN": "x"}
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
        seconds, peak, findings = json.loads(done.stdout)
        if findings:
            raise SystemExit(f"{case.kind}, {case.size}: expected no findings, found {findings}")
        case.seconds[turn].append(seconds)
        case.peaks[turn].append(peak)
        with urllib.request.urlopen(stats, timeout=60) as answer:
            case.calls[turn].add(json.load(answer)["requests"])


def look(target: str, spec: str, endpoint: str) -> None:
    """Validate a target; print CPU seconds of this process from its start, its peak in MB, and findings."""
    from open360.release.findings import EvidenceLevel
    from open360.release.opening import open_any_target
    from open360.release.validation import validate

    opened = open_any_target(target, spec=Path(spec) if spec else None, endpoint=endpoint)
    report = validate(opened, level=EvidenceLevel.LISTED)
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not `ru_maxrss`: a process begins with that of its parent.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(json.dumps([used.ru_utime + used.ru_stime, peak / 1000, len(report.findings)]))


def growth(small: list[float], middle: list[float], large: list[float]) -> list[float]:
    """Cost of a checkpoint between 360 and 3,600 by that between 36 and 360, run by run."""
    wide, narrow = SIZES[2] - SIZES[1], SIZES[1] - SIZES[0]
    return [(c - b) / wide / max((b - a) / narrow, 1e-9) for a, b, c in zip(small, middle, large, strict=True)]


def verdict(ratios: list[float]) -> str:
    """Whether the median of the ratios keeps the limit; a limit inside the spread decides nothing."""
    if min(ratios) < LIMIT < max(ratios):
        return "inconclusive"
    return "holds" if statistics.median(ratios) <= LIMIT else "fails"


def row(what: str, columns: list[list[float]], unit: str) -> tuple[str, bool]:
    """A line of the table, and whether it is no failure."""
    digits = 2 if unit == "s" else 0
    shown = [f"{statistics.median(c):,.{digits}f} {unit}" for c in columns]
    ratios = growth(*columns)
    told = verdict(ratios)
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    return f"| {what} | {' | '.join(shown)} | {statistics.median(ratios):.2f} ({spread}) | ≤ {LIMIT} | {told} |", (
        told != "fails"
    )


def main(repeats: int) -> int:
    """Print the table; 1 when a limit is not kept."""
    lines = [
        "| what | 36 checkpoints | 360 | 3,600 | a checkpoint at 3,600 / at 360 (spread) | limit | verdict |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    kept = True
    with tempfile.TemporaryDirectory() as folder, cases(Path(folder)) as all_cases:
        for number in range(repeats):
            for case in all_cases if number % 2 else reversed(all_cases):
                sys.stderr.write(f"  {case.kind}, {case.size} checkpoints, {number + 1} of {repeats}\n")
                measure(case)
    for kind in dict.fromkeys(case.kind for case in all_cases):
        of_kind = [case for case in all_cases if case.kind == kind]
        for turn, name in (("first", "empty cache"), ("again", "from the cache")):
            for values, unit in (("seconds", "s"), ("peaks", "MB")):
                what = f"{kind}, {name}, {'CPU time' if unit == 's' else 'peak memory'}"
                line, holds = row(what, [getattr(case, values)[turn] for case in of_kind], unit)
                lines.append(line)
                kept = kept and holds
            counts = [max(case.calls[turn]) for case in of_kind]
            pages = [PAGES_A_THOUSAND * (case.size // 1_000) for case in of_kind]
            firsts = [case.size + MORE_CALLS + more for case, more in zip(of_kind, pages, strict=True)]
            bounds = firsts if turn == "first" else [WARM_CALLS] * len(of_kind)
            holds = all(count <= bound for count, bound in zip(counts, bounds, strict=True))
            limit = f"≤ checkpoints + {MORE_CALLS}, and pages" if turn == "first" else f"≤ {WARM_CALLS}"
            shown = " | ".join(f"{count:,}" for count in counts)
            lines.append(f"| {kind}, {name}, calls | {shown} | - | {limit} | {'holds' if holds else 'fails'} |")
            quick = max(of_kind[1].seconds[turn]) < SECONDS[turn]
            kept = kept and holds and quick
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["look"]:
        look(*sys.argv[2:])
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS))
