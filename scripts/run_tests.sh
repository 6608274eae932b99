#!/usr/bin/env bash
# All tests, in three lots: run_tests.sh WORKERS [pytest arguments]
#
#   timed    play a market script against the clock: one at a time, at full priority
#   others   need no broker: WORKERS at once, beside the timed ones, which they give way to (nice)
#   kafka    need the broker, which the timed ones must not share with them: afterwards, WORKERS at once
#
# Each lot has a coverage file of its own; scripts/check_coverage.py takes them together.
# HEDGELOCK_LOTS=serial runs one lot after the other, for a machine that is busy with other things.
set -uo pipefail
workers=$1
shift

lot() { # NICENESS NAME WORKERS MARKS [pytest arguments]
  local niceness=$1 name=$2 count=$3 marks=$4
  shift 4
  COVERAGE_FILE=.coverage.$name nice -n "$niceness" .venv/bin/python -m pytest -n "$count" \
    --dist loadfile --cov --cov-report= -m "$marks" "$@"
}

timed() { lot 0 timed 1 "timed and not soak" "$@"; }
others() { lot 10 others "$workers" "not timed and not kafka and not soak" "$@"; }

if [ "${HEDGELOCK_LOTS:-}" = serial ]; then
  timed "$@"
  statuses=($?)
  others "$@"
  statuses+=($?)
else
  said=$(mktemp)
  # A process group of its own: an interrupt reaches it through the trap, and ends what its tests started.
  set -m
  timed "$@" >"$said" 2>&1 &
  beside=$!
  set +m
  trap 'kill -INT -- "-$beside" 2>/dev/null; wait "$beside"; rm -f "$said"' EXIT
  others "$@"
  statuses=($?)
  [ "${statuses[0]}" -eq 2 ] && exit 2 # interrupted: the others, too
  wait "$beside"
  statuses+=($?)
  trap 'rm -f "$said"' EXIT
  cat "$said"
fi
lot 0 kafka "$workers" "kafka and not timed and not soak" "$@"
statuses+=($?)

# 5 = nothing selected: the arguments named tests of other lots only.
worst=5
for status in "${statuses[@]}"; do
  [ "$status" -eq 5 ] && continue
  if [ "$worst" -eq 5 ] || [ "$status" -gt "$worst" ]; then worst=$status; fi
done
exit "$worst"
