"""The JSON Schema of reports, as kept in `report.schema.json`.

`python -P -m open360.release.reports.report_schema` prints it.
"""

from __future__ import annotations

import sys
from typing import Any

from open360.release.findings import Report
from open360.schema.serialization import canonical_json


def report_schema() -> dict[str, Any]:
    """The JSON Schema of `open360 validate --format json`."""
    schema = Report.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "open360 report"}


if __name__ == "__main__":
    sys.stdout.buffer.write(canonical_json(report_schema()))
