#!/usr/bin/env bash
# The methods that the paper compares with on ImageNet, at the MACs that SSS leaves. 12 runs, of which 4 are shared with
# table_imagenet.sh; not measured on GPUs. Needs --data-root.
#   bash scripts/table_comparison.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce table_comparison "ImageNet: SSS and other methods" "$@"
