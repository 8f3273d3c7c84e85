#!/usr/bin/env bash
# The CIFAR rows of SSS that later papers print, beside ours: ResNet-20, ResNet-164, ResNeXt-20 and ResNeXt-164 on
# CIFAR-10 and CIFAR-100. 58 runs of 14 to 318 hours on one CPU core; not measured on GPUs. With Slurm:
# sbatch --array=1-8 scripts/cluster/slurm_array.sh configs/plans/table_cifar.yaml --data-root DIR
#   bash scripts/table_cifar.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce table_cifar "The published CIFAR rows" "$@"
