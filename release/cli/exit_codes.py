"""Which exit code an error of ours means. `None`: not one of ours, so a bug."""

from __future__ import annotations

import errno

from open360.release.evidence.addresses import AddressError
from open360.release.hub import HubError
from open360.release.hub_errors import HubAddressError, HubNotFoundError
from open360.release.order.spans import OrderError
from open360.release.publishing import PublishRefusedError
from open360.release.targets import FileBoundsError, UnsafePathError
from open360.schema.digests import TensorFileError
from open360.schema.errors import IntegrityError, Open360Error, SpecError, UnsupportedVersionError

FINDINGS, USAGE, OUTSIDE = 1, 2, 3
WRONG_PATHS = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)


def exit_code_of(error: BaseException) -> int | None:
    """The exit code for an error, by its class."""
    if isinstance(error, PublishRefusedError | IntegrityError | FileBoundsError | UnsafePathError | TensorFileError):
        return FINDINGS
    if isinstance(error, OrderError):  # order and data contradict each other
        return FINDINGS
    if isinstance(error, SpecError | UnsupportedVersionError):
        return USAGE
    if isinstance(error, HubNotFoundError | HubAddressError):  # trying again does not help
        return USAGE
    if isinstance(error, HubError | AddressError):
        return OUTSIDE
    if isinstance(error, Open360Error):
        return USAGE
    if isinstance(error, OSError) and error.errno is not None:
        return USAGE if error.errno in WRONG_PATHS else OUTSIDE
    return None
