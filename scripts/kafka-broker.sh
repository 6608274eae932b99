#!/usr/bin/env bash
# A real Kafka broker (KRaft, one node) without Docker, for tests and for trying things out.
#
#   scripts/kafka-broker.sh DIR PORT [HOST]     data and log in DIR, clients on HOST:PORT (127.0.0.1)
#
# PORT+1 is taken by the controller. Starts in the background, waits until the broker answers and
# prints its pid; `kill PID` stops it. Needs Java 17 and, the first time, Maven: the jars go to
# $HEDGELOCK_CACHE (default: .cache/kafka in the project) and are used from there afterwards.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
version=4.1.0
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${HEDGELOCK_CACHE:-$root/.cache/kafka}
libs=$cache/kafka-$version
mkdir -p "$1" "$cache"
dir=$(cd "$1" && pwd)
port=$2
host=${3:-127.0.0.1}

need() {
  command -v "$1" >/dev/null && return
  echo "kafka-broker: $1 is missing; type: apt-get install -y --no-install-recommends $2" >&2
  exit 1
}
need java openjdk-17-jre-headless

# Two test runs may come here at once: the first fetches, the other waits.
exec 9>"$cache/lock"
flock 9
if [ ! -d "$libs" ]; then
  need mvn maven
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  cat >"$work/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>hedgelock</groupId><artifactId>kafka-broker</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>$version</version>
    </dependency>
  </dependencies>
</project>
POM
  (cd "$work" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs >&2)
  mv "$work/libs" "$libs"
fi
flock -u 9
exec 9>&-

cat >"$dir/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$host:$((port + 1))
listeners=PLAINTEXT://$host:$port,CONTROLLER://$host:$((port + 1))
advertised.listeners=PLAINTEXT://$host:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data
# HedgeLock creates its topics with their settings; a topic made by accident would have none.
auto.create.topics.enable=false
# One node: nothing to replicate to, no members worth waiting for.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# The transaction of a member that died is given up soon after its time is over, not 10 s later.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
CONF

heap=(-Xms64m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=4)
if [ ! -d "$dir/data" ]; then
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c1-22)
  java "${heap[@]}" -cp "$libs/*" kafka.tools.StorageTool format \
    -t "$id" -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
    { cat "$dir/format.log" >&2; exit 1; }
fi
java "${heap[@]}" -cp "$libs/*" kafka.Kafka "$dir/server.properties" \
  >"$dir/kafka.log" 2>&1 </dev/null &
pid=$!
disown

for _ in $(seq 1 240); do
  if (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then
    echo "$pid"
    exit 0
  fi
  kill -0 "$pid" 2>/dev/null || break
  sleep .25
done
echo "kafka-broker: no answer on $host:$port; the end of $dir/kafka.log:" >&2
tail -n 20 "$dir/kafka.log" >&2
kill "$pid" 2>/dev/null || true
exit 1
