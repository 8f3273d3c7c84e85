#!/usr/bin/env bash
# Makes .venv on the first run, then asks for half of the MACs of cifar_resnet20 on the digits in the package, and
# compares what comes out with the same network trained without factors.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
set_up run
cd "$repo"
export OMP_PROC_BIND=${OMP_PROC_BIND-true}      # threads that stay on their core: about 10 % faster on 2 cores

run() {
    local line="+ $*"
    ((${#line} <= 80)) || line="+ ${*:1:$#-1} \\"$'\n'"      ${*: -1}"     # as one would write it by hand
    printf '\n%s\n' "$line"
    "$@"
}

run sss-gluon train configs/digits/cifar_resnet20_block.yaml run=runs/quickstart
run sss-gluon train configs/digits/cifar_resnet20_dense.yaml run=runs/quickstart-dense
run sss-gluon prune runs/quickstart
printf '\nPictures to open:\n'
find "$repo/runs/quickstart" -name '*.png' | sort
run sss-gluon evaluate runs/quickstart --against runs/quickstart-dense
