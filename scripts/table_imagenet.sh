#!/usr/bin/env bash
# The paper's ImageNet table: VGG-16, ResNet-50, ResNeXt-50 and PeleeNet, without factors and pruned. 12 runs of 100 or
# 120 epochs, 1.6e19 MACs; not measured on GPUs. Needs --data-root: images packed as configs/imagenet/base.yaml says.
#   bash scripts/table_imagenet.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce table_imagenet "ImageNet" "$@"
