"""Receive many datagrams by one system call, recvmmsg(2), which Python's socket does not have.

An answer of the kernel about one object is one datagram. Read one by one, a million of them are a
million calls, each of which gives Python's lock away and waits for it.
"""

import ctypes
import errno
import itertools
import os
import struct
from typing import ClassVar, Final

SLOT_BYTES: Final = 512
"""Room for one answer: an element with a comment takes 420 bytes at most."""
_MSG_TRUNC: Final = 0x20
_MSG_WAITFORONE: Final = 0x10000


class _Part(ctypes.Structure):
    """struct iovec."""

    _fields_: ClassVar = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_: ClassVar = [
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint),
        ("parts", ctypes.POINTER(_Part)),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Slot(ctypes.Structure):
    """struct mmsghdr."""

    _fields_: ClassVar = [("header", _Header), ("received", ctypes.c_uint)]


_FLAGS: Final = _Header.flags.offset
_RECEIVED: Final = _Slot.received.offset
_RESULT: Final = struct.Struct(
    f"={_FLAGS}xI{_RECEIVED - _FLAGS - 4}xI{ctypes.sizeof(_Slot) - _RECEIVED - 4}x"
)
"""The flags and the size that the kernel wrote into a slot: ten times as fast as by attributes."""


class AnswerRoom:
    """Room for `count` datagrams of SLOT_BYTES each."""

    def __init__(self, count: int) -> None:
        self._receive = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._memory = bytearray(count * SLOT_BYTES)
        self._parts = (_Part * count)()
        self._slots = (_Slot * count)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for number, (part, slot) in enumerate(zip(self._parts, self._slots, strict=True)):
            part.base, part.size = start + number * SLOT_BYTES, SLOT_BYTES
            slot.header.parts, slot.header.part_count = ctypes.pointer(part), 1

    def receive(self, descriptor: int, count: int) -> list[bytes]:
        """Return the next datagrams: those that are there, `count` of them at most, or else the
        first that comes before the socket's timeout.

        Raise OSError if none came, and with EMSGSIZE if one has more than SLOT_BYTES.
        """
        while (found := self._receive(descriptor, self._slots, count, _MSG_WAITFORONE, None)) < 0:
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        data = bytes(self._memory[: found * SLOT_BYTES])
        results = list(
            itertools.islice(_RESULT.iter_unpack(memoryview(self._slots).cast("B")), found)
        )
        if any(flags & _MSG_TRUNC for flags, _ in results):
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        starts = range(0, len(data), SLOT_BYTES)
        return [
            data[start : start + size] for start, (_, size) in zip(starts, results, strict=True)
        ]
