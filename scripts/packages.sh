# Sourced. need_packages WHAT PACKAGE…: install Debian packages when root, saying which; otherwise
# name them with the one command that brings them, and fail.
need_packages() {
  local what=$1
  shift
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: $what is missing; installing the Debian packages: $*" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
    return
  fi
  echo "setup: $what is missing; type:" >&2
  echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*" >&2
  exit 1
}
