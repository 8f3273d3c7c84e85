#!/usr/bin/env bash
# One run on hosts that ssh reaches without a password, with a worker and a server on each; each is a line of HOSTS.
#   bash scripts/cluster/ssh_train.sh HOSTS configs/imagenet/resnet50_block.yaml data_root=DIR 'devices=[gpu0,gpu1]'
#   bash scripts/cluster/ssh_train.sh HOSTS bench --model resnet50 --devices gpu0,gpu1,gpu2,gpu3 --batch 64 --out DIR     # measures instead
# All hosts must share this folder and the run folder, and reach port 9091 of the first. If a process dies on any host,
# all end, and the job restarts from its last checkpoint up to three times.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/../.."
hosts=$1
shift
export PATH=$PWD/.venv/bin:$PATH
case ${1:-} in train | bench) ;; *) set -- train "$@" ;; esac
exec sss-gluon launch --hosts "$hosts" --restarts 3 "$@"
