#!/usr/bin/env bash
# VGG-16 on CIFAR-10: SSS and every other method of sss_gluon/methods at equal MACs. Not measured on GPUs.
#   bash scripts/comparison_cifar.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce comparison_cifar "CIFAR-10: SSS and every other method" "$@"
