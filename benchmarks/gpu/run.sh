#!/bin/bash
# bash benchmarks/gpu/run.sh [options of python -m benchmarks.gpu]: on a CUDA machine with PyTorch, from a source tree.
# Wheels of what is missing beside it are taken from the folder WHEELS, without a network.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
if [ -n "${WHEELS:-}" ]; then
  "$python" -m pip install --quiet --no-index --find-links "$WHEELS" numpy pyarrow pydantic pyyaml safetensors transformers
fi
PYTHONPATH=platform "$python" -m benchmarks.gpu "$@"
