"""What every stage shares: read the spec, check the committed tables, map errors to exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from open360.pipelines.plan import check_fresh
from open360.schema.errors import Open360Error, SpecError
from open360.schema.layout import SPEC_FILE
from open360.schema.serialization import load_spec
from open360.schema.spec import ReleaseSpec

Work = Callable[[ReleaseSpec, Path, list[str]], int | None]


def run_stage(stage: str, work: Work, arguments: list[str]) -> int:
    """Run `work(spec, release folder, arguments)` for a stage that DVC started in the release folder.

    Returns the exit code: what `work` returns or 0, 2 for an unreadable spec, 3 when the disk or the network failed,
    1 for any other error of ours. A bug keeps its traceback and gives 70.
    """
    root = Path.cwd()
    try:
        spec = load_spec((root / SPEC_FILE).read_bytes(), SPEC_FILE)
        check_fresh(spec, root, stage)
        return work(spec, root, arguments) or 0
    except SpecError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Open360Error as error:
        sys.stderr.write(f"{stage}: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(
            f"{stage}: {error.filename or 'I/O'}: {error.strerror}; free the disk or fix access, then 'dvc repro'\n"
        )
        return 3
    except Exception:  # noqa: BLE001  the outermost frame: a bug is reported as one
        traceback.print_exc()
        return 70


def show_progress(what: str) -> Callable[[int, int, float], None]:
    """A callback `(done, total, value)` that writes a line a tenth of the way; DVC passes lines on as they come."""
    last = -1

    def progress(done: int, total: int, value: float) -> None:
        nonlocal last
        tenth = 10 * done // max(total, 1)
        if tenth != last:
            last = tenth
            sys.stderr.write(f"  {what}: {done}/{total}  {value:.4f}\n")
            sys.stderr.flush()

    return progress
