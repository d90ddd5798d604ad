"""Reading series of checkpoints off the names of branches and tags, where nothing else tells of them.

A guess: which number of a name is the step follows from the word before it, which one counts tokens from its unit or
from a ratio to the steps that stays the same. Names that differ in other numbers or words are of other series.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from open360.schema.model import StepFunction
from open360.schema.series import StepLabel, StepRange, TokenLabel

FIRST_RUN = "pretrain"  # of names that say nothing but a step
MAX_DIGITS = 15  # a longer number counts neither steps nor tokens
MAX_NUMBERS = 6  # a name with more of them is no step's
MAX_COMPARED = 50  # names that have to agree before two numbers are taken for steps and tokens
MIN_RANGE = 4  # fewer steps at one distance are better read one by one
MIN_UNNAMED = 3  # names whose number no word explains
STEP_WORDS = ("step", "steps", "iter", "iters", "iteration", "checkpoint", "ckpt", "it", "globalstep")
OTHER_WORDS = ("stage", "phase", "ingredient", "part", "seed", "epoch", "mid", "mix", "run", "v", "version", "rc", "pr")
TOKEN_WORDS = ("token", "tokens", "tok", "toks")
UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}
THOUSAND = re.compile(r"[kK](?![a-zA-Z])")
TOKEN_UNIT = re.compile(r"([MBT]|[mb](?=[tT]))(?:[tT]|tok(?:en)?s?)?(?![a-zA-Z])")
NO_SERIES = re.compile(r"[vV]?\d+(\.\d+)+|\d{4}-\d\d-\d\d|[0-9a-f]{40}")  # versions, dates, commits


@dataclass(frozen=True, kw_only=True)
class NamedSeries:
    """Names of one series: a pattern as `Series.name` has it (empty when no one pattern makes all names)."""

    run: str
    pattern: str
    steps: Mapping[str, int]
    named: Mapping[str, int] = field(default_factory=dict)
    step_label: StepLabel = field(default_factory=StepLabel)
    tokens: TokenLabel = field(default_factory=TokenLabel)


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A number in names of one form: the text around it, and what it counts."""

    before: str
    after: str
    kind: Literal["step", "tokens", "fixed"]

    @property
    def per(self) -> int:
        """Steps or tokens that one of this number is."""
        if self.kind == "step":
            return 1000 if THOUSAND.match(self.after) else 1
        unit = TOKEN_UNIT.match(self.after)
        return UNITS[unit[1].upper()] if unit is not None else 1


def group_names(names: Iterable[str]) -> tuple[list[NamedSeries], list[str]]:
    """Series among `names`, by their first step, and the names that are of none of them."""
    forms: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = defaultdict(dict)
    rest = []
    for name in sorted(set(names)):
        pieces = re.split(r"(\d+)", name)
        digits = tuple(pieces[1::2])
        if (
            not 0 < len(digits) <= MAX_NUMBERS
            or NO_SERIES.fullmatch(name)
            or any(len(text) > MAX_DIGITS for text in digits)
        ):
            rest.append(name)
        else:
            forms[tuple(pieces[0::2])][name] = digits
    found: list[NamedSeries] = []
    for texts, members in forms.items():
        columns = _columns(texts, list(members.values()))
        if columns is None:
            rest += members
        else:
            found += _series_of(texts, columns, members)
    return _told_apart(_joined(found), rest)


