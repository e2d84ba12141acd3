#!/bin/sh
# A run on all workers of a Cloud TPU slice: docs/tpu.md tells how to use it.
#
#   scripts/tpu_pod.sh create|install|launch|follow|resume|fetch|delete
#
# Settings come from the environment; those without a value must be given.
set -eu

: "${TPU_NAME:=lvdecode}"   # of the slice
: "${TPU_ZONE:=}"           # e.g. us-east5-a
: "${TPU_TYPE:=}"           # e.g. v6e-16
: "${TPU_VERSION:=}"        # image, e.g. v2-alpha-tpuv6e
: "${TPU_SPOT:=yes}"        # preemptible, and cheaper; 'no': on demand
: "${BUCKET:=}"             # holds the runs, mounted on every worker
: "${RUN:=quickstart}"      # folder of the run in the bucket
: "${PYTHON:=python3}"      # on the workers; 3.11 or later
: "${ARGS:=--config=configs/quickstart.py}"  # of experiments.run

fail() {
  echo "error: $1" >&2
  exit 2
}

needs() {
  for name in "$@"; do
    eval "[ -n \"\${$name}\" ]" || fail "$name is not set: export $name=..."
  done
}

tpu() {
  gcloud compute tpus tpu-vm "$@" --zone="$TPU_ZONE"
}

everywhere() {
  tpu ssh "$TPU_NAME" --worker=all --command="$1"
}

create() {
  needs TPU_ZONE TPU_TYPE TPU_VERSION
  spot=--spot
  [ "$TPU_SPOT" = yes ] || spot=
  # shellcheck disable=SC2086
  tpu create "$TPU_NAME" --accelerator-type="$TPU_TYPE" \
    --version="$TPU_VERSION" $spot
}

# The committed state of this folder, an environment, the bucket.
install() {
  needs TPU_ZONE BUCKET
  archive=$(mktemp)
  trap 'rm -f "$archive"' EXIT
  git archive --format=tar HEAD > "$archive"
  tpu scp "$archive" "$TPU_NAME:lvdecode.tar" --worker=all
  everywhere "set -e
    mkdir -p lvdecode bucket
    tar -xf lvdecode.tar -C lvdecode
    $PYTHON -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
      echo 'error: $PYTHON is older than 3.11: install one, export PYTHON=...'
      exit 2
    }
    $PYTHON -m venv lvdecode/.venv
    lvdecode/.venv/bin/pip install --quiet 'jax[tpu]>=0.10' ./lvdecode
    $(mounted)"
}

# After a reboot the bucket is gone, and a run would be written beside it.
mounted() {
  echo "mountpoint -q \$HOME/bucket ||
    gcsfuse --implicit-dirs --rename-dir-limit=100000 $BUCKET \$HOME/bucket"
}

# A run holds a lock on its worker, so that no second one is started beside it and
# writes over its log; all are asked before any is told to begin.
idle() {
  everywhere "set -e
    cd lvdecode
    flock --nonblock run.lock true || {
      echo 'error: a run is going on here: follow it, or end it first' >&2
      exit 2
    }"
}

# Every worker runs the same command and finds the others by itself.
launch() {
  needs TPU_ZONE BUCKET
  idle
  # Braces: without them a shell in the background keeps the connection open.
  everywhere "set -e
    $(mounted)
    cd lvdecode && mkdir -p ../bucket/$RUN && {
    TFDS_DATA_DIR=\$HOME/tfds nohup setsid flock run.lock \
    .venv/bin/python -u -m experiments.run $ARGS --workdir=\$HOME/bucket/$RUN \
    > run.log 2>&1 < /dev/null & }"
}

follow() {
  needs TPU_ZONE
  tpu ssh "$TPU_NAME" --worker=0 --command='tail -n 50 -F lvdecode/run.log'
}

# A preempted slice is gone: another one goes on from the last checkpoint.
resume() {
  needs TPU_ZONE TPU_TYPE TPU_VERSION BUCKET
  state=$(tpu describe "$TPU_NAME" --format='value(state)' || echo GONE)
  if [ "$state" != READY ]; then
    [ "$state" = GONE ] || tpu delete "$TPU_NAME" --quiet
    create
    install
  fi
  launch
}

fetch() {
  needs BUCKET
  mkdir -p "runs/$RUN"
  gcloud storage rsync --recursive "gs://$BUCKET/$RUN" "runs/$RUN"
}

delete() {
  needs TPU_ZONE
  tpu delete "$TPU_NAME" --quiet
}

case "${1:-}" in
  create | install | launch | follow | resume | fetch | delete) "$1" ;;
  *) fail "give one of create install launch follow resume fetch delete" ;;
esac
