"""The operating system's locks on files, which end with the process that holds them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

# What `flock` says on file systems without it: Lustre, NFS and FUSE, by how they are mounted.
NONE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class NoLocks(OSError):
    """A file is on a file system without locks."""


def lock(file: Any, path: Path) -> bool:
    """Lock an open file; False if another process holds it.

    Args:
        file: the open file.
        path: its name.

    Raises:
        NoLocks: its file system has no locks.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: two commands may train the same run twice
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NONE:
            raise
        raise NoLocks(
            error.errno,
            f"{path.parent} is on a file system without locks (flock: {error.strerror}), without "
            "which two commands would train the same run: set ADAM_TF_BUILD to a folder on "
            "another file system, or mount this one with locks",
        ) from None
    return True


def same(file: Any, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
