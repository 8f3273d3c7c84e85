#!/usr/bin/env bash
# One run over Horovod, a process for each GPU: N of this machine, or N of each of HOSTS (ssh without a password).
#   bash scripts/cluster/horovod_train.sh 4 configs/imagenet/resnet50_block.yaml data_root=DIR 'devices=[gpu0,gpu1,gpu2,gpu3]'
#   HOSTS=hosts.txt THROUGH=mpirun bash scripts/cluster/horovod_train.sh 4 ...
# Needs Horovod: scripts/cluster/install_horovod.sh, with SSS_GLUON_MPI=1 for mpirun. When a process dies, all end.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/../.."
each=$1
shift
export PATH=$PWD/.venv/bin:$PATH
exec sss-gluon launch --workers "$each" ${HOSTS:+--hosts "$HOSTS"} --backend "${BACKEND:-horovodrun}" --restarts 3 train "$@"
