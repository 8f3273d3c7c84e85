#!/usr/bin/env bash
# SSS, SSL and every other method on Fashion-MNIST with so few epochs that a CPU is enough; not CIFAR results.
# About 3 hours on 2 cores (measured). Start it twice, each with OMP_NUM_THREADS=1, and the two share the runs.
#   bash scripts/fashion_mnist.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce fashion_mnist "Fashion-MNIST on a CPU" "$@"
