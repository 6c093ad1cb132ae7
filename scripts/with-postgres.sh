#!/usr/bin/env bash
# Runs a command while a PostgreSQL server of its own serves on loopback, and removes the server behind it.
#
# usage: scripts/with-postgres.sh COMMAND...     the command finds the server's URL, without a database, in MESHD_TEST_POSTGRES
set -euo pipefail

# Of the server, and of what belongs to it.
PID=
DIRECTORY=

main() {
  local programs run=() port status=0
  programs=$(postgres_programs)
  DIRECTORY=$(mktemp -d "${TMPDIR:-/tmp}/meshd-postgres.XXXXXX")
  # The server refuses to run as root.
  if [ "$(id -u)" = 0 ]; then
    run=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    chown nobody: "$DIRECTORY"
  fi
  trap stop EXIT
  "${run[@]}" "$programs/initdb" --pgdata="$DIRECTORY/data" --auth=trust --username=mesh >"$DIRECTORY.log" 2>&1 ||
    { cat "$DIRECTORY.log" >&2; return 1; }
  port=$(free_port)
  "${run[@]}" "$programs/postgres" -D "$DIRECTORY/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=400 -c fsync=off >"$DIRECTORY.log" 2>&1 &
  PID=$!
  wait_for "$programs/pg_isready" "$port" "$PID" || { cat "$DIRECTORY.log" >&2; return 1; }
  MESHD_TEST_POSTGRES="postgres://mesh@127.0.0.1:$port" "$@" || status=$?
  return "$status"
}

# Debian keeps them out of the path, one directory for each version.
postgres_programs() {
  local found
  found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  [ -n "$found" ] || found=$(dirname "$(command -v initdb)") || {
    echo "PostgreSQL's programs are missing (package postgresql)" >&2
    return 1
  }
  echo "$found"
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

wait_for() {
  local is_ready=$1 port=$2 pid=$3
  for _ in $(seq 300); do
    "$is_ready" -q -h 127.0.0.1 -p "$port" && return
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}

stop() {
  if [ -n "$PID" ]; then
    kill -INT "$PID" 2>/dev/null || true
    wait "$PID" 2>/dev/null || true
  fi
  rm -rf "$DIRECTORY" "$DIRECTORY.log"
}

main "$@"
