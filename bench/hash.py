"""Hashing against `openssl dgst -sha256`, on one core and on all: `python -P bench/hash.py [MiB]`.

One file a core, in the page cache, so that the disk is no part of it. The wall clock is the measure, since both sides
do their work in other threads or processes. The cost of the tensors digest is shown beside: both in one read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from open360.release.hashing import hash_file, hash_files, hash_tensor_file

sys.path.append(str(Path(__file__).resolve().parent))
from ratios import Row, compare, table

LIMIT = 0.9
REPEATS = 9


def _openssl(paths: list[Path]) -> None:
    """One process a file, all at once."""
    running = [subprocess.Popen(["openssl", "dgst", "-sha256", path], stdout=subprocess.DEVNULL) for path in paths]
    for process in running:
        if process.wait() != 0:
            raise SystemExit("openssl failed")


def rows(mebibytes: int) -> list[Row]:
    """The lines of the table."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{index}.bin") for index in range(cores)]
        for index, path in enumerate(paths):
            path.write_bytes(np.random.default_rng(index).bytes(mebibytes << 20))
        tensors = Path(folder, "model.safetensors")
        save_file({f"layer.{i:02d}": np.zeros((mebibytes, 1 << 14), np.float32) for i in range(16)}, tensors)
        one = paths[:1]
        size = mebibytes << 20
        clock = time.perf_counter
        return [
            compare("sha256, one file", lambda: hash_file(one[0]), lambda: _openssl(one), LIMIT,
                    repeats=REPEATS, clock=clock, amount=size, unit="B"),
            compare(f"sha256, {cores} files on {cores} cores", lambda: list(hash_files(paths)),
                    lambda: _openssl(paths), LIMIT, repeats=REPEATS, clock=clock, amount=size * cores, unit="B"),
            compare("sha256 and tensors digest in one read / two calls of openssl", lambda: hash_tensor_file(tensors),
                    lambda: (_openssl([tensors]), _openssl([tensors])), LIMIT,
                    repeats=REPEATS, clock=clock, amount=tensors.stat().st_size, unit="B"),
        ]  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(table(rows(int(sys.argv[1]) if len(sys.argv) > 1 else 256)))
