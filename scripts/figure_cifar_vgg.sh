#!/usr/bin/env bash
# The paper's figure of VGG-16 on CIFAR-10 and CIFAR-100: error against parameters and FLOPs, neurons pruned. 12 runs,
# 78 hours each on one CPU core; not measured on GPUs.
#   bash scripts/figure_cifar_vgg.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce figure_cifar_vgg "VGG-16 on CIFAR" "$@"
