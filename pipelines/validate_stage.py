"""Stage `validate`: judge the built release; the report is an output also when it holds findings."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.release.findings import EvidenceLevel, Severity
from open360.release.reports.reporters import json_report, text_report
from open360.release.targets import FolderTarget
from open360.release.validation import validate
from open360.schema.atomic import write_bytes
from open360.schema.layout import REPORT_FILE
from open360.schema.spec import ReleaseSpec


def work(_spec: ReleaseSpec, root: Path, _arguments: list[str]) -> int:
    """Write `report.json`; 1 when it holds errors."""
    report = validate(FolderTarget(root), level=EvidenceLevel.LOADED)
    write_bytes(root / REPORT_FILE, json_report(report).encode())
    sys.stderr.write(text_report(report))
    return 1 if any(finding.severity is Severity.ERROR for finding in report.findings) else 0


if __name__ == "__main__":
    sys.exit(run_stage("validate", work, sys.argv[1:]))
