#!/usr/bin/env bash
# Installs into .venv, trains for ten minutes on this machine, and generates 64 images.
# The same command resumes where the last one stopped. Flags are passed to training:
#   bash launch/local.sh                                       built-in phantoms
#   bash launch/local.sh --config.max_minutes=60               longer training
#   bash launch/local.sh --config.dataset=path/to/chest_xray --workdir=runs/mine
set -euo pipefail
# shellcheck source=launch/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

workdir=$root/runs/local
for flag in "$@"; do
  case $flag in
    --workdir=*) workdir=${flag#*=} ;;
    --workdir) die "write the workdir with an equals sign: --workdir=runs/mine" ;;
  esac
done

# -P: imports cxr_gan from this checkout, even if called from inside another one. The
# ten minutes are spent on training; to also evaluate on val, add --config.eval_kimg=10.
"$python" -P -m cxr_gan.main --config="$root/configs/acgan.py" --config.max_minutes=10 \
  --config.eval_kimg=0 --workdir="$workdir" "$@"

# Each call writes to its own folder: samples-1, samples-2, ...
n=1
while [ -e "$workdir/samples-$n" ]; do n=$((n + 1)); done
samples=$workdir/samples-$n
"$python" -P -m cxr_gan.generate --model="$workdir" --num=64 --seed=0 --out="$samples"

local_sh=$(printf 'bash %q' "$root/launch/local.sh") # quoted for copying
again=$local_sh
if [ "$#" -gt 0 ]; then again+=$(printf ' %q' "$@"); fi
cat <<DONE

Trained model:  $workdir
Sample grids:   PNG files in it, from the same latents throughout training
64 samples:     $samples

To continue training    $again
To use your own images  $local_sh \\
                          --config.dataset=path/to/chest_xray --workdir=runs/mine
                        (folders train/CLASS/*.jpeg, or CLASS/*.jpeg, one per class)
To generate more        $(printf '%q -m cxr_gan.generate' "$python") \\
                          $(printf -- '--model=%q' "$workdir") --num=64 --seed=1 --out=DIR
To sample from Python   $(printf %q "$python")
                        >>> import cxr_gan
                        >>> params = cxr_gan.load("$workdir")
                        >>> images = cxr_gan.sample(params, [0, 1], 0)
DONE
