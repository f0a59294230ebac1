"""The decoding engine on a GPU: `bash benchmarks/gpu/run.sh`, or `python -m benchmarks.gpu [--device cpu --tiny]`.

Parts run in order of worth, each in a process of its own with its own time limit; what a part has found is kept after
every row of it, and gpu.json is written after every part. Needs PyTorch and the wheels named in run.sh, but neither
Ray nor DeepSpeed nor a network. Random weights and catalogues: speed does not depend on them, agreement does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.rig.report import report, write

LIMIT_SECONDS = {"exact": 90, "decode": 240, "rivals": 180}
"""Of each part; together below ten minutes."""
FIGURES = ("gpu_top10_agreement_bf16", "gpu_top10_agreement_graphs", "gpu_matrix_share_b64", "gpu_rps_100ms_paper",
           "gpu_lazyar_over_plain", "gpu_over_hf")  # fmt: skip
"""None where a part did not come so far."""


def main() -> None:
    """Run the parts and write gpu.json; with --child, run one and keep what it finds in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=LIMIT_SECONDS, default=list(LIMIT_SECONDS))
    parser.add_argument("--device", default="cuda", help="cpu rehearses")
    parser.add_argument("--tiny", action="store_true", help="shapes of a rehearsal")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        from benchmarks.gpu.parts import Part, run

        run(options.parts[0], Part(options.child, options.device, options.tiny))
        return
    figures: dict[str, Any] = dict.fromkeys(FIGURES)
    extra: dict[str, Any] = {"device": options.device, "tiny": options.tiny, "parts": {}}
    for name in options.parts:
        print(f"{name} ... (at most {LIMIT_SECONDS[name]} s)", flush=True)
        extra["parts"][name] = found = one_part(name, options.device, options.tiny, LIMIT_SECONDS[name])
        figures |= found.pop("figures", {})
        write("gpu", figures, extra)
    report("gpu", figures, extra)


def one_part(name: str, device: str, tiny: bool, limit_seconds: float) -> dict[str, Any]:
    """What the part found until it ended, failed or reached its limit, and which of these as `ended`."""
    with tempfile.TemporaryDirectory(prefix="adbeam-gpu-") as folder:
        kept = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.gpu", "--parts", name, "--device", device, "--child", str(kept)]
        try:
            code = subprocess.run([*command, *(["--tiny"] if tiny else [])], timeout=limit_seconds).returncode
            ended = "whole" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {limit_seconds} s"
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    print(f"  {ended}", flush=True)
    return {**found, "ended": ended}