def _columns(texts: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[_Column] | None:
    """What each number of names of one form counts; None when none of them can be a step."""
    words = [_word(texts[i]) for i in range(len(texts) - 1)]
    count = len(words)
    varying = [len({row[i] for row in rows}) > 1 for i in range(count)]
    step = next((i for i in reversed(range(count)) if words[i] in STEP_WORDS), None)
    tokens = next((i for i in range(count) if i != step and words[i] in TOKEN_WORDS), None)
    if tokens is None:
        by_unit = (i for i in range(count) if i != step and varying[i] and TOKEN_UNIT.match(texts[i + 1]))
        tokens = next(by_unit, None)
    unsaid = [i for i in range(count) if varying[i] and i not in (step, tokens) and words[i] not in OTHER_WORDS]
    if step is None and unsaid and len(rows) >= MIN_UNNAMED:
        pairs = [(a, b) for a in unsaid for b in unsaid if a != b] if tokens is None else []
        step, tokens = next((pair for pair in pairs if _grows_with(rows, *pair)), (unsaid[-1], tokens))
    elif step is not None and tokens is None and len(rows) >= MIN_UNNAMED:
        tokens = next((i for i in unsaid if _grows_with(rows, step, i)), None)
    if step is None:
        return None
    kinds: dict[int, Literal["step", "tokens"]] = {step: "step"}
    if tokens is not None:
        kinds[tokens] = "tokens"
    return [_Column(before=texts[i], after=texts[i + 1], kind=kinds.get(i, "fixed")) for i in range(count)]


def _word(text: str) -> str:
    """The word right before a number: `global_step`, `stage1-step` and `Step_` all end in one of `step`."""
    found = re.search(r"([A-Za-z]+)[-_.]?$", text)
    return found[1].lower() if found is not None else ""


def _grows_with(rows: list[tuple[str, ...]], step: int, tokens: int) -> bool:
    """Whether one number is another one times a constant, as far as rounding lets one see."""
    pairs = [(int(row[step]), int(row[tokens])) for row in rows[:MAX_COMPARED]]
    return any(_tokens_a_step(pairs, per, rounding) is not None for per in (1, 10**9) for rounding in ROUNDINGS)


def _series_of(
    texts: tuple[str, ...], columns: list[_Column], members: Mapping[str, tuple[str, ...]]
) -> list[NamedSeries]:
    """The series of one form: one for each set of values that its other numbers have, and each width of its steps."""
    apart: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = defaultdict(dict)
    for name, digits in members.items():
        fixed = tuple(text for text, column in zip(digits, columns, strict=True) if column.kind == "fixed")
        apart[fixed][name] = digits
    found = []
    for group in apart.values():
        waiting = dict(group)
        while waiting:
            widths = [_width([row[i] for row in waiting.values()]) for i in range(len(columns))]
            taken = {
                name: row
                for name, row in waiting.items()
                if all(
                    column.kind == "fixed" or f"{int(text):0{width}d}" == text
                    for text, column, width in zip(row, columns, widths, strict=True)
                )
            }
            if not taken:  # widths that contradict each other: those that are written as the first one is
                form = _form(next(iter(waiting.values())))
                taken, widths = {name: row for name, row in waiting.items() if _form(row) == form}, form
            found.append(_series(texts, columns, widths, taken))
            waiting = {name: row for name, row in waiting.items() if name not in taken}
    return found


def _form(row: tuple[str, ...]) -> list[int]:
    """Digits of each number that is filled with zeros, 0 for the others."""
    return [_width([text]) for text in row]


def _width(numbers: list[str]) -> int:
    """Digits to which numbers are filled with zeros: 0 when they are not."""
    return max((len(text) for text in numbers if len(text) > 1 and text.startswith("0")), default=0)


def _series(
    texts: tuple[str, ...], columns: list[_Column], widths: list[int], members: Mapping[str, tuple[str, ...]]
) -> NamedSeries:
    first = next(iter(members.values()))
    at = next(i for i, column in enumerate(columns) if column.kind == "step")
    per = columns[at].per
    steps = {name: int(row[at]) * per for name, row in members.items()}
    fields = [
        first[i] if column.kind == "fixed" else f"{{{column.kind}{f':0{widths[i]}d' if widths[i] else ''}}}"
        for i, column in enumerate(columns)
    ]
    pattern = texts[0] + "".join(value + text for value, text in zip(fields, texts[1:], strict=True))
    run = _run_name("".join(texts[i] + first[i] for i in range(at)) + texts[at])
    label = StepLabel(per=per)
    count = next((i for i, column in enumerate(columns) if column.kind == "tokens"), None)
    if count is None:
        return NamedSeries(run=run, pattern=pattern, steps=steps, step_label=label)
    tokens = _token_label([(steps[name], int(row[count])) for name, row in members.items()], columns[count].per)
    if tokens is None:
        return NamedSeries(run=run, pattern="", steps={}, named=steps)
    return NamedSeries(run=run, pattern=pattern, steps=steps, step_label=label, tokens=tokens)


ROUNDINGS: tuple[Literal["nearest", "floor", "ceil"], ...] = ("nearest", "floor", "ceil")


def _token_label(pairs: Sequence[tuple[int, int]], per: int) -> TokenLabel | None:
    """How `(step, number)` pairs count tokens: at one rate and one rounding for all, else None."""
    for unit in (per,) if per > 1 else (1, 10**9):
        for rounding in ROUNDINGS:
            rate = _tokens_a_step(pairs, unit, rounding)
            if rate is not None:
                return TokenLabel(per=unit, round=rounding, nominal=StepFunction[int](((0, rate),)))
    return None


def _tokens_a_step(pairs: Iterable[tuple[int, int]], per: int, rounding: str) -> int | None:
    """A rate at which all numbers come out: of those that do, the one with the most factors of two, as batches have."""
    low, high = Fraction(1), Fraction(1 << 50)  # low <= rate < high
    for step, number in pairs:
        below, above = {"floor": (0, 2), "ceil": (-2, 0), "nearest": (-1, 1)}[rounding]
        if step == 0:
            if number != 0:
                return None
            continue
        start, end = Fraction((2 * number + below) * per, 2 * step), Fraction((2 * number + above) * per, 2 * step)
        if rounding == "ceil":  # the upper end is reached, the lower one is not
            start, end = start + Fraction(1, 2 * step), end + Fraction(1, 2 * step)
        low, high = max(low, start), min(high, end)
    if low >= high:
        return None
    for power in range(50, -1, -1):
        rate = -(-low // (1 << power)) * (1 << power)
        if rate < high:
            return int(rate)
    return None


def _run_name(prefix: str) -> str:
    """What is left of the text before a step without the word for it: `stage1-step` is of `stage1`."""
    words = [word for word in re.split(r"[-_.]+", prefix) if word]
    while words and words[-1].lower() in (*STEP_WORDS, "global", "at"):
        words.pop()
    kept = "-".join(words) if words else ""
    name = re.sub(r"[^A-Za-z0-9._-]", "", kept).lstrip("._-")
    return name[:80] or FIRST_RUN


def _joined(found: list[NamedSeries]) -> list[NamedSeries]:
    """Single names join the largest series of their run, when their step is free there."""
    largest: dict[str, NamedSeries] = {}
    for series in sorted(found, key=lambda s: -len(s.steps) - len(s.named)):
        largest.setdefault(series.run, series)
    taken = {run: {*home.steps.values(), *home.named.values()} for run, home in largest.items()}
    kept: list[NamedSeries] = []
    extra: dict[str, dict[str, int]] = defaultdict(dict)
    for series in found:
        (name, step), *others = [*series.steps.items(), *series.named.items()]
        if largest[series.run] is series or others or step in taken[series.run]:
            kept.append(series)
        else:
            extra[series.run][name] = step
            taken[series.run].add(step)
    return [replace(s, named={**s.named, **extra[s.run]}) if largest[s.run] is s else s for s in kept]


def _told_apart(found: list[NamedSeries], rest: list[str]) -> tuple[list[NamedSeries], list[str]]:
    """Series with names that differ; two names for one step of a series leave the second without a place."""
    kept, used = [], set()
    for series in sorted(found, key=lambda s: (-len(s.steps) - len(s.named), s.pattern)):
        members = {**series.steps, **series.named}
        if len(members) == 1 and series.run in used:
            rest += members
            continue
        run, number = series.run, 2
        while run in used:
            run, number = f"{series.run}-{number}", number + 1
        used.add(run)
        placed = set(series.steps.values())
        named: dict[str, int] = {}
        for name, step in series.named.items():
            if step in placed:
                rest.append(name)
            else:
                named[name] = step
                placed.add(step)
        kept.append(replace(series, run=run, named=named))
    kept.sort(key=lambda s: (s.run != FIRST_RUN, s.run))
    return kept, sorted(rest)


def compressed(steps: Iterable[int]) -> tuple[int | StepRange, ...]:
    """The same steps, those at one distance as ranges."""
    ordered = sorted(set(steps))
    found: list[int | StepRange] = []
    at = 0
    while at < len(ordered):
        end = min(at + 2, len(ordered))
        every = ordered[end - 1] - ordered[at]
        while end < len(ordered) and ordered[end] - ordered[end - 1] == every:
            end += 1
        if end - at < MIN_RANGE:
            found.append(ordered[at])
            at += 1
        else:
            found.append(StepRange(first=ordered[at], last=ordered[end - 1], every=every))
            at = end
    return tuple(found)
