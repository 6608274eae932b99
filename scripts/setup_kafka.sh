#!/usr/bin/env bash
# Java and the Kafka jars that the tests need, so that nothing is skipped. The second time is instant.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
cache=${HEDGELOCK_CACHE:-$PWD/.cache/kafka}

java_works() {
  local version
  version=$(java -version 2>&1 | sed -nE '1s/.*version "([0-9]+).*/\1/p')
  [ -n "$version" ] && [ "$version" -ge 17 ]
}

packages=()
if ! java_works; then
  # Debian 12 and Ubuntu 22.04+ have 17; later Debian releases only something newer.
  if [ -z "$(apt-cache search --names-only '^openjdk-17-jre-headless$' 2>/dev/null)" ] \
      && [ -n "$(apt-cache search --names-only '^default-jre-headless$' 2>/dev/null)" ]; then
    packages+=(default-jre-headless)
  else
    packages+=(openjdk-17-jre-headless)
  fi
fi
jars() { compgen -G "$cache/kafka-*/kafka_*.jar" >/dev/null; }
if ! jars && ! command -v mvn >/dev/null; then packages+=(maven); fi
if [ ${#packages[@]} -gt 0 ]; then
  need_packages "what a real Kafka needs (Java 17, Maven)" "${packages[@]}"
  java_works || { echo "setup: java is still older than 17: $(java -version 2>&1 | head -n 1)" >&2; exit 1; }
fi

if ! jars; then
  echo "setup: fetching Kafka through Maven into $cache" >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  port=$(python3 bench/ports.py)
  # Starting it once also proves that it runs here.
  pid=$(scripts/kafka-broker.sh "$work" "$port")
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
fi
