"""Stage `manifest`: tie every file, chunk and checkpoint to digests, in `manifest.json` (built form)."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.release.building import build_manifest
from open360.schema.atomic import write_bytes
from open360.schema.layout import CODE_FILE, MANIFEST_FILE, SPEC_FILE
from open360.schema.serialization import dump_json, parse_json
from open360.schema.spec import ReleaseSpec


def work(spec: ReleaseSpec, root: Path, _arguments: list[str]) -> None:
    """Write `manifest.json`."""
    manifest = build_manifest(
        spec,
        root,
        spec_bytes=(root / SPEC_FILE).read_bytes(),
        code=parse_json((root / CODE_FILE).read_bytes(), CODE_FILE),
    )
    write_bytes(root / MANIFEST_FILE, dump_json(manifest))


if __name__ == "__main__":
    sys.exit(run_stage("manifest", work, sys.argv[1:]))
