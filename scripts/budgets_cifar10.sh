#!/usr/bin/env bash
# SSS on CIFAR-10 in 30 epochs: to a share of the MACs, as in the paper, and against other methods at equal MACs. 63
# runs, VGG-16 in float32 and the others in bfloat16. On one CPU core, with two runs at a time, a run to a target took
# 11 to 17 minutes, one without factors 22 to 29, one with a given gamma 17 to 38; the whole is not measured. Start it
# twice, each with OMP_NUM_THREADS=1, to share the runs.
#   bash scripts/budgets_cifar10.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
# With images in DIR/train/<class>/ and DIR/test/<class>/: --data-root DIR data=folder
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce budgets_cifar10 "SSS and other methods on CIFAR-10 in 30 epochs" "$@"
