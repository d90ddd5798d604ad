"""The numeric profile: how this process computes, set before torch is imported and checked after.

Three classes, as a run declares them:

* `portable`: the same bits on any x86-64 CPU as far as shown. One thread, ATen's plain kernels, MKL's compatible
  branch, no oneDNN. ATen and MKL read their settings once, when they are loaded, so they are set before that, over
  whatever the outer environment says.
* `machine`: the same bits under the same profile. One thread, the CPU's own kernels.
* `tolerance`: threads and kernels as the environment has them; results are compared by distance.

This module imports torch inside functions only: `enter` must be able to run first.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Any, Literal

from open360.trainer.errors import NumericProfileError

Determinism = Literal["portable", "machine", "tolerance"]

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}
PORTABLE = {
    **ONE_THREAD,
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
# Each of these changes the kernels that PORTABLE asks for, or the number of threads, behind our back.
UNWANTED = (
    "DNNL_MAX_CPU_ISA",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_DOMAIN_NUM_THREADS",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)
REPORTED = (*PORTABLE, *UNWANTED, "GLIBC_TUNABLES", "OMP_WAIT_POLICY")

_entered: list[Determinism] = []


def enter(determinism: Determinism) -> None:
    """Set the environment of a determinism class. Call it once, before anything imports torch.

    Raises:
        NumericProfileError: `portable` is asked for and torch is loaded already, or the process entered another class.
    """
    if _entered and _entered[0] != determinism:
        raise NumericProfileError(
            "determinism class of this process", f"'{determinism}'", f"'{_entered[0]}'", "use a process for each class"
        )
    if _entered:
        return
    if determinism == "portable" and "torch" in sys.modules:
        raise NumericProfileError(
            "determinism class 'portable'",
            "to be entered before torch is imported",
            "torch loaded already",
            "start a new process and call open360.trainer.determinism.enter('portable') first",
        )
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if determinism == "portable":
        os.environ.update(PORTABLE)
        for name in UNWANTED:
            os.environ.pop(name, None)
    elif determinism == "machine":
        os.environ.update(ONE_THREAD)
    _entered.append(determinism)


def apply(determinism: Determinism) -> None:
    """Set torch itself to a determinism class and check that the class is in force. Imports torch.

    Raises:
        NumericProfileError: something is not as the class asks; nothing should be computed then.
    """
    enter(determinism)
    import torch

    torch.use_deterministic_algorithms(True)
    # Filling every fresh tensor with NaN finds reads of uninitialised memory; it costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.set_flush_denormal(False)
    if determinism != "tolerance":
        torch.set_num_threads(1)
    if determinism == "portable":
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    for setting, expected, found in _wanted(determinism):
        if expected != found:
            raise NumericProfileError(
                f"{setting}, determinism class '{determinism}'",
                expected,
                found,
                "start a new process and call open360.trainer.determinism.enter() before torch is imported",
            )


def _wanted(determinism: Determinism) -> list[tuple[str, str, str]]:
    """`(setting, expected, found)` of everything that the class fixes."""
    import torch

    wanted = [
        ("default dtype", "torch.float32", str(torch.get_default_dtype())),
        ("deterministic algorithms", "True", str(torch.are_deterministic_algorithms_enabled())),
    ]
    if determinism == "tolerance":
        return wanted
    wanted += [("threads", "1", str(torch.get_num_threads()))]
    if determinism == "machine":
        return wanted
    wanted += [
        ("processor", "x86_64", platform.machine()),
        ("CPU capability of ATen", "DEFAULT", torch.backends.cpu.get_cpu_capability()),
        ("oneDNN", "False", str(_mkldnn_enabled())),
        ("matrix library", "mkl", _build_settings().get("BLAS_INFO", "unknown")),
    ]
    return wanted + [(name, value, os.environ.get(name, "not set")) for name, value in PORTABLE.items()]


def _mkldnn_enabled() -> bool:
    import torch

    return bool(torch._C._get_mkldnn_enabled())


def _build_settings() -> dict[str, str]:
    """`KEY=VALUE` pairs of the way torch was built."""
    import torch

    lines = [line for line in torch.__config__.show().splitlines() if "Build settings:" in line]
    pairs = (item.split("=", 1) for item in (lines[0].split("Build settings:")[1] if lines else "").split(", "))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


def observed_profile() -> dict[str, Any]:
    """The numeric profile as it is in this process. Imports torch.

    `kernels_sha256` is the digest of a fixed small computation: profiles that differ in it give different bits.
    """
    import torch

    built = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    libraries = [line for line in built if "Library Version" in line or "MKL-DNN" in line]
    return {
        "determinism": _entered[0] if _entered else None,
        "torch": torch.__version__,
        "transformers": _version("transformers"),
        "threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "attention": "sdpa",
        "optimizer": "foreach",
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu": _cpu_model(),
        "machine": platform.machine(),
        "mkldnn": _mkldnn_enabled(),
        "libraries": libraries,
        "blas": _build_settings().get("BLAS_INFO", "unknown"),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "system": platform.system(),
        "environment": {name: os.environ[name] for name in REPORTED if name in os.environ},
        "kernels_sha256": _kernels_digest(),
    }


def _version(distribution: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _kernels_digest() -> str:
    """Digest of what the kernels that training uses make of fixed numbers (integers, so made alike everywhere)."""
    import torch

    base = torch.arange(96 * 96, dtype=torch.int64).mul(7919).remainder(2003).to(torch.float32).reshape(96, 96)
    x = base / 1001.0 - 1.0
    heads = x.reshape(1, 4, 24, 96)
    parts = [
        x @ x.T,
        torch.nn.functional.silu(x * 4),
        torch.softmax(x * 4, dim=-1),
        torch.cos(x * 50),
        torch.rsqrt(x.pow(2).mean(-1) + 1e-6),
        torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()
