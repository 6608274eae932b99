#!/usr/bin/env bash
# Run a command beside one Kafka broker of its own: with_kafka.sh COMMAND...
#
# All test processes share it (each test takes topic names of its own); it is killed at the end, by
# pid. HEDGELOCK_TEST_KAFKA=host:port uses a broker that runs already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ -z "${HEDGELOCK_TEST_KAFKA:-}" ]; then
  folder=$(mktemp -d)
  port=$(python3 - <<'PY'
import socket

for _ in range(100):
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            second.bind(("127.0.0.1", port + 1))
        except OSError:
            continue
        print(port)
        break
PY
  )
  pid=$("$here/kafka-broker.sh" "$folder" "$port")
  trap 'kill -9 "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT
  export HEDGELOCK_TEST_KAFKA="127.0.0.1:$port"
fi
"$@"
