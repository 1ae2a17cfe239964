import platform
import subprocess
import sys

import pytest

PASSES = """
import resource, sys
from mongars.lm.cpu.malloc import tune_glibc_malloc
if sys.argv[1] == "kept":
    tune_glibc_malloc()
for count in range(6):
    if count == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [bytearray(20 * 2**20) for _ in range(3)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_reused_without_page_faults():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PASSES, how], capture_output=True, check=True).stdout)
        for how in ("kept", "default")
    }
    assert faults["kept"] < 100 < faults["default"]
