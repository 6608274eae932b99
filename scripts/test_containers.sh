#!/usr/bin/env bash
# Build the image, run every service of docker-compose.yml as a container, and check what they do.
#
#   scripts/test_containers.sh [pytest arguments]
#
# Needs podman, Java 17 and root: containers get a network of their own, in a namespace that is gone
# afterwards, so that nothing of this machine's network or ports is touched. As root it installs the
# Debian packages that are missing. Images and layers stay in $HEDGELOCK_IMAGES (default:
# .cache/containers in the project), apart from the images of this machine; `make clean` removes them.
#
# The base image is pulled; HEDGELOCK_BASE=build, or a registry that does not answer, makes it from
# Debian's own packages instead, under the same name, so that the Dockerfile is built unchanged.
# Kafka runs from the Maven jars beside the containers. Third-party images are not run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

# Mounts of their own too: none is left behind, however this ends.
if [ "$(id -u)" = 0 ] && [ -z "${HEDGELOCK_MOUNTS:-}" ]; then
  HEDGELOCK_MOUNTS=own exec unshare -m --propagation private "$PWD/scripts/${0##*/}" "$@"
fi

base=docker.io/library/python:3.11-slim-bookworm
cache=${HEDGELOCK_IMAGES:-$PWD/.cache/containers}

if [ "$(id -u)" != 0 ]; then
  echo "test-containers: needs root for a network of its own; type: sudo make test-containers" >&2
  exit 1
fi
missing=()
for tool in podman runc netavark catatonit ip:iproute2 unshare:util-linux iptables; do
  command -v "${tool%%:*}" >/dev/null || [ -x "/usr/lib/podman/${tool%%:*}" ] ||
    [ -x "/usr/libexec/podman/${tool%%:*}" ] || missing+=("${tool##*:}")
done
[ -x /usr/lib/podman/aardvark-dns ] || [ -x /usr/libexec/podman/aardvark-dns ] ||
  missing+=(aardvark-dns)
[ ${#missing[@]} = 0 ] || need_packages "what containers need" "${missing[@]}"

# runc and explicit limits also work where the defaults do not: on hybrid cgroups, and without the
# right to raise limits. Health checks are run by the tests, so no systemd is needed.
mkdir -p "$cache"
cat >"$cache/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
seccomp_profile = "unconfined"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "$cache/networks"
CONF
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
cat >"$cache/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$cache/storage"
runroot = "$run/storage"
CONF
export CONTAINERS_CONF=$cache/containers.conf CONTAINERS_STORAGE_CONF=$cache/storage.conf

make_base() {
  command -v mmdebstrap >/dev/null || need_packages "what makes a base image" mmdebstrap
  echo "test-containers: making $base from Debian packages (half a minute, once)" >&2
  mmdebstrap --quiet --variant=minbase \
    --include=python3,python3-venv,python3-pip,python-is-python3,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    bookworm "$run/base.tar"
  podman import --quiet "$run/base.tar" "$base" >/dev/null
  rm "$run/base.tar"
}
if ! podman image exists "$base"; then
  if [ "${HEDGELOCK_BASE:-pull}" = build ] || ! timeout 300 podman pull --quiet "$base"; then
    make_base
  fi
fi

# The builder sees packages as this machine does: its pip settings and its certificates, mounted for
# the build only.
mounts=()
certificates=${PIP_CERT:-${SSL_CERT_FILE:-}}
if [ -n "$certificates" ] && [ -r "$certificates" ]; then
  mounts+=(-v "$certificates:/etc/ssl/certs/ca-certificates.crt:ro")
fi
if [ -r /etc/pip.conf ]; then mounts+=(-v /etc/pip.conf:/etc/pip.conf:ro); fi
echo "test-containers: building hedgelock:latest" >&2
started=$SECONDS
podman build --quiet --pull=never --network host --format docker "${mounts[@]}" \
  -t hedgelock:latest . >/dev/null
echo "test-containers: built in $((SECONDS - started)) s" >&2

export HEDGELOCK_CONTAINERS=1
unshare -n bash -c 'ip link set lo up && exec "$@"' bash \
  .venv/bin/python -m pytest tests/containers/stack.py -p no:randomly -s "$@"
