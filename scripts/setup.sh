#!/usr/bin/env bash
# Make .venv and put exactly the packages of a lock file into it, checked by their hashes.
#
#   scripts/setup.sh requirements.lock | requirements-dev.lock
#
# Needs Python 3.11 or newer. Uses uv where it is installed, pip otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$1
. scripts/packages.sh

pick_python() {
  for name in "${PYTHON:-}" python3.11 python3 python3.12 python3.13; do
    if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
}

if [ ! -x .venv/bin/python ]; then
  python=$(pick_python)
  if [ -z "$python" ]; then
    need_packages "Python 3.11 or newer" python3 python3-venv
    python=$(pick_python)
  fi
  [ -n "$python" ] || { echo "setup: no Python 3.11 or newer; set PYTHON=/path/to/python" >&2; exit 1; }
  if ! command -v uv >/dev/null && ! "$python" -c 'import ensurepip' 2>/dev/null; then
    need_packages "Python's venv module" python3-venv
  fi
  echo "setup: making .venv with $("$python" --version)" >&2
  if command -v uv >/dev/null; then uv venv -q -p "$python" .venv; else "$python" -m venv .venv; fi
fi

echo "setup: installing $lock" >&2
with_uv() {
  uv pip install -q --python .venv/bin/python --require-hashes -r "$lock" &&
    uv pip install -q --python .venv/bin/python --no-build-isolation --no-deps -e .
}
with_pip() {
  .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
  .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r "$lock" &&
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
}
if command -v uv >/dev/null; then
  with_uv && exit 0
  echo "setup: uv failed (see above); trying pip" >&2
fi
with_pip
