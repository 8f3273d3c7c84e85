#!/usr/bin/env bash
# Five paired seeds on digits, asked for half of the MACs, in the paper's way, and without factors: 9 to 20 minutes on 2
# cores. Finished runs are skipped. Means, standard deviations and paired differences go to runs/digits_seeds/report
# (report.html, results.csv, runs.csv).
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
set_up run
cd "$repo"
folder=runs/digits_seeds
for seed in 0 1 2 3 4; do
    for kind in block paper dense; do
        sss-gluon train configs/digits/cifar_resnet20_$kind.yaml seed=$seed run="$folder/$kind-$seed"
    done
    for kind in block paper; do sss-gluon prune "$folder/$kind-$seed"; done
    for kind in block paper dense; do sss-gluon evaluate "$folder/$kind-$seed"; done
done
sss-gluon report "$folder" --title "ResNet-20 on digits: five paired seeds"
