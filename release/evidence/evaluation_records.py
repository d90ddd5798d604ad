"""Evaluation records: files in which a harness noted scores, read bounded and believed in nothing.

Shapes that are read:

* lm-evaluation-harness to 0.3: `{results: {task: {acc, acc_stderr}}, versions: {task: 0}, config: {model_args, …}}`
* lm-evaluation-harness from 0.4: the same with keys such as `acc,none` and `acc_stderr,none`, `git_hash`,
  `lm_eval_version`, `n-shot`, `n-samples`; `model_args` may be an object
* one file for many checkpoints: `{checkpoint: {metric: number}}`, `{checkpoint: {task: {metric: number}}}`, or an
  object of the shapes above for each checkpoint
* our own: `{checkpoint, task, metrics: {metric: number}}`

What is none of these, or holds a text where a number belongs (`running...`), is a problem of the file, never an error
of the reader.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from open360.schema.errors import SpecError
from open360.schema.serialization import parse_json

MAX_RECORD_BYTES = 16 << 20
MAX_RECORDS = 200_000
MAX_PROBLEMS = 20

_ARGUMENT = re.compile(r"(?:^|,)\s*(pretrained|revision)=([^,]*)")
_NO_FILTER = ",none"
_STDERR = "_stderr"
_MARGINS = ("alias", "name", "sample_len", "samples", "sample_count")  # keys beside the metrics of a task


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """One score. `task` and `checkpoint` are None where the file does not say them."""

    metric: str
    value: float
    task: str | None = None
    stderr: float | None = None
    shots: int | None = None
    samples: int | None = None
    harness_commit: str | None = None
    harness_version: str | None = None
    task_version: str | None = None
    model: str | None = None
    revision: str | None = None
    checkpoint: str | None = None


@dataclass(frozen=True, kw_only=True)
class RecordFile:
    """What a file holds: its records, and what in it could not be read, each with its place."""

    records: tuple[EvaluationRecord, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass
class _Reader:
    records: list[EvaluationRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def wrong(self, place: str, expected: str, found: object) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{place}: expected {expected}, found {_told(found)}")

    def read(self, plain: Any, checkpoint: str | None, place: str) -> None:
        """An object of any known shape."""
        if not isinstance(plain, dict) or not plain:
            self.wrong(place or "the file", "an object with results", plain)
        elif isinstance(plain.get("results"), dict):
            self._read_dump(plain, checkpoint, place)
        elif "results" in plain:
            self.wrong(f"{place}/results", "an object of tasks", plain["results"])
        elif isinstance(plain.get("metrics"), dict):
            told = {"task": _text(plain.get("task")), "checkpoint": checkpoint or _text(plain.get("checkpoint"))}
            self._read_metrics(plain["metrics"], told, f"{place}/metrics")
        elif checkpoint is None and all(isinstance(value, dict | str) for value in plain.values()):
            for name, value in plain.items():
                self._read_checkpoint(value, str(name), f"{place}/{name}")
        else:
            self.wrong(place or "the file", "'results', 'metrics' or an object for each checkpoint", sorted(plain))

    def _read_checkpoint(self, plain: Any, name: str, place: str) -> None:
        if not isinstance(plain, dict) or "results" in plain or isinstance(plain.get("metrics"), dict):
            self.read(plain, name, place)
        elif plain and all(isinstance(value, dict) for value in plain.values()):
            for task, metrics in plain.items():
                self._read_metrics(metrics, {"task": str(task), "checkpoint": name}, f"{place}/{task}")
        else:
            self._read_metrics(plain, {"checkpoint": name}, place)

    def _read_dump(self, plain: dict[str, Any], checkpoint: str | None, place: str) -> None:
        """An object as lm-evaluation-harness writes it."""
        config = _object(plain.get("config"))
        told: dict[str, Any] = {
            "checkpoint": checkpoint,
            "harness_commit": _text(plain.get("git_hash")),
            "harness_version": _text(plain.get("lm_eval_version")),
            **_model_of(config, plain),
        }
        for task, metrics in plain["results"].items():
            at = f"{place}/results/{task}"
            if not isinstance(metrics, dict):
                self.wrong(at, "an object of metrics", metrics)
                continue
            version = _object(plain.get("versions")).get(task)
            of_task = {
                "task": str(task),
                "task_version": str(version) if isinstance(version, int | float | str) else None,
                "shots": _count(_object(plain.get("n-shot")).get(task, config.get("num_fewshot"))),
                "samples": _count(_object(_object(plain.get("n-samples")).get(task)).get("effective")),
            }
            self._read_metrics(metrics, told | of_task, at)

    def _read_metrics(self, metrics: Mapping[str, Any], told: Mapping[str, Any], place: str) -> None:
        for key, value in metrics.items():
            name, _, variant = str(key).partition(",")
            if name.strip() in ("", *_MARGINS) or name.endswith(_STDERR):
                continue
            number = _number(value)
            if number is None:
                self.wrong(f"{place}/{key}", "a finite number", value)
            elif len(self.records) < MAX_RECORDS:
                stderr = metrics.get(f"{name}{_STDERR},{variant}" if variant else f"{name}{_STDERR}")
                metric = str(key).removesuffix(_NO_FILTER)
                self.records.append(EvaluationRecord(metric=metric, value=number, stderr=_number(stderr), **told))


def read_records(data: bytes, file: str) -> RecordFile:
    """The records of a file. Never raises for what is in it."""
    try:
        plain = parse_json(data, file, MAX_RECORD_BYTES)
    except SpecError as error:
        return RecordFile(problems=(_not_json(data, error),))
    reader = _Reader()
    reader.read(plain, None, "")
    if not reader.records and not reader.problems:
        reader.problems.append("the file: expected scores, found none")
    return RecordFile(records=tuple(reader.records), problems=tuple(reader.problems))


def _not_json(data: bytes, error: SpecError) -> str:
    message = error.problems[0].message
    if len(data) <= 60 and b"\n" not in data.strip():
        return f"{message}, found {_told(data.decode('utf-8', 'replace').strip())}"
    return message


def _model_of(config: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, str | None]:
    """The model and the revision that were measured, as the record states them."""
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        arguments = {match[1]: match[2].strip() for match in _ARGUMENT.finditer(arguments)}
    stated = _object(arguments)
    model = _text(stated.get("pretrained")) or _text(plain.get("model_name"))
    revision = _text(stated.get("revision")) or _text(config.get("model_revision"))
    return {"model": model, "revision": revision}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _told(value: object) -> str:
    """A value in a few words."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = str(value) if not isinstance(value, str) else f"the text '{value}'"
    return text if len(text) <= 80 else f"{text[:77]}…"


def stream_of(records: tuple[EvaluationRecord, ...], task: str, metric: str) -> Iterator[EvaluationRecord]:
    """The records of one metric of a task; of its parts, where only these were noted (`hendrycksTest-anatomy`)."""
    named = [record for record in records if record.metric == metric or record.metric.split(",")[0] == metric]
    exact = [record for record in named if record.task in (task, None)]
    parts = (record for record in named if record.task is not None and record.task.startswith((f"{task}-", f"{task}_")))
    yield from exact or parts
