#!/usr/bin/env bash
# Installs into .venv, then checks and tests everything. What follows is for pytest:
#   bash launch/test.sh                      style, types and the quick tests
#   bash launch/test.sh -m slow              the slow tests instead of the quick ones
#   bash launch/test.sh -m quality           trains ten minutes and judges what it draws
#   bash launch/test.sh tests/test_step.py   one file
set -euo pipefail
# shellcheck source=launch/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$python" -m pytest "$@"
