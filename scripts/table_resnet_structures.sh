#!/usr/bin/env bash
# Parameters and MACs of the paper's ResNet-41, -32 and -26, counted in a minute without training. With any option of
# reproduce.sh, such as --devices gpu0, they are also trained from scratch: 6 ImageNet runs, not measured on GPUs.
#   bash scripts/table_resnet_structures.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
for net in 41 32 26; do sss-gluon count resnet50 --structure "resnet$net" | tail -n 4; done
sss-gluon report --counts
[ $# = 0 ] || reproduce table_resnet_structures "ResNet-41, -32 and -26 from scratch" "$@"
