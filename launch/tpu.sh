#!/usr/bin/env bash
# Trains on a Cloud TPU slice with gcloud only, one step per call:
#   bash launch/tpu.sh create         sends a request for a spot slice, valid six hours
#   bash launch/tpu.sh wait           waits until the slice is ready or has failed
#   bash launch/tpu.sh setup          installs this checkout and its own Python there
#   bash launch/tpu.sh run [FLAG...]  trains under tmux; FLAGs are for cxr_gan.main
#   bash launch/tpu.sh logs           follows the log; Ctrl-C does not stop the training
#   bash launch/tpu.sh fetch          copies the run from the bucket into runs/NAME
#   bash launch/tpu.sh delete         deletes the slice and checks that nothing is left
# Every step accepts --dry_run, which prints the commands and runs none. The slice is
# billed from when "wait" reports it ready until "delete", whether it trains or not.
# After a preemption, delete and create it again; the run resumes from the bucket.
# launch/sky.yaml, the recommended way, does that automatically. Environment variables:
#   CXR_PROJECT      Google Cloud project: my-project
#   CXR_ZONE         zone of the slice: us-west4-a
#   CXR_ACCELERATOR  type and size: v5litepod-8, or v5litepod-16 with several hosts
#   CXR_RUNTIME      software version of the VM: v2-alpha-tpuv5-lite for v5litepod
#   CXR_BUCKET       Cloud Storage bucket; the run is kept in gs://BUCKET/runs/NAME
#   CXR_NAME         name of the slice and of the run [cxr-gan]
#   CXR_DATA         gs:// folder of radiographs to train on [none: phantoms]
#   CXR_SYNC         seconds between copies of the log to the bucket [300]
#   CXR_POLL         seconds between status requests [30]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=${CXR_NAME:-cxr-gan}
poll=${CXR_POLL:-30}
remote=gs://${CXR_BUCKET:-}/runs/$name
session=cxr_gan # name of the tmux session on the VM
dry_run=
exec 3>&1 # --dry_run prints here, so that $(...) does not capture it

say() { [ -n "$dry_run" ] || printf 'launch: %s\n' "$@"; }

die() {
  printf 'launch: %s\n' "$@" >&2
  exit 1
}

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

call() { # COMMAND...: runs it, or prints it in a dry run
  local line
  if [ -z "$dry_run" ]; then
    "$@"
    return
  fi
  printf -v line '%q ' "$@"
  echo "${line% }" >&3
}

example() { # VARIABLE: prints an example value
  case $1 in
    CXR_PROJECT) echo my-project ;;
    CXR_ZONE) echo us-west4-a ;;
    CXR_ACCELERATOR) echo v5litepod-8 ;;
    CXR_BUCKET) echo my-bucket ;;
    CXR_RUNTIME)
      case ${CXR_ACCELERATOR:-v5litepod-8} in
        v6e-*) echo v2-alpha-tpuv6e ;;
        v5p-*) echo v2-alpha-tpuv5 ;;
        v5litepod-*) echo v2-alpha-tpuv5-lite ;;
        *) echo tpu-ubuntu2204-base ;;
      esac
      ;;
  esac
}

