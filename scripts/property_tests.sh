#!/usr/bin/env bash
# The property tests (tests/exact) with new examples, for one hour by default.
#   bash scripts/property_tests.sh [seconds [first seed]]
# One round has one seed: random small networks, the nine networks, and the next family of GluonCV's model zoo, each in
# its own process. Prints the seed, the number of networks and the result of each round. The log of a failing round is
# printed and kept as runs/property_tests/<seed>-<what>.log, and its example is tried first in the next rounds
# (.hypothesis). No round starts after the time is over. Exit status 1 if any round failed.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
set_up test
cd "$repo"
seconds=${1:-3600}
seed=${2:-$RANDOM$RANDOM}
logs=runs/property_tests
mkdir -p "$logs"
networks=0 rounds=0 failures=0

# round <name> <seed> <pytest arguments>
round() {
    local log=$logs/$2-$1.log result=passed count
    python -m pytest -q -p no:cacheprovider --hypothesis-profile=hour --hypothesis-seed="$2" "${@:3}" >"$log" 2>&1 ||
        result="FAILED with exit code $?"
    count=$(sed -nE 's/^([0-9]+) networks compacted.*/\1/p' "$log" | tail -n 1)
    networks=$((networks + ${count:-0}))
    rounds=$((rounds + 1))
    printf '%5d s  seed %-10s %-14s %5d networks  %s\n' "$SECONDS" "$2" "$1" "${count:-0}" "$result"
    if [ "$result" = passed ]; then
        rm -- "$log"
    else
        failures=$((failures + 1))
        cat -- "$log"
    fi
}

mapfile -t families < <(sed -nE "s/^    '([a-z0-9_]+)': Family\(.*/\1/p" tests/exact/test_model_zoo.py)
SECONDS=0
while [ "$SECONDS" -lt "$seconds" ]; do
    round generated "$seed" tests/exact/test_generated.py
    [ "$SECONDS" -lt "$seconds" ] || break
    round networks "$seed" tests/exact/test_networks.py -k drawn
    for _ in 1 2 3 4 5 6; do
        [ "$SECONDS" -lt "$seconds" ] || break
        family=${families[0]}
        families=("${families[@]:1}" "$family")
        ZOO_SEED=$seed round "$family" "$seed" tests/exact/test_model_zoo.py -k "[$family-"
    done
    seed=$((seed + 1))
done
echo "$rounds rounds, $networks networks compacted and compared, $failures rounds failed ($logs)"
[ "$failures" = 0 ]
