"""`python -P -m open360.schema` prints the JSON Schema of `release.yaml`, as kept in `release.schema.json`."""

from __future__ import annotations

import sys

from open360.schema.serialization import canonical_json
from open360.schema.spec import json_schema

if __name__ == "__main__":
    sys.stdout.buffer.write(canonical_json(json_schema()))
