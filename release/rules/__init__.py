"""The rules, one class each, in the order of their codes. `RULES` is the whole list: nothing registers itself."""

from __future__ import annotations

from open360.release.rules.documents import ManifestMissing, ManifestOfAnotherSpec, ManifestUnreadable, SpecUnreadable
from open360.release.rules.integrity import AlteredFile, ExtraFile, MissingFile, WrongSize
from open360.release.rules.rule import CannotCheckError, Rule

__all__ = ["RULES", "CannotCheckError", "Rule"]

RULES: tuple[Rule, ...] = (
    SpecUnreadable(),
    ManifestMissing(),
    ManifestUnreadable(),
    ManifestOfAnotherSpec(),
    MissingFile(),
    ExtraFile(),
    WrongSize(),
    AlteredFile(),
)
