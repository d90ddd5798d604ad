"""The rule about published configurations of trainers: they state what the run declares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from open360.release.evidence.addresses import AddressError
from open360.release.evidence.configuration_files import (
    MAX_CONFIGURATION_BYTES,
    ConfigurationError,
    number_of,
    read_configuration,
    value_at,
)
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.hub_objects import Repo
from open360.release.rules.rule import SPEC_READ, CannotCheckError, Rule
from open360.release.survey import revision_root
from open360.release.targets import FolderTarget
from open360.release.view import ReleaseView
from open360.schema.model import StepFunction
from open360.schema.run import PublishedConfiguration, Run
from open360.schema.schedule import ScheduleError, seq_len_of, tokens_at


class ConfigurationContradicts(Rule):
    """The published configuration states something else than the run.

    ## What it does
    Reads the configuration file that the run names (`configuration`, JSON or YAML) and compares the keys that `states`
    lists with the run: batch, sequence length, steps, seed, tokens, learning rate. A value that changed during the run
    is compared with all it was.

    ## Why is this bad?
    Who trains again, or works out which rows a step saw, uses the configuration, and gets another training.

    ## Example
    `global_train_batch_size: 2048` in the file, and steps and tokens that fit a batch of 2160 only.

    ## Remedy
    Publish the configuration that ran, values of the command line included; or correct the spec.

    ## Seen in practice
    The batch of OLMo 0724 was overridden on the command line, so the uploaded configuration says another; that of
    OLMo-7B says 2048, and the names of its checkpoints fit 2160.
    """

    code = "RUN001"
    name = "configuration-contradicts"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.RUN

    def claims(self, release: ReleaseView) -> int:
        """Runs with a configuration."""
        return sum(run.configuration is not None for run in release.spec.all_runs())

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each key."""
        reasons, looked = [], 0
        for run in release.spec.all_runs():
            if run.configuration is None:
                continue
            place = _configuration_path(release, run, run.configuration)
            at = release.place(f"{release.run_pointer(run.name)}/configuration")
            fix = "publish the configuration that ran, or correct the spec"
            try:
                plain = read_configuration(_read(release, place), place)
                looked += 1
            except AddressError as error:
                reasons.append(str(error))
                continue
            except ConfigurationError as error:
                looked += 1
                yield self.finding(at, run.name, f"its configuration {place} cannot be read: {error}", fix)
                continue
            for field, key in run.configuration.states.items():
                problem = _difference(release, run, field, plain, key)
                if problem is not None:
                    yield self.finding(at, run.name, f"{problem} (run '{run.name}', {place})", fix)
        if reasons and not looked:
            raise CannotCheckError(f"no configuration could be read: {reasons[0]}")


def _configuration_path(release: ReleaseView, run: Run, configuration: PublishedConfiguration) -> str:
    if configuration.url is not None:
        return configuration.url
    path = configuration.path or ""
    if release.foreign is None or run.hub.model is None:
        return path
    return f"{revision_root(Repo(id=run.hub.model, type='model'), 'main')}/{path}"


def _read(release: ReleaseView, place: str) -> bytes:
    if place.startswith(("http://", "https://")):
        if isinstance(release.target, FolderTarget):
            raise AddressError(place, "a folder is looked at without a network")
        return release.addresses.read(place, MAX_CONFIGURATION_BYTES)
    data = release.read(place, MAX_CONFIGURATION_BYTES)
    if data is None:
        raise ConfigurationError(release.unreadable.get(place, "it is not there"))
    return data


def _difference(release: ReleaseView, run: Run, field: str, plain: Any, key: str) -> str | None:
    """What is wrong with the value at `key`; None when it is that of the run, or the run does not say."""
    try:
        found = value_at(plain, key)
    except ConfigurationError as error:
        return f"{error}, which is said to state '{field}'"
    expected = _values(release, run, field)
    if not expected or any(_equal(value, found) for value in expected):
        return None
    told = " or ".join(str(value) for value in expected)
    return f"'{key}' is {str(found)[:80]}, the run's {field} is {told}"


def _values(release: ReleaseView, run: Run, field: str) -> list[Any]:
    """Values that a field of a run had; none when it is not declared."""
    if field == "seq_len":
        return _computed(lambda: seq_len_of(run, release.spec.corpus_of(run)))
    if field == "tokens":
        steps = run.steps
        return _computed(lambda: tokens_at(run, release.spec.corpus_of(run), steps)) if steps is not None else []
    here: Any = run
    for part in field.split("."):
        here = (
            here.get(part) if isinstance(here, dict) else getattr(here, part, None) if _is_field(here, part) else None
        )
    if isinstance(here, StepFunction):
        return list(dict.fromkeys(value for _, value in here.root))
    return [here] if isinstance(here, str | int | float | tuple) else []


def _is_field(model: Any, name: str) -> bool:
    return name in getattr(type(model), "model_fields", {})


def _computed(compute: Callable[[], int]) -> list[Any]:
    try:
        return [compute()]
    except ScheduleError:
        return []


def _equal(expected: Any, found: Any) -> bool:
    if isinstance(expected, tuple):
        same = isinstance(found, list) and len(found) == len(expected)
        return same and all(_equal(a, b) for a, b in zip(expected, found, strict=True))
    if isinstance(expected, int | float):
        number = number_of(found)
        return number is not None and math.isclose(number, expected, rel_tol=1e-9)
    return bool(str(expected) == str(found))
