"""The numeric profile is set before torch is imported, and checked after. Every case is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from open360.trainer import determinism
determinism.enter("portable")
from tests.trainer.tiny_run import build, tiny_spec
spec = tiny_spec(lambda text: text.replace("determinism: machine", "determinism: portable"))
build(Path(sys.argv[2]), spec, until="ckpt_000")
print(json.dumps(determinism.observed_profile()))
"""
HOSTILE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "OMP_NUM_THREADS": "3",
    "MKL_NUM_THREADS": "3",
    "OMP_DYNAMIC": "TRUE",
    "MKL_DYNAMIC": "TRUE",
    "MKL_DOMAIN_NUM_THREADS": "MKL_DOMAIN_ALL=3",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "PYTHONHASHSEED": "123",
}
# As on a CPU without fused multiply-add: the C library then takes other kernels for exp, sin and cos.
WITHOUT_FMA = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX,-AVX512F"}


def start(program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in HOSTILE}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program, *arguments],
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def run(program: str, **environment: str) -> str:
    return finish(start(program, **environment))


def outputs(root: Path) -> dict[str, bytes]:
    files = [path for part in ("checkpoints", "traces") for path in (root / "runs/tiny" / part).rglob("*")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files if path.is_file()}


def test_class_portable_gives_the_same_bytes_under_hostile_settings_and_other_c_kernels(
    project_root: Path, tmp_path: Path
) -> None:
    environments = {"plain": {}, "hostile": HOSTILE, "without fma": WITHOUT_FMA}
    processes = {
        name: start(PROGRAM, str(project_root), str(tmp_path / name), **changes)
        for name, changes in environments.items()
    }
    profiles: dict[str, dict[str, Any]] = {name: json.loads(finish(process)) for name, process in processes.items()}
    for name in environments:
        assert outputs(tmp_path / name) == outputs(tmp_path / "plain"), name
    assert len(outputs(tmp_path / "plain")) > 10
    observed = profiles["hostile"]
    assert observed["cpu_capability"] == "DEFAULT"
    assert observed["threads"] == 1
    assert observed["mkldnn"] is False
    assert observed["environment"]["MKL_CBWR"] == "COMPATIBLE"
    assert "MKL_DOMAIN_NUM_THREADS" not in observed["environment"]
    assert profiles["without fma"]["environment"]["GLIBC_TUNABLES"] == WITHOUT_FMA["GLIBC_TUNABLES"]
    assert len({profile["kernels_sha256"] for profile in profiles.values()}) == 1


REFUSALS = {
    "torch first": """
import torch
from open360.trainer import determinism
try:
    determinism.enter("portable")
except determinism.NumericProfileError as error:
    print(error)
""",
    "torch first, then apply": """
import torch
from open360.trainer import determinism
try:
    determinism.apply("portable")
except determinism.NumericProfileError as error:
    print(error)
""",
    "two classes": """
from open360.trainer import determinism
determinism.enter("machine")
try:
    determinism.enter("portable")
except determinism.NumericProfileError as error:
    print(error)
""",
    "settings changed after enter": """
import os
from open360.trainer import determinism
determinism.enter("portable")
os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
import torch
try:
    determinism.apply("portable")
except determinism.NumericProfileError as error:
    print(error)
""",
}
MESSAGES = {
    "torch first": "torch loaded already",
    "torch first, then apply": "torch loaded already",
    "two classes": "use a process for each class",
    "settings changed after enter": "expected DEFAULT, found AVX2",
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_portable_is_refused(case: str) -> None:
    assert MESSAGES[case] in run(REFUSALS[case])


def test_class_machine_sets_one_thread_even_when_torch_was_imported_before() -> None:
    program = (
        "import torch\nfrom open360.trainer import determinism as d\nd.apply('machine')\nprint(torch.get_num_threads())"
    )
    assert run(program, OMP_NUM_THREADS="2").strip() == "1"


def test_class_tolerance_leaves_threads_and_kernels_to_the_environment() -> None:
    program = (
        "from open360.trainer import determinism as d\nd.enter('tolerance')\nd.apply('tolerance')\n"
        "import json\nprint(json.dumps(d.observed_profile()))"
    )
    observed = json.loads(run(program, OMP_NUM_THREADS="2", ATEN_CPU_CAPABILITY="avx2"))
    assert (observed["threads"], observed["cpu_capability"]) == (2, "AVX2")
    assert observed["deterministic_algorithms"] is True


def test_entering_twice_is_entering_once() -> None:
    program = (
        "from open360.trainer import determinism as d\nd.enter('portable')\nd.apply('portable')\n"
        "d.enter('portable')\nd.apply('portable')\nprint('fine')"
    )
    assert run(program).strip() == "fine"


@pytest.mark.parametrize("module", ["determinism", "slices", "recipe", "errors"])
def test_what_the_plan_reads_imports_neither_torch_nor_numpy(module: str) -> None:
    program = f"import sys\nimport open360.trainer.{module}\nprint(sorted({{'torch', 'numpy'}} & set(sys.modules)))"
    assert run(program).strip() == "[]"


OTHER_KERNELS = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
from open360.trainer import determinism
determinism.enter("tolerance")
from open360.trainer.segment import train_segment
from tests.trainer.tiny_run import segment_named, tiny_spec
run, segment = segment_named(tiny_spec(), "ckpt_001")
result = train_segment(tiny_spec(), run, segment, Path(sys.argv[2]), scratch=None, compute_as="tolerance")
print(result.position.determinism)
"""


def test_a_segment_can_be_computed_under_other_kernels_and_comes_out_near(
    project_root: Path, half_trained: Path, trained: Path
) -> None:
    from safetensors.numpy import load_file

    process = start(OTHER_KERNELS, str(project_root), str(half_trained), ATEN_CPU_CAPABILITY="default")
    assert finish(process).strip() == "tolerance"
    file = "model.safetensors"
    before, ours, theirs = (
        load_file(root / "runs/tiny/checkpoints" / name / file)
        for root, name in ((trained, "ckpt_000"), (trained, "ckpt_001"), (half_trained, "ckpt_001"))
    )
    update = sum(float(((ours[name] - before[name]) ** 2).sum()) for name in ours) ** 0.5
    drift = sum(float(((ours[name] - theirs[name]) ** 2).sum()) for name in ours) ** 0.5
    assert drift < 1e-4 * update
