#!/usr/bin/env bash
# The paper's figure of VGG-16 on CIFAR-10 and CIFAR-100 with pruned neurons: error against parameters and FLOPs. 12
# runs of 78 hours on one CPU core; not measured on GPUs.
#   bash scripts/figure_cifar_vgg.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce figure_cifar_vgg "VGG-16 on CIFAR" "$@"
