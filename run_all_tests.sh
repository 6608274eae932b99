#!/usr/bin/env bash
# Every test, with all set-up; the same as `make test`.
cd "$(dirname "$0")" && exec make --no-print-directory test ARGS="$*"
