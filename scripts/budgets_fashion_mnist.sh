#!/usr/bin/env bash
# Half and 35 % of the MACs on Fashion-MNIST: SSS to a budget against every other way, 6 epochs each, three seeds.
# 105 runs in bfloat16, not measured yet. Start it twice, each with OMP_NUM_THREADS=1, and the two share the runs.
#   bash scripts/budgets_fashion_mnist.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce budgets_fashion_mnist "Half and 35 % of the MACs on Fashion-MNIST" "$@"
