"""How this process uses the C library's heap: freed memory is kept while batches run, and given back when they stop.

Left alone, glibc returns each large block at once, and every batch faults its pages in again (16 times as many faults).
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8  # <malloc.h>
_MIB = 1024 * 1024


def keep_freed() -> None:
    """Call before the model is loaded. Does nothing where the C library is not glibc."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        for option, value in ((_ARENAS, 1), (_MMAP_THRESHOLD, 32 * _MIB), (_TRIM_THRESHOLD, 256 * _MIB)):
            library.mallopt(option, value)


def give_back() -> None:
    """Return what was freed to the system (about 10 ms)."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
