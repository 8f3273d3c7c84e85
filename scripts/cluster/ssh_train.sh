#!/usr/bin/env bash
# One run on machines that ssh reaches without a password, one in a line of HOSTS; a worker and a server on each.
#   bash scripts/cluster/ssh_train.sh HOSTS configs/imagenet/resnet50_block.yaml data_root=DIR 'devices=[gpu0,gpu1]'
# This folder and the run folder must be the same on all of them. Port 9091 of the first must be open to the others.
# What dies anywhere ends everything; three times it is begun again from the last checkpoint.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/../.."
hosts=$1
shift
export PATH=$PWD/.venv/bin:$PATH
exec sss-gluon launch --hosts "$hosts" --restarts 3 train "$@"
