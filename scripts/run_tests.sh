#!/usr/bin/env bash
# All tests, in two lots: run_tests.sh WORKERS [pytest arguments]
#
# First those marked `timed`, which play a market script against the clock and must not starve: one at
# a time, with the machine to themselves (beside the others, niced even, the demo was too late now and
# then). Then all others, WORKERS at once. Each lot has a coverage file of its own;
# scripts/check_coverage.py takes them together.
set -uo pipefail
workers=$1
shift

lot() { # NAME WORKERS MARKS [pytest arguments]
  local name=$1 count=$2 marks=$3
  shift 3
  COVERAGE_FILE=.coverage.$name .venv/bin/python -m pytest -n "$count" --dist loadgroup \
    --cov --cov-report= -m "$marks" "$@"
}

lot timed 1 "timed and not soak" "$@"
timed=$?
lot others "$workers" "not timed and not soak" "$@"
others=$?

# 5 = nothing selected: the arguments named tests of the other lot only.
[ "$timed" -eq 5 ] && [ "$others" -ne 5 ] && timed=0
[ "$others" -eq 5 ] && [ "$timed" -ne 5 ] && others=0
exit $((timed > others ? timed : others))
