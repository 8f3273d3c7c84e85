#!/usr/bin/env bash
# Makes .venv on the first run, then checks the style and runs the tests. Arguments go to pytest.
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

ruff check
python -m pytest tests "$@"
