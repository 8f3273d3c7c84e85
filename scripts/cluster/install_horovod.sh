#!/usr/bin/env bash
# Builds Horovod with Gloo for the MXNet in .venv: 2 to 5 minutes on two cores. Needs a C++ compiler and make; cmake comes
# from PyPI. SSS_GLUON_MPI=1 adds MPI (for mpirun), and SSS_GLUON_NCCL=1 adds NCCL. A build that has these features is
# kept, and an older build stays until its replacement is ready.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../setup.sh"
set_up run

# Prints how the installed Horovod was built, as "mpi nccl", each 0 or 1; nothing if there is none with Gloo.
built() {
    python - 2>/dev/null <<'EOF' || true
import sss_gluon
import horovod.mxnet as horovod
if horovod.gloo_built():
    print(int(horovod.mpi_built()), int(bool(horovod.nccl_built())))
EOF
}

mpi=${SSS_GLUON_MPI:-0}
nccl=${SSS_GLUON_NCCL:-0}
for wish in "SSS_GLUON_MPI=$mpi" "SSS_GLUON_NCCL=$nccl"; do
    case $wish in *=0 | *=1) ;; *) die "$wish is neither 0 nor 1" ;; esac
done
read -r has_mpi has_nccl <<<"$(built)" || true
if [ -n "$has_mpi" ] && [ "$has_mpi" -ge "$mpi" ] && [ "$has_nccl" -ge "$nccl" ]; then
    echo 'Horovod is already installed'
    exit 0
fi
mpi=$((mpi | ${has_mpi:-0}))
nccl=$((nccl | ${has_nccl:-0}))

command -v c++ >/dev/null || die 'no C++ compiler found: on Debian or Ubuntu, `apt-get install build-essential`'
export HOROVOD_WITH_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1
if [ "$mpi" = 1 ]; then
    command -v mpicxx >/dev/null || die 'no mpicxx found: on Debian or Ubuntu, `apt-get install libopenmpi-dev openmpi-bin`'
    export HOROVOD_WITH_MPI=1
else
    export HOROVOD_WITHOUT_MPI=1
fi
if [ "$nccl" = 1 ]; then export HOROVOD_GPU_OPERATIONS=NCCL; fi

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
# The build imports MXNet to find its libraries, and MXNet alone cannot be imported with the NumPy of scripts/locks.
echo 'import sss_gluon' >"$scratch/sitecustomize.py"
pip() { PIP_USER=0 python -m pip --disable-pip-version-check "$@"; }
pip install --quiet 'cmake<3.28'
# Not from pip's cache, which does not tell builds with other features apart.
PYTHONPATH=$scratch${PYTHONPATH:+:$PYTHONPATH} pip wheel --no-build-isolation --no-cache-dir --no-deps \
    --wheel-dir "$scratch" "$(grep -oE 'horovod==[0-9.]+' "$repo/setup.py")"
pip install --quiet --force-reinstall --no-deps "$scratch"/horovod-*.whl
pip install --quiet "$scratch"/horovod-*.whl        # and its dependencies
[ "$(built)" = "$mpi $nccl" ] || die "Horovod was built without a requested feature (MPI and NCCL: $mpi $nccl, found: '$(built)')," \
    "or it cannot be imported: python -c 'import sss_gluon, horovod.mxnet'"
echo 'Horovod with MXNet works'
