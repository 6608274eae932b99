#!/usr/bin/env bash
# All tests, in two lots: run_tests.sh WORKERS [pytest arguments]
#
# First those marked `timed`, which play a market script against the clock and must not starve: two at
# once, which mostly wait, and nothing beside them (with a third a demo was late now and then); no
# tracing either, which would make an engine's start twice as long. Then all others, WORKERS at once,
# with coverage: scripts/check_coverage.py.
# Whoever waits long starts first (tests/conftest.py), so that nobody waits at the end.
set -uo pipefail
workers=$1
shift
# Compiled once, not by each of the processes that tests start. (Empty is unset.)
export PYTHONDONTWRITEBYTECODE=

lot() { # WORKERS MARKS [pytest arguments]
  local count=$1 marks=$2
  shift 2
  .venv/bin/python -m pytest -n "$count" --dist loadgroup --no-loadscope-reorder -m "$marks" "$@"
}

lot 2 "timed and not soak" "$@"
timed=$?
COVERAGE_FILE=.coverage.others lot "$workers" "not timed and not soak" --cov --cov-report= "$@"
others=$?

# 5 = nothing selected: the arguments named tests of the other lot only.
[ "$timed" -eq 5 ] && [ "$others" -ne 5 ] && timed=0
[ "$others" -eq 5 ] && [ "$timed" -ne 5 ] && others=0
exit $((timed > others ? timed : others))
