"""Which exit code an error of ours means. `None`: not one of ours, so a bug."""

from __future__ import annotations

import errno

from open360.release.hub import HubError
from open360.release.publishing import PublishRefusedError
from open360.schema.errors import IntegrityError, Open360Error, SpecError, UnsupportedVersionError

FINDINGS, USAGE, OUTSIDE = 1, 2, 3
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)


def exit_code_of(error: BaseException) -> int | None:
    """The exit code for an error, by its class."""
    if isinstance(error, PublishRefusedError | IntegrityError):
        return FINDINGS
    if isinstance(error, SpecError | UnsupportedVersionError):
        return USAGE
    if isinstance(error, HubError):
        return OUTSIDE
    if isinstance(error, Open360Error):
        return USAGE
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return OUTSIDE
    return None
