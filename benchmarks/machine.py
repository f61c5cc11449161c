"""Describes the machine and the packages of a benchmark, and measures its memory."""

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
    """The processor, the number of cores this process may use, the memory and the system."""
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
    """Versions of Python and of the installed packages among `PACKAGES`."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "imnn_tf" in sys.modules:  # also if it is imported without being installed
        found.setdefault("imnn-tf", sys.modules["imnn_tf"].__version__)
    return found


class PeakMemory:
    """The peak memory of this process from now on, less the memory it has now.

    Memory that was freed but not returned to the system can be reused without being seen. Works
    on Linux only.
    """

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        self._before = _status("VmRSS")

    def bytes(self) -> int:
        """The increase so far, in bytes."""
        return max(_status("VmHWM") - self._before, 0)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
