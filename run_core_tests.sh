#!/usr/bin/env bash
# The quick tests, under a minute and without Kafka; the same as `make test-core`.
cd "$(dirname "$0")" && exec make --no-print-directory test-core ARGS="$*"
