#!/bin/sh
# What docs/performance.md reports of a CPU at --size=cpu, and what scales with
# what at --size=quick: numbers, lines and charts in the folder given. Run it with
# nothing else on the machine.
set -eu
folder=${1:?give a folder for the results}
python=${PYTHON:-python}
mkdir -p "$folder"

# Into a file first: the status of a pipe is not that of the benchmark.
measure() {
  name=$1
  shift
  "$python" -m experiments.bench "$@" --json="$folder/$name.json" \
    > "$folder/$name.txt"
  cat "$folder/$name.txt"
}

measure train train --size=cpu --rounds=15 --steps=1 \
  --chart="$folder/train.png"
measure sample sample --size=cpu --rounds=15 --chart="$folder/sample.png"
measure vocabulary vocabulary --size=cpu --rounds=15 --steps=1
measure evaluate evaluate --size=cpu --rounds=2 --nopeer
measure scaling all --size=quick --rounds=3 --nopeer \
  --chart="$folder/scaling.png"
