#!/usr/bin/env bash
# The paper's comparison with SSL (group lasso) on CIFAR-10, with and without fine-tuning: neurons of VGG-16 and blocks
# of ResNet-20. 28 runs; not measured on GPUs.
#   bash scripts/figure_ssl.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce figure_ssl "SSS against SSL" "$@"
