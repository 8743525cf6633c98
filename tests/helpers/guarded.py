"""Arrays between guards, so that a kernel's access outside its buffers shows.

`Guarded` puts NaN on both sides: a read outside poisons the result, a write outside changes the guard's bytes. `Fenced`
puts the array against a page that may not be touched: any access there ends the process, so it runs in one of its own.
"""
import ctypes
import itertools
import mmap

import numpy as np

NAN = 0x7FC00000  # bits
GUARD = 4097  # floats on each side; odd, so that no array is aligned to more than a float


class Guarded:
    """A copy of a float32 array between guards of NaN with different bits, so that copying one over another shows."""

    _numbers = itertools.count(1)

    def __init__(self, array):
        array = np.asarray(array, np.float32)
        self._guard = NAN + next(self._numbers) % 0x3FFFFF
        self._block = np.full(array.size + 2 * GUARD, self._guard, np.int32).view(np.float32)
        self.array = self._block[GUARD : GUARD + array.size].reshape(array.shape)
        self.array[...] = array
        self.address = self.array.ctypes.data

    def check(self) -> None:
        """Fail if a guard has been written to."""
        before, after = self._block[:GUARD], self._block[len(self._block) - GUARD :]
        for where, guard in (("before", before), ("behind", after)):
            changed = np.flatnonzero(guard.view(np.int32) != self._guard)
            assert not len(changed), (f"{len(changed)} floats written {where} the array, the first at {changed[0]} of "
                                      f"{GUARD}")


class Fenced:
    """A copy of a float32 array that ends where a forbidden page begins, or begins where one ends."""

    def __init__(self, array, at_end: bool):
        array = np.asarray(array, np.float32)
        page = mmap.PAGESIZE
        size = -(-array.nbytes // page) * page
        self._map = mmap.mmap(-1, size + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        for fence in (start, start + page + size):
            if libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect failed")
        offset = page + (size - array.nbytes if at_end else 0)
        self.array = np.frombuffer(self._map, np.float32, array.size, offset).reshape(array.shape)
        self.array[...] = array
        self.address = self.array.ctypes.data

    def check(self) -> None:
        """Nothing to do: a forbidden access would have ended the process."""
