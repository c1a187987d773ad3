"""Limits of the kernel on what a user's uid has on a file system, where it has such quotas (ext4, XFS, and others).

User quotas, not project quotas: as root each user has a uid of their own, and no file of theirs escapes it. The project
of a file may be changed by its owner (Linux, fs/ioctl.c, `fileattr_set_prepare`: only another user namespace is kept
from it), so a user could walk out of a project's limit with `chattr -p`.

Nothing is assumed: `of` asks the kernel whether limits are enforced on the very file system. Source: quotactl(2),
quotactl_fd (Linux 5.14), linux/quota.h, linux/dqblk_xfs.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from tidehub.errors import TidehubError

_QUOTACTL_FD = 443
"""The number of the system call, for which C libraries have no function yet; the same on every architecture."""
_USER = 0
_GET, _SET = 0x800007, 0x800008
_GET_STATE = (ord("X") << 8) + 5
_ENFORCED = 1 << 1
_BLOCK_LIMITS = 1
_BLOCK = 1024
"""Bytes; limits are in blocks of this size on every file system, usage is in bytes."""


class _Quota(ctypes.Structure):
    """`struct if_dqblk`."""

    _fields_ = (
        ("hard", ctypes.c_uint64),
        ("soft", ctypes.c_uint64),
        ("space", ctypes.c_uint64),
        ("files_hard", ctypes.c_uint64),
        ("files_soft", ctypes.c_uint64),
        ("files", ctypes.c_uint64),
        ("time", ctypes.c_uint64),
        ("files_time", ctypes.c_uint64),
        ("valid", ctypes.c_uint32),
    )


class DiskQuota:
    """The quotas of the file system that holds the directory `place`."""

    def __init__(self, place: Path) -> None:
        self._place = place

    @classmethod
    def of(cls, place: Path) -> DiskQuota | None:
        """The quotas there if the kernel enforces limits of users, and we may set them; None else."""
        if os.geteuid() != 0:
            return None
        quota = cls(place)
        state = ctypes.create_string_buffer(256)
        with contextlib.suppress(OSError):
            quota._call(_GET_STATE, 0, state)
            # struct fs_quota_stat: s8 version, u16 flags at its alignment.
            if int.from_bytes(state.raw[2:4], sys.byteorder) & _ENFORCED:
                quota.used(0)
                return quota
        return None

    def used(self, uid: int) -> int:
        """Bytes that files of `uid` take there. Raises `OSError`."""
        return int(self._get(uid).space)

    def limit(self, uid: int) -> int | None:
        """Bytes that they may take; None for no limit. Raises `OSError`."""
        return int(self._get(uid).hard) * _BLOCK or None

    def set_limit(self, uid: int, limit: int) -> None:
        """Have the kernel refuse `uid` more than `limit` bytes (EDQUOT). Raises `TidehubError`."""
        blocks = max(1, limit // _BLOCK)
        try:
            if self._get(uid).hard != blocks:
                self._call(_SET, uid, _Quota(hard=blocks, soft=0, valid=_BLOCK_LIMITS))
        except OSError as error:
            raise TidehubError(
                f"the quota of uid {uid} on {self._place} cannot be set: {error.strerror}"
            ) from error

    def _get(self, uid: int) -> _Quota:
        found = _Quota()
        try:
            self._call(_GET, uid, found)
        except FileNotFoundError:  # XFS says so of a uid that has nothing there yet
            return _Quota()
        return found

    def _call(self, command: int, uid: int, value: ctypes.Structure | ctypes.Array[ctypes.c_char]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            done = libc.syscall(
                ctypes.c_long(_QUOTACTL_FD),
                ctypes.c_uint(descriptor),
                ctypes.c_uint((command << 8) | _USER),
                ctypes.c_uint(uid),
                ctypes.byref(value),
            )
        finally:
            os.close(descriptor)
        if done != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
