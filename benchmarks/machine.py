"""What a benchmark ran on, and how much memory it takes."""

import gc
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

PACKAGES = (
    "imnn-tf",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "numpy",
    "torch",
    "torch_rim",
    "pyabc",
)


def describe() -> dict[str, object]:
    """Processor, cores that this process may use, memory and system."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def versions() -> dict[str, str]:
    """Python, and those of the packages that matter which are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "imnn_tf" in sys.modules:  # also where it is not installed
        found.setdefault("imnn-tf", sys.modules["imnn_tf"].__version__)
    return found


class PeakMemory:
    """The most memory that this process takes from now on, beyond what it has now.

    What has been freed and not given back to the system is used again unseen. Linux only.
    """

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._before = _status("VmRSS")

    def bytes(self) -> int:
        """What it has been."""
        return max(_status("VmHWM") - self._before, 0)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
