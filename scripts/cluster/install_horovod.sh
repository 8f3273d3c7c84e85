#!/usr/bin/env bash
# Builds Horovod for the MXNet in .venv, with Gloo (and NCCL where SSS_GLUON_NCCL=1): about five minutes on two cores.
# Needs a C++ compiler and make; cmake comes from PyPI. A second run does nothing.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../setup.sh"
again="bash $0"
set_up run
if python -c 'import sss_gluon, horovod.mxnet' 2>/dev/null; then
    echo 'Horovod is there already'
    exit 0
fi
command -v c++ >/dev/null || die 'no C++ compiler found: on Debian or Ubuntu, `apt-get install build-essential`'
export HOROVOD_WITH_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=${SSS_GLUON_WITHOUT_MPI:-1}
export HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1
if [ "${SSS_GLUON_NCCL:-0}" = 1 ]; then export HOROVOD_GPU_OPERATIONS=NCCL; fi
python -m pip install --disable-pip-version-check --quiet 'cmake<3.28'
python -m pip install --disable-pip-version-check --no-build-isolation horovod==0.28.1
python -c 'import sss_gluon, horovod.mxnet as hvd; hvd.init(); print("Horovod with MXNet works")'
