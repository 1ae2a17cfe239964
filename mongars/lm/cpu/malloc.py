"""Settings of glibc's malloc for the memory that forward passes free."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
KEPT_BYTES = 2**29
LARGEST_BYTES = 2**25  # the maximum of glibc


def tune_glibc_malloc() -> None:
    """Have glibc keep up to KEPT_BYTES of freed memory at the end of a heap for the next allocations.

    Each pass frees tensors of several MB that the next one needs. By default glibc returns them to the kernel,
    which clears every page again. Tensors above LARGEST_BYTES are still returned. No effect with another C
    library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
