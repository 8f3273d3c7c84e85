#!/usr/bin/env bash
# Makes .venv on the first run, then checks style and types and runs the tests.
#
#   bash scripts/test.sh               the fast set: what is not slow, and one slow test for each claim of the README
#   bash scripts/test.sh --full        every test
#   bash scripts/test.sh ARGUMENTS     ARGUMENTS go to pytest; with files, -k or -m no test that they select is left out
#
# The tests run in one process for each core (8 at most), each with one thread. `-n 0` keeps them in one process.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
set_up test
cd "$repo"

# The tests on Fashion-MNIST use Debian's package of it and are skipped without. Tried once.
if [ ! -d /usr/share/datasets/fashion-mnist ] && [ ! -e "$state/fashion-mnist" ] &&
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    touch "$state/fashion-mnist"
    echo "Installing Debian's dataset-fashion-mnist (30 MB)"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq dataset-fashion-mnist; } >/dev/null ||
        echo "dataset-fashion-mnist could not be installed: the tests that need it are skipped"
fi

selected=
if [ "${1:-}" = --full ]; then selected=1 && shift; fi
for argument; do
    case $argument in -k* | -m* | [!-]*[!0-9]*) selected=1 ;; esac      # not the number in `--maxfail 3`
done
[ -n "$selected" ] || set -- -m 'not slow or claim' "$@"

ruff check
case $version in 3.1[12].*) mypy ;; esac        # older Pythons have older types of NumPy, Pillow and others
export OMP_NUM_THREADS=1        # MXNet reads it when it is imported
python -m pytest -n logical --maxprocesses 8 --dist loadgroup "$@"
