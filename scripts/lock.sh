#!/usr/bin/env bash
# Renews scripts/locks: for every Python the newest versions it can have, with hashes. pyXY.txt is what the package needs,
# pyXY-test.txt what the tests and the extras need besides. MXNet is in neither: SSS_GLUON_MXNET chooses the build, and what the
# CPU's needs is locked. Arguments go to uv in the place of --upgrade: `bash scripts/lock.sh --upgrade-package pillow`.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
cd "$repo"
unset SSS_GLUON_MXNET
find_python
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
"$executable" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --disable-pip-version-check --quiet uv || die 'uv cannot be installed'

[ $# -gt 0 ] || set -- --upgrade
compile() {
    UV_PYTHON_DOWNLOADS=never "$scratch/venv/bin/uv" pip compile --quiet --config-file scripts/locks/uv.toml \
        --python "$scratch/venv/bin/python" --python-version "$minor" --python-platform linux \
        --generate-hashes --no-emit-index-url --custom-compile-command 'bash scripts/lock.sh' --no-emit-package mxnet "$@"
}

for minor in 3.8 3.9 3.10 3.11 3.12; do
    lock=scripts/locks/py${minor/./}
    echo "$lock.txt, $lock-test.txt"
    compile "$@" --output-file "$lock.txt" setup.py scripts/locks/extra.in
    known=$(sed -nE 's/^([a-z0-9._-]+)==.*/--no-emit-package=\1/p' "$lock.txt")
    compile "$@" --output-file "$lock-test.txt" --constraint "$lock.txt" $known \
        --extra test --extra onnx --extra tensorboard setup.py
done
