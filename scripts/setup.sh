# Sourced by quickstart.sh and test.sh. `set_up run` makes .venv in the clone, with the packages that scripts/locks has for this
# Python, MXNet, and this package (editable); `set_up test` adds those of the tests. What is there already is not installed
# again; an interrupted installation starts anew.
#
#   PYTHON            the Python to build on; default python3
#   SSS_GLUON_MXNET   which MXNet: not set, the CPU build; a requirement such as mxnet-cu117==1.9.1, that
#                     build; none, the MXNet that $PYTHON can import, wherever it is installed

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
venv=$repo/.venv
state=$venv/.sss_gluon          # which installations in .venv are finished, and of what

again=$(printf 'bash %q' "$0")     # what a message tells to run

die() {
    printf 'sss_gluon: %s\n' "$*" >&2
    exit 1
}

# Sets python, version, lock and executable (the interpreter itself, not a link in a virtual environment).
find_python() {
    python=${PYTHON:-python3}
    command -v -- "$python" >/dev/null ||
        die "no '$python' found: install Python 3.8 to 3.12, or name one: PYTHON=/path/to/python3.11 $again"
    local found candidate other=/path/to/python3.11
    found=$("$python" -c 'import os, sys
print("%d.%d.%d" % sys.version_info[:3])
print(os.path.realpath(sys.executable))') || die "'$python' does not run"
    version=${found%%$'\n'*}
    executable=${found#*$'\n'}
    lock=${version%.*}
    lock=$repo/scripts/locks/py${lock/./}       # and .txt, or -test.txt
    case $version in 3.8.* | 3.9.* | 3.10.* | 3.11.* | 3.12.*) return ;; esac
    for candidate in python3.11 python3.12 python3.10 python3.9 python3.8; do
        if "$candidate" -c '' >/dev/null 2>&1; then other=$candidate && break; fi
    done
    die "$python is Python $version, and Python 3.8 to 3.12 is needed (MXNet 1.9.1 needs NumPy 1, which ends at" \
        "3.12): install one of these, or name it: PYTHON=$other $again"
}

# A shared library that the system lacks shows only here. The installation is good, so it is not repeated.
check_import() {
    local problem
    if ! problem=$("$venv/bin/python" -c 'import sss_gluon' 2>&1); then
        problem=${problem##*ImportError: }
        die "${problem#sss_gluon: }"
    fi
    touch "$state/imported"
}

# The folder that $python imports MXNet from.
mxnet_folder() {
    "$python" -c 'import importlib.util as u, os
print(os.path.dirname(os.path.dirname(u.find_spec("mxnet").origin)))' 2>/dev/null ||
        die "SSS_GLUON_MXNET=none uses the MXNet of $python ($executable), and it has none"
}

# pip says much; it is shown when the installation fails.
pip_install() {
    PIP_USER=0 "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps "$@" >"$state/pip.log" 2>&1 || {
        tail -n 30 -- "$state/pip.log" >&2
        die "the installation failed, pip's message is above and in $state/pip.log (MXNet exists for Linux and for" \
            "macOS on Intel)"
    }
}

install_run() {
    local link chosen=()
    # First the tools: an old pip does not know today's wheels, and the others are built with setuptools and wheel.
    pip_install --require-hashes -r <(awk '/^[^ #]/ { tool = /^(pip|setuptools|wheel)==/ } tool' "$lock.txt")
    pip_install --no-build-isolation --require-hashes -r "$lock.txt"
    [ "$mxnet" = none ] || chosen=("$mxnet")
    pip_install --no-build-isolation ${chosen[@]+"${chosen[@]}"} -e "$repo"
    if [ "$mxnet" = none ]; then
        # At the end of the path, so the packages of .venv come first. Unlike --system-site-packages this also
        # finds the MXNet of another virtual environment.
        link=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mxnet-elsewhere.pth
        printf '%s\n' "$folder" >"$link"
    fi
}

install_test() {
    pip_install --require-hashes -r "$lock-test.txt"
}

checksum() {
    cat "$repo/setup.py" "$lock.txt" "$@" | cksum
}

set_up() {
    local want=$1 part sum identity
    find_python
    mxnet=${SSS_GLUON_MXNET:-mxnet==1.9.1}
    folder=
    if [ "$mxnet" = none ]; then folder=$(mxnet_folder); fi
    identity="Python $version $executable, $mxnet $folder, $venv"       # a moved clone has wrong paths in .venv
    if command -v flock >/dev/null; then
        exec 9>"$repo/.venv.lock"
        flock 9             # quickstart.sh and test.sh may be started side by side
    fi
    if [ -e "$venv" ] && [ "$(cat "$state/identity" 2>/dev/null)" != "$identity" ]; then
        [ -d "$state" ] || die "$venv was not made by this script: move it away, or activate it and run" \
            "\`pip install -e .\` in it"
        rm -rf -- "$venv"
    fi
    for part in run test; do
        if [ "$part" = run ]; then sum=$(checksum); else sum=$(checksum "$lock-test.txt"); fi
        if [ "$(cat "$state/$part" 2>/dev/null)" != "$sum" ]; then
            if [ ! -e "$venv/bin/python" ]; then
                "$executable" -c 'import ensurepip, venv' 2>/dev/null ||
                    die "$python ($version) cannot make virtual environments: on Debian or Ubuntu," \
                        "\`apt-get install python3-venv\` (or python${version%.*}-venv)"
                printf '%s\n' "Making $venv with Python $version;" "about 200 MB are downloaded once, which takes minutes."
                "$executable" -m venv "$venv"
            fi
            mkdir -p "$state"
            rm -f -- "$state/identity" "$state/imported"        # not finished from here on
            "install_$part"
            echo "$sum" >"$state/$part"
        fi
        [ "$part" != "$want" ] || break
    done
    echo "$identity" >"$state/identity"
    [ -e "$state/imported" ] || check_import
    exec 9>&-
    export PATH=$venv/bin:$PATH
}
