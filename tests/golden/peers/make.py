"""Makes the golden values beside this file with the code of the trainers that others wrote: `python make.py --help`.

Run by hand, rarely: see README.md. Each peer runs in an environment of its own, so this file imports nothing of open360
and, at the top, nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
TORCH = "torch==2.13.0"  # never without a version: the newest one pulls gigabytes for GPUs

PACKAGES = {
    "olmo": [TORCH, "numpy==1.26.4", "ai2-olmo==0.6.0", "datasets==3.6.0", "pyarrow==18.1.0"],
    "olmo_core": [TORCH, "numpy==2.4.6", "ai2-olmo-core==3.0.0"],
    "megatron_core": [TORCH, "numpy==2.4.6", "megatron-core==0.16.1"],
    "datatrove": [TORCH, "numpy==2.4.6", "datatrove==0.10.1"],
    "gpt_neox": ["numpy==2.4.6"],
    "amber_train": ["numpy==2.4.6"],
}
CHECKOUTS = {
    "gpt_neox": ("https://github.com/EleutherAI/gpt-neox", "ea7aefd8f8e183256992d9fede4d7c71a46d67a5"),
    "amber_train": ("https://github.com/LLM360/amber-train", "64bc595600324ebb7d6d559af76a8702f0872776"),
}


def run_here(peer: str, source: Path | None) -> None:
    """Make one file, inside the peer's environment."""
    sys.path.insert(0, str(HERE))
    import answers

    values = getattr(answers, peer)(*([source] if source is not None else []))
    made_with = {wanted.split("==")[0]: metadata.version(wanted.split("==")[0]) for wanted in PACKAGES[peer]}
    if peer in CHECKOUTS:
        made_with[CHECKOUTS[peer][0]] = CHECKOUTS[peer][1]
    text = json.dumps({"made_with": made_with, **values}, sort_keys=True, separators=(",", ":"))
    (HERE / f"{peer}.json").write_text(text + "\n")


def main() -> None:
    """Make an environment for each peer, and run this file in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"{', '.join(PACKAGES)}; all without")
    parser.add_argument("--work", type=Path, required=True, help="folder of the environments, kept for the next time")
    parser.add_argument("--checkout", action="append", default=[], metavar="PEER=PATH", help="sources already here")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    checkouts = {peer: Path(path) for peer, path in (item.split("=", 1) for item in told.checkout)}
    if told.here:
        run_here(told.peers[0], checkouts.get(told.peers[0]))
        return
    for peer in told.peers or PACKAGES:
        python = told.work / peer / "bin" / "python"
        if not python.exists():
            venv.create(told.work / peer, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[peer]], check=True)
        command = [python, "-P", __file__, peer, "--here", "--work", told.work]
        if peer in CHECKOUTS:
            source = checkouts.get(peer, told.work / f"{peer}-source")
            address, commit = CHECKOUTS[peer]
            if not source.exists():
                subprocess.run(["git", "clone", "-q", address, source], check=True)
                subprocess.run(["git", "-C", source, "checkout", "-q", commit], check=True)
            command += ["--checkout", f"{peer}={source}"]
        subprocess.run(command, check=True)
        sys.stderr.write(f"{peer}: {(HERE / f'{peer}.json').stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
