"""Digests of the code that each stage runs, for DVC to depend on instead of the scripts themselves.

A stage's digest covers its module and every `open360` module that it can import, as syntax trees without docstrings
(comments and layout do not count), and the pinned versions of the libraries that those modules import. So a comment
re-runs nothing, and a change of the evaluation re-runs no training.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path

from open360.schema.errors import IntegrityError, Open360Error
from open360.schema.serialization import canonical_json

STAGES = (
    "sources",
    "documents",
    "tokenizer",
    "pack",
    "initialize",
    "train",
    "evaluate",
    "manifest",
    "validate",
    "report",
)
# What an error text, a progress bar or an exit code looks like changes no output.
NOT_CODE_OF_OUTPUTS = frozenset({"open360.pipelines.stage", "open360.pipelines.plan", "open360.pipelines.code_digests"})


class StaleCodeError(Open360Error):
    """`code.json` does not describe the code that is there."""

    def __init__(self, path: str, stages: list[str]) -> None:
        self.path, self.stages = path, stages
        super().__init__(
            f"{path}: the code of stage {', '.join(stages)} has changed since the digests were written; "
            "run 'python -P -m open360.pipelines.plan' and commit the result"
        )


def _tree(node: object) -> object:
    """A syntax tree as plain data, the same for every Python version: empty fields and docstrings are left out."""
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.AST):
        fields = {}
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list) and _starts_with_docstring(node):
                value = value[1:]
            plain = _tree(value)
            if plain not in (None, []) and name not in ("type_comment", "type_ignores"):
                fields[name] = plain
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [_tree(item) for item in node]
    return node  # a name, a number of dots, or nothing


def _starts_with_docstring(node: ast.AST) -> bool:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None


def _source_of(module: str) -> Path | None:
    """The file of an `open360` module, found without importing it (an import of the trainer would load torch)."""
    parts = module.split(".")
    package = importlib.util.find_spec(".".join(parts[:2])) if len(parts) > 1 else None
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(next(iter(package.submodule_search_locations)), *parts[2:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _module(module: str) -> tuple[str, frozenset[str], frozenset[str]] | None:
    """`(digest of the tree, open360 modules it imports, other top-level packages it imports)`."""
    path = _source_of(module)
    if path is None:
        return None
    tree = ast.parse(path.read_bytes())
    ours, others = set(), set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("open360."):
                ours.add(name)
            elif name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("open360"):
                others.add(name.split(".")[0])
    return hashlib.sha256(canonical_json(_tree(tree))).hexdigest(), frozenset(ours), frozenset(others)


def _closure(module: str) -> tuple[dict[str, str], set[str]]:
    digests: dict[str, str] = {}
    libraries: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in digests or name in NOT_CODE_OF_OUTPUTS:
            continue
        found = _module(name)
        if found is None:
            continue
        digests[name] = found[0]
        libraries |= found[2]
        waiting += sorted(found[1])
    return digests, libraries


def _pins(lock: str) -> dict[str, str]:
    """`{distribution: pinned version}` of a constraints file."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock, flags=re.MULTILINE)
    return {_normal(name): version for name, version in pins}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def check_environment(stage: str, lock: str) -> None:
    """Raise IntegrityError when a library that the stage imports is not installed as `lock` pins it."""
    pins = _pins(lock)
    for name in _libraries(_closure(f"open360.pipelines.{stage}_stage")[1]):
        if name in pins:
            found = importlib.metadata.version(name).split("+")[0]
            if found != pins[name]:
                raise IntegrityError(
                    f"the environment, {name}",
                    f"{pins[name]} as the lock pins it",
                    found,
                    "install what the lock pins, or correct the lock and run 'python -P -m open360.pipelines.plan'",
                )


# It reads the metadata of everything that is installed.
_distributions = cache(importlib.metadata.packages_distributions)


def _libraries(imported: set[str]) -> list[str]:
    """Distributions of imported top-level packages."""
    distributions = _distributions()
    return sorted({_normal(d) for package in imported for d in distributions.get(package, [package])})


def code_digest(stage: str, lock: str) -> str:
    """sha256 of a stage's code as it is, with the versions that `lock` (a constraints file's text) pins."""
    pins = _pins(lock)
    modules, libraries = _closure(f"open360.pipelines.{stage}_stage")
    versions = {name: pins.get(name, "unpinned") for name in _libraries(libraries)}
    return hashlib.sha256(canonical_json({"modules": modules, "libraries": versions})).hexdigest()


def code_digests(lock: str) -> dict[str, str]:
    """`{stage: sha256}` of every stage: the content of `code.json`."""
    return {stage: code_digest(stage, lock) for stage in STAGES}
