#!/usr/bin/env bash
# Five paired seeds on digits, with and without factors: 6 to 13 minutes on 2 cores. Finished runs are skipped. Means,
# standard deviations and paired differences go to runs/digits_seeds/report (report.html, results.csv, runs.csv).
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
set_up run
cd "$repo"
folder=runs/digits_seeds
for seed in 0 1 2 3 4; do
    for kind in block dense; do
        sss-gluon train configs/digits/cifar_resnet20_$kind.yaml seed=$seed run="$folder/$kind-$seed"
    done
    sss-gluon prune "$folder/block-$seed"
    for kind in block dense; do sss-gluon evaluate "$folder/$kind-$seed"; done
done
sss-gluon report "$folder" --title "ResNet-20 on digits: five paired seeds"
