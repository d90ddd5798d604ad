"""What is worked out once for a release, for all rules that ask, and for all that one rule asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from open360.release.listed_view import ListedView

View = TypeVar("View", bound=ListedView)
Found = TypeVar("Found")


def once(function: Callable[[View], Found]) -> Callable[[View], Found]:
    """Keep what a function of a release finds as long as the view of the release lives; what it raises is not kept."""
    kept: WeakKeyDictionary[View, Found] = WeakKeyDictionary()

    @wraps(function)
    def ask(release: View) -> Found:
        if release not in kept:
            kept[release] = function(release)
        return kept[release]

    return ask
