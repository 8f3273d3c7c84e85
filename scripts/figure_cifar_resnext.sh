#!/usr/bin/env bash
# The paper's figure of ResNeXt-20 and ResNeXt-164 on CIFAR-10 and CIFAR-100 with pruned groups, blocks, and both. 44
# runs of 52 and 318 hours on one CPU core; not measured on GPUs.
#   bash scripts/figure_cifar_resnext.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce figure_cifar_resnext "ResNeXt on CIFAR" "$@"
