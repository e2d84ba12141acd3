#!/bin/sh
# All that docs/performance.md reports of a CPU: numbers, lines and a chart in
# the folder given. Run it with nothing else on the machine.
set -eu
folder=${1:?give a folder for the results}
python=${PYTHON:-python}
mkdir -p "$folder"
"$python" -m experiments.bench train --size=cpu --rounds=5 --steps=2 \
  --json="$folder/train.json" --chart="$folder/train.png" |
  tee "$folder/train.txt"
"$python" -m experiments.bench sample --size=cpu --rounds=5 \
  --json="$folder/sample.json" --chart="$folder/sample.png" |
  tee "$folder/sample.txt"
"$python" -m experiments.bench evaluate --size=cpu --rounds=2 --nopeer \
  --json="$folder/evaluate.json" | tee "$folder/evaluate.txt"
"$python" -m experiments.bench all --size=quick --rounds=3 --nopeer \
  --json="$folder/scaling.json" --chart="$folder/scaling.png" |
  tee "$folder/scaling.txt"
