#!/usr/bin/env bash
# One run over Horovod with one process for each GPU: N on this host, or N on each of HOSTS (ssh without a password).
#   bash scripts/cluster/horovod_train.sh 4 configs/imagenet/resnet50_block.yaml data_root=DIR 'devices=[gpu0,gpu1,gpu2,gpu3]'
#   HOSTS=hosts.txt BACKEND=mpirun bash scripts/cluster/horovod_train.sh 4 ...
#   bash scripts/cluster/horovod_train.sh 4 bench --model resnet50 --devices gpu0,gpu1,gpu2,gpu3 --batch 64 --out DIR     # measures instead
# Needs Horovod: scripts/cluster/install_horovod.sh, with SSS_GLUON_MPI=1 for mpirun. If a process dies, all
# end, and the job restarts from its last checkpoint up to three times.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/../.."
each=$1
shift
export PATH=$PWD/.venv/bin:$PATH
case ${1:-} in train | bench) ;; *) set -- train "$@" ;; esac
exec sss-gluon launch --workers "$each" ${HOSTS:+--hosts "$HOSTS"} --backend "${BACKEND:-horovodrun}" --restarts 3 "$@"
