#!/usr/bin/env bash
# Five paired seeds on digits, with and without factors: about 6 minutes on 2 cores. What is finished is skipped.
#   bash scripts/digits_seeds.sh [table.csv]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
set_up run
cd "$repo"
runs=()
for seed in 0 1 2 3 4; do
    run=runs/digits_seeds/block-$seed
    sss-gluon train configs/digits/cifar_resnet20_block.yaml seed=$seed run="$run"
    sss-gluon train configs/digits/cifar_resnet20_dense.yaml seed=$seed run="runs/digits_seeds/dense-$seed"
    sss-gluon prune "$run"
    sss-gluon evaluate "$run" --against "runs/digits_seeds/dense-$seed"
    runs+=("$run")
done
python -m sss_gluon.report.seeds "${1:-runs/digits_seeds/table.csv}" "${runs[@]}"
