#!/usr/bin/env bash
# Run a command beside one Kafka broker of its own: with_kafka.sh COMMAND...
#
# All test processes share it (each test takes topic names of its own); it is killed at the end, by
# pid. HEDGELOCK_TEST_KAFKA=host:port uses a broker that runs already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ -z "${HEDGELOCK_TEST_KAFKA:-}" ]; then
  folder=$(mktemp -d)
  port=$(python3 "$here/../bench/ports.py")
  pid=$("$here/kafka-broker.sh" "$folder" "$port")
  trap 'kill -9 "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT
  export HEDGELOCK_TEST_KAFKA="127.0.0.1:$port"
fi
"$@"
