#!/usr/bin/env bash
# One run on all GPUs of several nodes over ps-lite, with a worker and a server on each node.
#   sbatch --nodes=4 scripts/cluster/slurm_train.sh configs/imagenet/resnet50_block.yaml data_root=DIR 'devices=[gpu0,gpu1,gpu2,gpu3]'
#   sbatch --nodes=4 scripts/cluster/slurm_train.sh bench --model resnet50 --devices gpu0,gpu1,gpu2,gpu3 --batch 64 --out DIR     # measures instead
# The nodes must share the run folder. If a process on any node dies, all end, and the job is queued again and continues
# from its last checkpoint. Everything is saved five minutes before the time is over.
#SBATCH --job-name=sss
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
export PATH=$PWD/.venv/bin:$PATH        # made by `SSS_GLUON_MXNET=mxnet-cu117==1.9.1 bash scripts/quickstart.sh`
read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
scheduler=$head:$((20000 + SLURM_JOB_ID % 20000))
case ${1:-} in train | bench) ;; *) set -- train "$@" ;; esac
status=0
srun --kill-on-bad-exit=1 bash -c 'exec sss-gluon launch --node-rank "$SLURM_NODEID" --num-nodes "$SLURM_NNODES" --scheduler "$0" \
    --logs "logs/$SLURM_JOB_ID" "$@"' "$scheduler" "$@" || status=$?
case $status in
    0) ;;
    143) echo 'stopped and saved' && scontrol requeue "$SLURM_JOB_ID" ;;
    *) [ "${SLURM_RESTART_COUNT:-0}" -ge 3 ] || scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$status"
