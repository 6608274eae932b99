#!/usr/bin/env bash
# Let the collector run against the simulator for a while and check that it loses and leaks nothing.
#
#   scripts/run_collector_soak_test.sh [DURATION]     300, 90s, 5m or 1h; five minutes by default
set -euo pipefail
cd "$(dirname "$0")/.."
duration=${1:-5m}
if [[ ! $duration =~ ^([1-9][0-9]{0,5})([smh]?)$ ]]; then
  echo "run_collector_soak_test: $duration is no duration; for example 90s, 5m or 1h" >&2
  exit 2
fi
case ${BASH_REMATCH[2]} in
  m) factor=60 ;;
  h) factor=3600 ;;
  *) factor=1 ;;
esac
seconds=$((BASH_REMATCH[1] * factor))
make --no-print-directory .venv/.dev-ready
echo "collector soak: $seconds s"
HEDGELOCK_SOAK_S=$seconds exec .venv/bin/python -m pytest \
  tests/integration/test_collector_soak.py -m soak -s -p no:randomly
