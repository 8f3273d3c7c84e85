#!/usr/bin/env bash
# What can be measured on a CPU: SSS, SSL and every other method on Fashion-MNIST, few epochs, not CIFAR results.
# About 3 hours on 2 cores: start it twice, each with OMP_NUM_THREADS=1, and the two share the runs.
#   bash scripts/fashion_mnist.sh [--dry-run] [--smoke] [--devices D,D] [--data-root DIR] [key=value ...]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/reproduce.sh"
reproduce fashion_mnist "Fashion-MNIST on a CPU" "$@"
