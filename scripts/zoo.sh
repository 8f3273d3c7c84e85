#!/usr/bin/env bash
# The table of GluonCV's networks in scripts/zoo: factors added, half of the MACs removed, outputs compared, exported to
# ONNX. Rows that zoo.csv has are not made again. About 40 minutes for all on one quiet core; --quick takes two.
#   bash scripts/zoo.sh [--only REGEX] [--quick] [--folder DIR] [--seconds LIMIT]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
set_up test         # with onnx and onnxruntime
cd "$repo"
export OMP_NUM_THREADS=1        # MXNet reads it when it is imported
python -W ignore scripts/zoo/zoo.py "$@"
