#!/usr/bin/env bash
# Half and 35 % of the MACs on the digits: SSS to a budget against every other way, 30 epochs each, three seeds.
# 105 runs; measured on busy CPU cores: 10 seconds to 5 minutes each. The results are in configs/digits/budgets.csv.
# Start it twice, each with OMP_NUM_THREADS=1, to share the runs.
#   bash scripts/budgets_digits.sh [--dry-run] [--smoke] [--devices D,D] [--runs DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce budgets_digits "Half and 35 % of the MACs on the digits" "$@"
