"""What machine a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# As Linux spells them; what decides how fast int8, float16 and bfloat16 are.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16")
ISA_LIMIT = "ONEDNN_MAX_CPU_ISA"  # oneDNN's own variable, which OpenVINO's CPU plugin obeys
WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")
LIBRARIES = ("openvino", "nncf", "numpy", "torch", "diffusers")


@dataclass(frozen=True)
class Machine:
    cpu: str  # the processor's own name
    cores: int  # those this process may use
    memory_gb: float  # of the machine
    instruction_sets: tuple[str, ...]  # of INSTRUCTION_SETS; empty where the system does not tell
    system: str
    libraries: Mapping[str, str]  # name -> version, of those that are installed
    limit: str = ""  # of the instruction sets that OpenVINO uses, where one was set

    @property
    def has_vnni(self) -> bool:
        """Whether sums of int8 products cannot saturate here."""
        return self.limit.upper() not in WITHOUT_VNNI and any(
            name in self.instruction_sets for name in ("avx512_vnni", "avx_vnni", "amx_int8")
        )

    def __str__(self) -> str:
        sets = ", ".join(self.instruction_sets) or "instruction sets unknown"
        if self.limit:
            sets += f"; limited to {self.limit}"
        versions = ", ".join(f"{name} {version}" for name, version in self.libraries.items())
        return f"{self.cores} cores of {self.cpu} ({sets}), {self.memory_gb:.0f} GB, {self.system}; {versions}"


def this_machine() -> Machine:
    """Describe the machine this runs on."""
    fields = _cpu_fields()
    flags = fields.get("flags", "").split()
    libraries = {}
    for name in LIBRARIES:
        try:
            libraries[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Machine(
        cpu=fields.get("model name") or platform.processor() or platform.machine(),
        cores=cores(),
        memory_gb=_memory_bytes() / 1e9,
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in flags),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        libraries=libraries,
        limit=os.environ.get(ISA_LIMIT, ""),
    )


def processor() -> str:
    """The processor's name and all it can do, as Linux tells, and the limit set to it: what code is compiled for."""
    fields = _cpu_fields()
    names = ("model name", "flags", "CPU implementer", "CPU part", "Features")  # x86 has two of them, ARM three
    told = [fields.get(name, "") for name in names]
    return "; ".join([platform.machine(), platform.processor(), *told, os.environ.get(ISA_LIMIT, "")])


def cores() -> int:
    """The cores this process may use: of those the system gives it, as many as a container's quota allows."""
    return quota_cores() or _given_cores()


def quota_cores(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """The cores that a container's quota allows, where that is fewer than it sees; OpenVINO does not look at it."""
    quota = _cpu_quota(path)
    if quota is None or quota >= _given_cores():
        return None
    return max(1, math.ceil(quota))


def _given_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_quota(path: Path) -> float | None:
    """Cores worth of time that a control group (version 2) allows, if it limits them: "150000 100000" is 1.5."""
    try:
        allowed, period = path.read_text().split()
        return int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # not Linux, another version, or "max"
        return None


def _cpu_fields() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
