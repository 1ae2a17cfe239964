"""What becomes of memory that a pass of a model on a CPU has freed.

Owns the settings of the C library's heap. Must not know models.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
KEPT_BYTES = 2**29
LARGEST_BYTES = 2**25  # the most that glibc takes


def tune_glibc_malloc() -> None:
    """Have glibc keep what this process frees, up to 512 MiB at the end of a heap, for what is allocated next.

    Each pass frees what the next one needs, tensors of some MB. By default glibc gives them back to the system,
    which clears every page again: 2,000 to 16,000 of them a pass (docs/results/serving.md). Tensors
    above 32 MiB are given back as before. Does nothing with another C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
