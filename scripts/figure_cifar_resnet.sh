#!/usr/bin/env bash
# The paper's figure of ResNet-20 and ResNet-164 on CIFAR-10 and CIFAR-100 with pruned blocks. 24 runs of 14 and 95
# hours on one CPU core; not measured on GPUs.
#   bash scripts/figure_cifar_resnet.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce figure_cifar_resnet "ResNet on CIFAR" "$@"
