#!/bin/sh
# Measures training on the accelerator of this machine, in at most eight minutes; run it
# again to go on where it was cut off. The result is benchmarks/results/gpu.json.
cd "$(dirname "$0")/.." || exit 1
exec python benchmarks/gpu.py "$@"
