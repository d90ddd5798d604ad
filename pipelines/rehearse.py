"""`make release`: build the reference release, validate it, publish it to a local Hub, pull one checkpoint's data back.

Each part is the command that a user would type; this module runs them in order, checks what comes out, and closes
with a table.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from open360.pipelines.plan import check_fresh
from open360.release.local_hub import running_hub
from open360.release.provenance import PROVENANCE_FILE
from open360.schema.errors import IntegrityError, Open360Error
from open360.schema.layout import MANIFEST_FILE, REPORT_FILE, SPEC_FILE
from open360.schema.manifest import Manifest
from open360.schema.serialization import load_manifest, load_spec, parse_json

HUB_FOLDER = "hub"
PULLED = "ckpt_003"
README_DIGEST = re.compile(r"last checkpoint has the sha256\s+`([0-9a-f]{64})`")
console = Console(stderr=True)


def run_command(arguments: list[str], extra: dict[str, str] | None = None) -> None:
    """Run one command in the open, and stop with its exit code when it fails."""
    shown = " ".join([*(f"{key}={value}" for key, value in (extra or {}).items()), *arguments])
    console.print(f"\n[bold]$ {shown}[/bold]", highlight=False)
    started = time.monotonic()
    code = subprocess.run(arguments, env={**os.environ, **(extra or {})}, check=False).returncode
    if code != 0:
        raise SystemExit(code)
    console.print(f"  done in {time.monotonic() - started:.0f} s", style="dim")


def pulled_batches_are_those_of_the_trace(pulled: Path, manifest: Manifest, root: Path) -> int:
    """Compare the batch digests of the pulled data with the train log's. Returns the number of batches.

    Raises IntegrityError when one differs.
    """
    run = manifest.runs[0]
    trace = run.checkpoint(PULLED).trace
    if trace is None:
        raise Open360Error(f"checkpoint '{PULLED}' has no trace in {MANIFEST_FILE}; run 'dvc repro'")
    logged = {
        entry["step"]: entry["batch_sha256"] for entry in map(json.loads, (root / trace.path).read_text().splitlines())
    }
    provenance = parse_json((pulled / PROVENANCE_FILE).read_bytes(), PROVENANCE_FILE)
    found = {int(step): digest for step, digest in provenance["batches"].items()}
    if found != logged:
        raise IntegrityError(
            f"the pulled data of {PULLED}", "the batches of the train log", "others", "see 'open360 validate .'"
        )
    return len(found)


def last_checkpoint_digest(manifest: Manifest) -> str:
    """sha256 of the last checkpoint's weights file."""
    last = manifest.runs[0].checkpoints[-1]
    return next(record.sha256 for record in last.files if record.path == "model.safetensors")


def closing_table(manifest: Manifest, published: Manifest, report: dict[str, object], batches: int) -> Table:
    """What was built, found and published, in one table."""
    run = manifest.runs[0]
    table = Table(title=f"{manifest.name} {manifest.version}", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    losses = [c.metrics["loss"] for c in run.checkpoints if "loss" in c.metrics]
    rows = {
        "chunks": f"{len(run.chunks)} of {run.chunks[0].rows} rows",
        "checkpoints": f"{len(run.checkpoints)}, {run.checkpoints[0].name} to {run.checkpoints[-1].name}",
        "tokens": f"{run.tokens:,}",
        "held-out loss": f"{losses[0]:.4f} -> {losses[-1]:.4f} nats",
        "evidence level": str(report["level"]),
        "findings": str(len(report["findings"])),  # type: ignore[arg-type]
        f"pulled {PULLED}": f"{batches} batches, equal to the train log",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for publication in published.published.repositories if published.published is not None else ():
        table.add_row(
            f"{publication.repo_type} repo", f"{publication.repo} @ {publication.revision} = {publication.commit[:12]}"
        )
    table.add_row("revisions", f"{len(run.checkpoints)} checkpoint branches")
    table.add_row("sha256 of last checkpoint", last_checkpoint_digest(manifest))
    return table


def compare_with_readme(root: Path, digest: str) -> None:
    """Raise IntegrityError when the README states another digest of the last checkpoint."""
    stated = README_DIGEST.search((root / "README.md").read_text())
    if stated is None or stated.group(1) != digest:
        raise IntegrityError(
            "README.md, digest of the last checkpoint",
            digest,
            stated.group(1) if stated else "none",
            "either the build is not the stated one on this machine, or the README is stale",
        )


def main(root: Path) -> None:
    """Run the whole rehearsal in the release folder `root`."""
    spec = load_spec((root / SPEC_FILE).read_bytes(), SPEC_FILE)
    for stage in ("train", "validate"):
        check_fresh(spec, root, stage)
    organisation = (spec.runs[0].hub.model or "open360/x").split("/")[0]
    run_command(["dvc", "repro"])
    run_command(["open360", "validate", "."])
    with running_hub(root / HUB_FOLDER) as hub:
        at_hub = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "rehearsal"}
        run_command(["open360", "publish", ".", "--to", organisation], at_hub)
        target = f"{organisation}/{spec.name}"
        pulled = Path(HUB_FOLDER, "pulled")
        run_command(
            ["open360", "pull", target, "--checkpoint", PULLED, "--what", "data", "--force", "-o", str(pulled)], at_hub
        )
        run_command(
            ["open360", "pull", target, "--what", "manifest", "--force", "-o", str(pulled) + "-manifest"], at_hub
        )
    manifest = load_manifest((root / MANIFEST_FILE).read_bytes())
    published = load_manifest(Path(str(pulled) + "-manifest", MANIFEST_FILE).read_bytes())
    batches = pulled_batches_are_those_of_the_trace(pulled, manifest, root)
    digest = last_checkpoint_digest(manifest)
    report = parse_json((root / REPORT_FILE).read_bytes(), REPORT_FILE)
    Console(width=max(console.width, 100)).print(closing_table(manifest, published, report, batches))
    compare_with_readme(root, digest)
    console.print("equal to the digest that README.md states", style="green")
    console.print(f"the local Hub keeps it: open360 hub serve {HUB_FOLDER}", style="dim", highlight=False)


if __name__ == "__main__":
    try:
        main(Path.cwd())
    except Open360Error as error:
        sys.exit(f"error: {error}")
