"""Memory of the whole process: what the C library gives back, and what the garbage collector looks at."""

from __future__ import annotations

import gc

LARGE = 256 * 1024  # bytes of a block that has pages of its own; below the parts of a body that are held
# The collector looks at new objects once there are this many more, for a millisecond; Python's 700 are a few streams.
# What has ended is freed without it, but for clients that hang up while the rest of a refused body is awaited, which
# leave some 40 objects each. At every third time it looks at older ones too, for some milliseconds.
YOUNG, OLDER, OLDEST = 20_000, 2, 10
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def return_large_blocks() -> None:
    """Fix the thresholds of glibc, which grow with the largest block that was ever freed, up to 32 MiB.

    Beyond them blocks are kept in heaps, and a few hundred MiB stayed with the process after a minute of large bodies.
    Other C libraries are left as they are, and all of them by a Python that was built without libffi.
    """
    try:
        import ctypes  # noqa: PLC0415 - it may be missing

        library = ctypes.CDLL(None)
        mallopt, malloc_trim = getattr(library, "mallopt", None), getattr(library, "malloc_trim", None)
    except (ImportError, OSError):  # OSError: a program that is linked statically
        return
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_TRIM_THRESHOLD, LARGE)
    if malloc_trim is not None:
        malloc_trim(0)  # what the imports and the reading of the configuration have left between what lasts


def exempt_what_lasts() -> None:
    """Have the garbage collector pass over what there is now: modules and the configuration, which last.

    A full collection would take 40 ms for them, at any moment, and all threads stand still meanwhile.
    """
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLDEST)  # `__main__` has others