need() { # VARIABLE...: checks that they are set and valid and gcloud is installed
  local variable missing=()
  for variable in "$@"; do
    if [ -z "${!variable:-}" ]; then
      missing+=("$variable is not set; type, with your own value," \
        "  export $variable=$(example "$variable")")
    fi
  done
  [ "${#missing[@]}" -eq 0 ] ||
    die "${missing[@]}" "bash launch/tpu.sh --help describes each variable"
  [[ $name =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    die "CXR_NAME=$name is not a valid slice name; type up to 40 of a-z, 0-9 and -," \
      "starting with a letter and not ending with -, such as CXR_NAME=kermany64"
  [[ ${CXR_BUCKET:-x} != */* ]] ||
    die "CXR_BUCKET=$CXR_BUCKET is an address; type the name only, such as my-bucket"
  [[ ${CXR_DATA:-gs://x} == gs://* ]] ||
    die "CXR_DATA=$CXR_DATA is not in a bucket; type one, such as gs://my-bucket/data"
  [ -n "$dry_run" ] || command -v gcloud >/dev/null ||
    die "gcloud is not installed; install the Google Cloud CLI, type gcloud auth" \
      "login, and try again (--dry_run shows the commands without gcloud)"
}

need_known_type() {
  [[ $CXR_ACCELERATOR =~ ^(v[234]|v5p|v5litepod|v6e)-[1-9][0-9]*$ ]] ||
    die "CXR_ACCELERATOR=$CXR_ACCELERATOR is not a known accelerator type; type one" \
      "such as v5litepod-8 (as gcloud writes it, without tpu- in front)"
}

tpus() { # GROUP COMMAND ARGUMENT...
  call gcloud compute tpus "$@" --project="$CXR_PROJECT" --zone="$CXR_ZONE" --quiet
}

on_vm() { # WORKER COMMAND
  tpus tpu-vm ssh "$name" --worker="$1" --command="$2"
}

explain() { # MESSAGE: an error message of gcloud; prints it and what to do
  printf '%s\n' "$1" >&2
  case $1 in
    *[Qq]uota*)
      die "the quota for this type in this zone is used up or was never granted:" \
        "request it (IAM & Admin, Quotas, tpu.googleapis.com), set another CXR_ZONE," \
        "or delete old requests, as failed ones count too: gcloud compute tpus" \
        "queued-resources list --zone=- --project=${CXR_PROJECT:-}"
      ;;
    *ALREADY_EXISTS* | *"already exists"*)
      die "$name exists already: continue with wait, or delete it, or set CXR_NAME"
      ;;
    *PERMISSION_DENIED*)
      die "the account of gcloud auth list needs the roles TPU Admin and Service" \
        "Account User in $CXR_PROJECT, and the Cloud TPU API enabled there"
      ;;
    *) die "Google Cloud refused the request; see its message above" ;;
  esac
}

create() {
  need CXR_PROJECT CXR_ZONE CXR_ACCELERATOR CXR_RUNTIME CXR_BUCKET
  need_known_type
  local message
  call gcloud storage ls "gs://$CXR_BUCKET" --quiet >/dev/null ||
    die "gs://$CXR_BUCKET cannot be listed (see gcloud's message above); create it:" \
      "  gcloud storage buckets create gs://$CXR_BUCKET --project=$CXR_PROJECT" \
      "or set CXR_BUCKET to one of yours. Nothing was requested, nothing is billed"
  message=$(tpus queued-resources create "$name" --node-id="$name" --spot \
    --accelerator-type="$CXR_ACCELERATOR" --runtime-version="$CXR_RUNTIME" \
    --valid-until-duration=6h --labels="app=cxr-gan,run=$name" \
    --scopes=https://www.googleapis.com/auth/cloud-platform 2>&1) || explain "$message"
  say "requested $CXR_ACCELERATOR as $name; next: bash launch/tpu.sh wait"
}

suggest_recreate() { # REASON: the slice is gone, but its run is not
  die "$name $1. What it had copied is in the bucket. To continue:" \
    "  bash launch/tpu.sh delete && bash launch/tpu.sh create &&" \
    "  bash launch/tpu.sh wait && bash launch/tpu.sh setup && bash launch/tpu.sh run" \
    "with the same flags after run; launch/sky.yaml does this automatically"
}

describe() { # GROUP FIELDS -> $description; fails after three errors in a row
  local try
  for try in 1 2 3; do
    if description=$(tpus "$1" describe "$name" --format="value($2)"); then return; fi
    [ "$try" -eq 3 ] || sleep "$poll"
  done
  die "$name cannot be found in $CXR_ZONE (see gcloud's message above); if it was" \
    "never requested, type  bash launch/tpu.sh create"
}

wait_for_slice() {
  need CXR_PROJECT CXR_ZONE
  local description state error='' previous=''
  while :; do
    describe queued-resources state.state,state.failedData.error.message
    state=${description%%$'\t'*}
    error=${description#*$'\t'}
    if [ "$state" = ACTIVE ] || [ -n "$dry_run" ]; then
      describe tpu-vm state
      state=$description
    fi
    [ -z "$dry_run" ] || return 0
    [ "$state" = "$previous" ] || say "$name: $state"
    previous=$state
    case $state in
      READY) break ;;
      FAILED)
        say "the request will not be granted; type  bash launch/tpu.sh delete" >&2
        explain "${error:-no reason was given}"
        ;;
      PREEMPTED | TERMINATED) suggest_recreate "was preempted ($state)" ;;
      SUSPENDING | SUSPENDED | DELETING | STOPP*)
        suggest_recreate "no longer exists ($state)"
        ;;
    esac
    sleep "$poll"
  done
  say "$name is billed from now on until bash launch/tpu.sh delete" \
    "next: bash launch/tpu.sh setup"
}

setup() {
  need CXR_PROJECT CXR_ZONE
  packed=${TMPDIR:-/tmp}/cxr_gan-$$.tar.gz # global: the trap outlives this function
  trap 'rm -f "$packed"' EXIT
  call tar -C "$root" --exclude=__pycache__ -czf "$packed" \
    configs cxr_gan launch pyproject.toml README.md LICENSE NOTICE
  tpus tpu-vm scp "$packed" "$name:cxr_gan.tar.gz" --worker=all
  on_vm all "if tmux has-session -t $session 2>/dev/null; then
  echo 'launch: a training run is active here; nothing is changed'
else
  mkdir -p cxr_gan && tar -C cxr_gan --recursive-unlink -xzf cxr_gan.tar.gz &&
    bash cxr_gan/launch/vm.sh setup
fi" || die "setup failed (see its output above); the same command continues from there"
  say "next: bash launch/tpu.sh run"
}

run() { # FLAG...: trains on every host of the slice; worker 0 writes the run
  need CXR_PROJECT CXR_ZONE CXR_BUCKET
  local flag train start
  for flag in "$@"; do
    [[ $flag != --workdir* ]] ||
      die "$flag: the run is kept in $remote; set CXR_NAME for another run"
  done
  printf -v train '%q ' env CXR_BUCKET="$CXR_BUCKET" CXR_NAME="$name" \
    CXR_DATA="${CXR_DATA:-}" CXR_SYNC="${CXR_SYNC:-300}" \
    bash cxr_gan/launch/vm.sh train "$@"
  printf -v start '%q ' tmux new-session -d -s "$session" "${train% }"
  on_vm all "if tmux has-session -t $session 2>/dev/null; then
  echo 'launch: a training run is already active here; nothing is started'
else
  ${start% }
fi" || die "the training could not be started (see the output above)"
  say "next: bash launch/tpu.sh logs; the run is kept in $remote"
}

logs() {
  need CXR_PROJECT CXR_ZONE
  on_vm 0 "tail -n 100 -f cxr_gan/runs/$name.log" ||
    die "the log cannot be read; what was copied of it is in the bucket:" \
      "  gcloud storage cat 'gs://${CXR_BUCKET:-BUCKET}/logs/$name/*.log'"
}

fetch() {
  need CXR_BUCKET
  call mkdir -p "$root/runs/$name"
  call gcloud storage rsync "$remote" "$root/runs/$name" --recursive --quiet ||
    die "$remote could not be fetched (see gcloud's message above); check CXR_NAME"
  say "the run, as last copied, is in $root/runs/$name; to generate images" \
    "  python -m cxr_gan.generate --model=runs/$name --num=64 --seed=0 --out=samples"
}

left_over() { # prints "KIND ZONE" of every resource of this name, in any zone
  local kind rows
  for kind in queued-resources tpu-vm; do
    rows=$(call gcloud compute tpus "$kind" list --project="$CXR_PROJECT" --zone=- \
      --format='value(name.basename(),name.segment(3))' --quiet) || return
    awk -v kind="$kind" -v name="$name" '$1 == name { print kind, $2 }' <<<"$rows"
  done
}

delete() {
  need CXR_PROJECT CXR_ZONE
  local left in_zone try
  for try in 1 2 3 4 5 last; do
    left=$(left_over) ||
      die "CANNOT LIST what is left (see gcloud's message above): $name MAY STILL" \
        "BE BILLED. Try again, or open the page Compute Engine, TPUs of the console"
    if [ -n "$dry_run" ]; then left="queued-resources $CXR_ZONE"; fi
    # A resource without a zone counts as one of $CXR_ZONE.
    in_zone=$(grep -E " ($CXR_ZONE)?$" <<<"$left" || true)
    if [ -z "$in_zone" ] || [ "$try" = last ]; then break; fi
    if ! { [[ $in_zone == *queued-resources* ]] &&
      tpus queued-resources delete "$name" --force; } &&
      [[ $in_zone == *tpu-vm* ]]; then
      tpus tpu-vm delete "$name" || true
    fi
    [ -z "$dry_run" ] || return 0
    [ "$try" = 1 ] || sleep "$poll" # a deletion may take a moment to appear
  done
  [ -z "$left" ] ||
    die "STILL THERE, AND BILLED, under the name $name (kind, zone):" "$left" \
      "delete them with CXR_ZONE=THAT_ZONE bash launch/tpu.sh delete, or in the console"
  say "nothing named $name is left in any zone of $CXR_PROJECT"
}

command=${1:---help}
[ "$#" -eq 0 ] || shift
arguments=()
for argument in "$@"; do
  case $argument in
    --dry_run) dry_run=yes ;;
    --help) command=--help ;;
    *) arguments+=("$argument") ;;
  esac
done
set -- ${arguments[@]+"${arguments[@]}"}
case $command in
  run) ;;
  *) [ "$#" -eq 0 ] || die "$command does not take $1; see bash launch/tpu.sh --help" ;;
esac
case $command in
  create | setup | run | logs | fetch | delete) "$command" "$@" ;;
  wait) wait_for_slice ;;
  -h | --help) usage ;;
  *) die "$command: no such step; bash launch/tpu.sh --help lists the steps" ;;
esac
