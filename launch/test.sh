#!/usr/bin/env bash
# Installs into .venv, then runs all checks and tests. Arguments are passed to pytest:
#   bash launch/test.sh                      style, types and the fast tests
#   bash launch/test.sh -m slow              the slow tests instead of the fast ones
#   bash launch/test.sh -m system            those that need Debian packages or root
#   bash launch/test.sh -m quality           trains ten minutes and evaluates the images
#   bash launch/test.sh tests/test_losses.py one file
set -euo pipefail
# shellcheck source=launch/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$python" -m pytest "$@"
