#!/usr/bin/env bash
# A plan as a Slurm array, one GPU a task; tasks take from the plan what no other works on, so any number of them is
# right, and a task that is added or requeued goes on where others stopped. Run once, at the end: sss-gluon report.
#   sbatch --array=1-8 scripts/cluster/slurm_array.sh configs/plans/figure_cifar_vgg.yaml --data-root DIR
# The folder of the runs must be shared by the nodes and support file locks (flock); where it does not, add
# --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" to the last line, and no two tasks touch the same run. Two
# minutes before the time is over the run in work is saved.
#SBATCH --job-name=sss
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
export PATH=$PWD/.venv/bin:$PATH        # made by `SSS_GLUON_MXNET=mxnet-cu117==1.9.1 bash scripts/quickstart.sh`
exec sss-gluon sweep "$@" --devices gpu0
