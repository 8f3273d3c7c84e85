#!/usr/bin/env bash
# Builds Horovod for the MXNet in .venv, with Gloo: about five minutes on two cores. Needs a C++ compiler and make; cmake comes
# from PyPI. SSS_GLUON_MPI=1 adds MPI, for mpirun, and SSS_GLUON_NCCL=1 NCCL. What is there already is not built again.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../setup.sh"
set_up run

mpi=${SSS_GLUON_MPI:-0}
nccl=${SSS_GLUON_NCCL:-0}
is_there() {
    python - "$mpi" "$nccl" <<'EOF' 2>/dev/null
import sys
import sss_gluon
import horovod.mxnet as horovod
mpi, nccl = (int(word) for word in sys.argv[1:])
sys.exit(not (horovod.gloo_built() and mpi <= horovod.mpi_built() and nccl <= horovod.nccl_built()))
EOF
}

if is_there; then
    echo 'Horovod is there already'
    exit 0
fi
command -v c++ >/dev/null || die 'no C++ compiler found: on Debian or Ubuntu, `apt-get install build-essential`'
export HOROVOD_WITH_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1
if [ "$mpi" = 1 ]; then
    command -v mpicxx >/dev/null || die 'no mpicxx found: on Debian or Ubuntu, `apt-get install libopenmpi-dev openmpi-bin`'
    export HOROVOD_WITH_MPI=1
else
    export HOROVOD_WITHOUT_MPI=1
fi
if [ "$nccl" = 1 ]; then export HOROVOD_GPU_OPERATIONS=NCCL; fi

# The build asks MXNet where it lies, and MXNet alone cannot be imported with the NumPy of requirements.txt.
first=$(mktemp -d)
trap 'rm -rf -- "$first"' EXIT
echo 'import sss_gluon' >"$first/sitecustomize.py"
python -m pip install --disable-pip-version-check --quiet 'cmake<3.28'
python -m pip uninstall --quiet --yes horovod 2>/dev/null
# Not from pip's cache, where the features that a build has do not show.
PYTHONPATH=$first${PYTHONPATH:+:$PYTHONPATH} python -m pip install --disable-pip-version-check --no-build-isolation \
    --no-cache-dir "$(grep -oE 'horovod==[0-9.]+' "$repo/setup.py")"
is_there || die "Horovod was built, but cannot be used: $(python -c 'import sss_gluon, horovod.mxnet' 2>&1 | tail -n 1)"
echo 'Horovod with MXNet works'
