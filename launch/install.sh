# shellcheck shell=bash
# Sourced by the other scripts here. Creates .venv in the checkout, installs the
# packages of requirements.lock and this project, and sets
#   root    path of the checkout
#   python  path of the Python interpreter in .venv
# Installs nothing if nothing has changed since the last call.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python

die() {
  printf 'launch: %s\n' "$@" >&2
  exit 1
}

is_supported() { # COMMAND: whether it is a Python all dependencies have wheels for
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1
}

find_python() { # prints the interpreter to create .venv with
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    is_supported "$PYTHON" ||
      die "PYTHON=$PYTHON does not start Python 3.11, 3.12 or 3.13; give one that does"
    echo "$PYTHON"
    return
  fi
  for candidate in python3.11 python3.12 python3.13 python3; do
    if is_supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.11, 3.12 or 3.13 found. Install one, for example" \
    "  Debian, Ubuntu:  sudo apt-get install python3 python3-venv" \
    "  macOS:           brew install python@3.12" \
    "or give its path: PYTHON=/path/to/python3.12 bash launch/${0##*/}"
}

make_venv() {
  local base
  base=$(find_python)
  echo "launch: creating $root/.venv with $("$base" --version)"
  if ! "$base" -m venv "$root/.venv"; then
    rm -rf "$root/.venv"
    die "$base could not create a virtual environment (see its output above)." \
      "Debian and Ubuntu package it separately: sudo apt-get install python3-venv" \
      "(python3.N-venv for a python3.N other than the system's). Then try again."
  fi
}

fingerprint() { # of everything the installation depends on, including its path
  "$python" --version
  cd "$root" && pwd && cksum pyproject.toml launch/requirements.lock
}

install() {
  # `--quiet` twice shows errors only. Otherwise pip warns for each package if an index
  # of its configuration is missing.
  local pip=("$python" -m pip --disable-pip-version-check install --quiet --quiet)
  echo "launch: installing into $root/.venv (about 3 GB on disk, a few minutes, once)"
  # One dependency has no wheel. Its build tools are pinned too and installed first.
  awk '/^[a-z]/ { is_build_tool = /^(setuptools|wheel)==/ } is_build_tool' \
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
  die "$root/.venv has no working Python 3.11 to 3.13 with pip; remove it with" \
    "  rm -r '$root/.venv'" "and try again"
fi
if [ "$(fingerprint)" != "$(cat "$root/.venv/installed" 2>/dev/null)" ]; then
  rm -f "$root/.venv/installed"
  install ||
    die "the installation failed (see pip's output above). Check the network" \
      "and the free disk space (df -h '$root'), then try again: it continues where it" \
      "stopped"
  fingerprint >"$root/.venv/installed"
fi
