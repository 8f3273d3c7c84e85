#!/usr/bin/env bash
# A plan as a Slurm array, with one GPU for each task. A task takes runs that no other task works on, so any number of
# tasks is right, and a task that is added or requeued continues where others stopped. At the end, run sss-gluon report.
#   sbatch --array=1-8 scripts/cluster/slurm_array.sh configs/plans/figure_cifar_vgg.yaml --data-root DIR
# The nodes must share the folder of the runs, which must support file locks (flock). If it does not, add
# --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" to the last line, and no two tasks touch the same run. The
# current run is saved two minutes before the time is over.
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
