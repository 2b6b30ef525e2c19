"""What a process sets before torch is loaded."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Page faults of taking, writing and giving back a block of 64 MB twenty times.
PROBE = """
import resource, sys
from runner.process import set_up_process
set_up_process()
assert "torch" not in sys.modules
b"x" * 2**26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    b"x" * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator's settings are glibc's")
def test_large_blocks_are_used_again_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faults() -> int:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    monkeypatch.delenv("LD_PRELOAD", raising=False)
    again = faults()
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert again * 10 < faults()
