# shellcheck shell=bash
# Sourced by the other scripts here: makes .venv in the checkout, installs what
# requirements.lock names and this project, and sets
#   root    the checkout
#   python  the interpreter of its .venv
# When nothing has changed since the last time, it does nothing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python

die() {
  printf 'launch: %s\n' "$@" >&2
  exit 1
}

is_supported() { # COMMAND: does it start a Python that all dependencies have wheels for?
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1
}

find_python() { # prints the interpreter to make .venv from
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    is_supported "$PYTHON" ||
      die "PYTHON=$PYTHON does not start Python 3.11, 3.12 or 3.13; name one that does"
    echo "$PYTHON"
    return
  fi
  for candidate in python3.11 python3.12 python3.13 python3; do
    if is_supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "found no Python 3.11, 3.12 or 3.13. Install one, for instance" \
    "  Debian, Ubuntu:  sudo apt-get install python3 python3-venv" \
    "  macOS:           brew install python@3.12" \
    "or say where it is: PYTHON=/path/to/python3.12 bash launch/${0##*/}"
}

make_venv() {
  local base
  base=$(find_python)
  echo "launch: making $root/.venv with $("$base" --version)"
  if ! "$base" -m venv "$root/.venv"; then
    rm -rf "$root/.venv"
    die "$base could not make a virtual environment (its words are above)." \
      "Debian and Ubuntu keep the module apart: sudo apt-get install python3-venv" \
      "(for a python3.N that is not the system's own: python3.N-venv). Then try again."
  fi
}

fingerprint() { # what the installation depends on; a moved checkout needs a new one
  "$python" --version
  cd "$root" && pwd && cksum pyproject.toml launch/requirements.lock
}

install() {
  local pip=("$python" -m pip --disable-pip-version-check install --quiet)
  echo "launch: installing into $root/.venv (about 3 GB on disk, a few minutes, once)"
  # One dependency comes as source only. What builds it is pinned too, and goes first.
  awk '/^[a-z]/ { wanted = /^(setuptools|wheel)==/ } wanted' \
    "$root/launch/requirements.lock" >"$root/.venv/build-requirements.lock"
  "${pip[@]}" --require-hashes --no-deps -r "$root/.venv/build-requirements.lock" &&
    "${pip[@]}" --require-hashes --no-build-isolation --use-pep517 \
      -r "$root/launch/requirements.lock" &&
    "${pip[@]}" --no-deps --no-build-isolation --editable "$root"
}

if [ ! -e "$root/.venv" ]; then
  make_venv
fi
if ! is_supported "$python" || ! "$python" -m pip --version >/dev/null 2>&1; then
  die "$root/.venv holds no working Python 3.11 to 3.13 with pip; remove it with" \
    "  rm -r '$root/.venv'" "and try again"
fi
if [ "$(fingerprint)" != "$(cat "$root/.venv/installed" 2>/dev/null)" ]; then
  rm -f "$root/.venv/installed"
  install ||
    die "the installation failed (pip's words are above). Look at the network and at" \
      "the free disk space (df -h '$root'), then try again: it goes on where it stopped"
  fingerprint >"$root/.venv/installed"
fi
