#!/usr/bin/env bash
# What happens on a TPU VM; called by launch/tpu.sh and launch/sky.yaml, not by hand:
#   bash launch/vm.sh setup             Python 3.11, requirements.lock, libtpu, tmux
#   bash launch/vm.sh train [FLAG...]   trains in gs://BUCKET/runs/NAME
# What it says is copied to gs://BUCKET/logs/NAME, every CXR_SYNC seconds and at the end.
# CXR_BUCKET, CXR_NAME, CXR_DATA as launch/tpu.sh says. On a slice of several hosts all
# train; the first writes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
name=${CXR_NAME:-cxr-gan}
remote=gs://${CXR_BUCKET:-}/runs/$name
log=$root/runs/$name.log
logs=gs://${CXR_BUCKET:-}/logs/$name
every=${CXR_SYNC:-300}
started=$(date -u +%Y%m%dT%H%M%SZ)
stopping=

worker= # number of this host in its slice, 0 for the first
hosts= # how many there are

say() { printf 'launch: %s\n' "$@"; }

die() {
  say "$@" >&2
  exit 1
}

metadata() { # ATTRIBUTE: what Google tells this VM of itself
  local server=http://metadata.google.internal/computeMetadata/v1
  curl --silent --show-error --fail --retry 5 --header 'Metadata-Flavor: Google' \
    "$server/instance/attributes/$1"
}

look_around() { # -> worker, hosts
  local endpoints why="this is no TPU VM: its metadata are above, as curl found them"
  worker=$(metadata agent-worker-number) || die "$why"
  endpoints=$(metadata worker-network-endpoints) || die "$why"
  hosts=$(tr , '\n' <<<"$endpoints" | wc -l)
}

setup() { # what is there already is left alone
  export PATH=$HOME/.local/bin:$PATH
  command -v tmux >/dev/null || sudo apt-get install --yes tmux
  command -v uv >/dev/null || # newer images guard their Python, which --user spares
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  uv python install --quiet 3.11 # Ubuntu 22.04 has 3.10, too old for JAX
  PYTHON=$(uv python find --managed-python --no-project 3.11)
  export PYTHON
  # shellcheck source=launch/install.sh
  source "$root/launch/install.sh"
  "$python" -m pip --disable-pip-version-check install --quiet "jax[tpu]"
  look_around
  [ "$hosts" -gt 1 ] || # several have to look at once, as they do when they train
    "$python" -c 'import jax; print("launch:", *jax.devices("tpu"))' ||
    die "JAX finds no TPU here; is CXR_RUNTIME the one for this type of accelerator?"
}

keep_log() {
  [ "$worker" != 0 ] || gcloud storage cp "$log" "$logs/$started.log" --quiet
}

train_once() { # FLAG...: returns what the training returned
  local training nap
  "$python" -P -m cxr_gan.main "$@" --workdir="$remote" &
  training=$!
  # Ctrl-C reaches the training by itself, and a second signal would not let it save.
  trap 'stopping=yes' INT
  trap 'stopping=yes; kill -TERM "$training" 2>/dev/null || true' TERM HUP
  while kill -0 "$training" 2>/dev/null; do
    sleep "$every" &
    nap=$!
    wait -n "$training" "$nap" || true
    kill "$nap" 2>/dev/null || keep_log ||
      say "its words could not be copied to $logs; again in $every s"
  done
  wait "$training"
}

train() { # FLAG...: until it ends well, is asked to stop, or three times fails at once
  local flags=("$@") short=0
  [ -n "${CXR_BUCKET:-}" ] ||
    die "CXR_BUCKET is not set; type its bare name, as CXR_BUCKET=my-bucket"
  cd "$root"
  look_around
  [ "$hosts" = 1 ] || flags+=(--multihost)
  mkdir -p runs
  exec > >(tee -i -a "$log") 2>&1
  say "$started: worker $worker of $hosts; the run is kept in $remote"
  keep_log || # shows that we may write
    die "$remote cannot be written (the words are above); nothing is trained." \
      "Give the VM's service account the role Storage Object Admin on it"
  if [ -n "${CXR_DATA:-}" ]; then
    mkdir -p data
    gcloud storage rsync "$CXR_DATA" data --recursive --quiet ||
      die "CXR_DATA=$CXR_DATA cannot be read"
    flags+=(--config.dataset=data) # relative: part of the run, wherever it goes on
  fi
  [[ " $*" == *" --config="* ]] || flags+=(--config=configs/acgan.py)
  while SECONDS=0 && ! train_once ${flags[@]+"${flags[@]}"} && [ -z "$stopping" ]; do
    if [ "$SECONDS" -lt 300 ]; then short=$((short + 1)); else short=0; fi
    [ "$short" -lt 3 ] || break
    say "the training ended with an error; it is tried again where it stopped"
    sleep "${CXR_PAUSE:-10}"
  done
  keep_log || say "its last words are on this VM alone, in $log"
  [ "$short" -lt 3 ] ||
    die "the training failed three times in a row within minutes; what it said is" \
      "above. What was not copied to $remote is in ~/.cache/cxr_gan/buckets"
  say "the training has ended; the run is in $remote"
}

case ${1:-} in
  setup) setup ;;
  train) train "${@:2}" ;;
  *) die "say setup or train, not '${1:-}'" ;;
esac
