"""Training rows a second of one core: `python -m benchmarks.prepare.rows WORK_DIR` prints {"rate": ..., "rows": ...}.

The work_dir is one of `jobs/quickstart.yaml`, prepared and tokenized. Counted are the seconds that the processor worked
for this process, so that others on the machine do not tell.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from adbeam.config import Config
from adbeam.training.data.build_rows import build_rows

JOB = Path(__file__).parents[2] / "jobs" / "quickstart.yaml"


def rate_of(work_dir: Path) -> dict[str, float]:
    """Build the rows of a log anew, in this process and in a folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("prepared", "tokens"):
            (Path(folder) / name).symlink_to((work_dir / name).resolve())
        config = Config.load(JOB, {"work_dir": folder})
        started = time.process_time()
        store = build_rows(config, use_ray=False)
        seconds = time.process_time() - started
    return {"rate": store.files.rows / seconds, "rows": store.files.rows, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(rate_of(Path(sys.argv[1]))))
