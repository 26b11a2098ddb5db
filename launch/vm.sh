#!/usr/bin/env bash
# Steps that run on a TPU VM; called by launch/tpu.sh and launch/sky.yaml, not by hand:
#   bash launch/vm.sh setup             installs Python 3.11, the packages, libtpu, tmux
#   bash launch/vm.sh train [FLAG...]   trains with --workdir=gs://BUCKET/runs/NAME
# The log is copied to gs://BUCKET/logs/NAME every CXR_SYNC seconds and at the end. For
# CXR_BUCKET, CXR_NAME and CXR_DATA see launch/tpu.sh. On a slice of several hosts all
# hosts train; the first one writes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
name=${CXR_NAME:-cxr-gan}
remote=gs://${CXR_BUCKET:-}/runs/$name
log=$root/runs/$name.log
logs=gs://${CXR_BUCKET:-}/logs/$name
sync_seconds=${CXR_SYNC:-300}
started=$(date -u +%Y%m%dT%H%M%SZ)
stopping=

worker= # index of this host in its slice, 0 for the first
hosts= # number of hosts of the slice

say() { printf 'launch: %s\n' "$@"; }

die() {
  say "$@" >&2
  exit 1
}

metadata() { # ATTRIBUTE: prints its value from the metadata server of this VM
  local server=http://metadata.google.internal/computeMetadata/v1
  curl --silent --show-error --fail --retry 5 --header 'Metadata-Flavor: Google' \
    "$server/instance/attributes/$1"
}

read_topology() { # -> worker, hosts
  local endpoints reason="this is not a TPU VM: see curl's error for its metadata above"
  worker=$(metadata agent-worker-number) || die "$reason"
  endpoints=$(metadata worker-network-endpoints) || die "$reason"
  hosts=$(tr , '\n' <<<"$endpoints" | wc -l)
}

setup() { # keeps what is already installed
  export PATH=$HOME/.local/bin:$PATH
  command -v tmux >/dev/null || sudo apt-get install --yes tmux
  command -v uv >/dev/null || # newer images protect their Python; --user is safe
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  uv python install --quiet 3.11 # Ubuntu 22.04 has 3.10, which is too old for JAX
  PYTHON=$(uv python find --managed-python --no-project 3.11)
  export PYTHON
  # shellcheck source=launch/install.sh
  source "$root/launch/install.sh"
  "$python" -m pip --disable-pip-version-check install --quiet "jax[tpu]"
  read_topology
  [ "$hosts" -gt 1 ] || # several hosts must start JAX together, as they do in training
    "$python" -c 'import jax; print("launch:", *jax.devices("tpu"))' ||
    die "JAX finds no TPU here; is CXR_RUNTIME the one for this type of accelerator?"
}

keep_log() {
  [ "$worker" != 0 ] || gcloud storage cp "$log" "$logs/$started.log" --quiet
}

train_once() { # FLAG...: returns the exit code of the training
  local training sleeper
  "$python" -P -m cxr_gan.main "$@" --workdir="$remote" &
  training=$!
  # Ctrl-C also reaches the training, and a second signal would stop it without saving.
  trap 'stopping=yes' INT
  trap 'stopping=yes; kill -TERM "$training" 2>/dev/null || true' TERM HUP
  while kill -0 "$training" 2>/dev/null; do
    sleep "$sync_seconds" &
    sleeper=$!
    wait -n "$training" "$sleeper" || true
    kill "$sleeper" 2>/dev/null || keep_log ||
      say "the log could not be copied to $logs; next try in $sync_seconds s"
  done
  wait "$training"
}

train() { # FLAG...: until it succeeds, is stopped, or quickly fails three times
  local flags=("$@") short=0
  [ -n "${CXR_BUCKET:-}" ] ||
    die "CXR_BUCKET is not set; type its name only, such as CXR_BUCKET=my-bucket"
  cd "$root"
  read_topology
  [ "$hosts" = 1 ] || flags+=(--multihost)
  mkdir -p runs
  exec > >(tee -i -a "$log") 2>&1
  say "$started: worker $worker of $hosts; the run is kept in $remote"
  keep_log || # checks write access
    die "$remote cannot be written (see the message above); nothing is trained." \
      "Give the VM's service account the role Storage Object Admin on the bucket"
  if [ -n "${CXR_DATA:-}" ]; then
    mkdir -p data
    gcloud storage rsync "$CXR_DATA" data --recursive --quiet ||
      die "CXR_DATA=$CXR_DATA cannot be read"
    flags+=(--config.dataset=data) # relative, so that the run can resume on any machine
  fi
  [[ " $*" == *" --config="* ]] || flags+=(--config=configs/acgan.py)
  while SECONDS=0 && ! train_once ${flags[@]+"${flags[@]}"} && [ -z "$stopping" ]; do
    if [ "$SECONDS" -lt 300 ]; then short=$((short + 1)); else short=0; fi
    [ "$short" -lt 3 ] || break
    say "the training ended with an error; it is started again where it stopped"
    sleep "${CXR_PAUSE:-10}"
  done
  keep_log || say "the end of the log exists only on this VM, in $log"
  [ "$short" -lt 3 ] ||
    die "the training failed three times in a row within minutes; see its errors" \
      "above. What was not copied to $remote is in ~/.cache/cxr_gan/buckets"
  say "the training has ended; the run is in $remote"
}

case ${1:-} in
  setup) setup ;;
  train) train "${@:2}" ;;
  *) die "unknown step '${1:-}'; give setup or train" ;;
esac
