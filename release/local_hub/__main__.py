"""`python -m open360.release.local_hub DIRECTORY [--host H] [--port N] [--no-xet] [--allow-faults] [--part-size N]
[--api-quota CALLS/SECONDS]`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from open360.release.local_hub.app import PART_SIZE
from open360.release.local_hub.quota import QuotaFormError, parse_quota
from open360.release.local_hub.server import serve
from open360.schema.errors import Open360Error


def run(arguments: Sequence[str]) -> int:
    """Serve until interrupted; return the exit code: 0, 2 for wrong usage, 3 when the outside failed."""
    values = {"--host": "127.0.0.1", "--port": "0", "--part-size": str(PART_SIZE), "--api-quota": ""}
    switches: set[str] = set()
    folders: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in values:
            values[argument] = next(rest, "")
        elif argument in ("--no-xet", "--allow-faults"):
            switches.add(argument)
        else:
            folders.append(argument)
    numbers = (values["--port"], values["--part-size"])
    if len(folders) != 1 or folders[0].startswith("-") or not all(number.isdecimal() for number in numbers):
        sys.stderr.write(f"usage: {__doc__}\n")
        return 2
    try:
        serve(
            Path(folders[0]),
            values["--host"],
            int(values["--port"]),
            xet="--no-xet" not in switches,
            allow_faults="--allow-faults" in switches,
            part_size=int(values["--part-size"]),
            api_quota=parse_quota(values["--api-quota"]) if values["--api-quota"] else None,
        )
    except KeyboardInterrupt:
        return 0
    except QuotaFormError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (Open360Error, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
