#!/bin/bash
# Starts one FE and three BEs on free ports of this machine, as docker-compose.yml does in containers.
#
#   tests/cluster.sh DIR [HOLDFAST]
#
# Data and logs go to DIR; HOLDFAST is the binary (default target/debug/holdfast). When all BEs are registered and
# alive, it prints a line for each server and "ready":
#
#   fe 4711: mysql 127.0.0.1:40123, http 127.0.0.1:40124
#   be1 4712: be 127.0.0.1:40125, be http 127.0.0.1:40126
#
# SIGTERM and SIGINT stop them all, and so does the end of any of them. Started again with the same DIR, the cluster
# continues with its data.
set -euo pipefail

dir=${1:?usage: tests/cluster.sh DIR [HOLDFAST]}
holdfast=${2:-$(dirname "$0")/../target/debug/holdfast}
mkdir -p "$dir"
dir=$(realpath "$dir")
pids=()

# shellcheck disable=SC2329 # called by the traps
stop() {
    trap - EXIT TERM INT
    ((${#pids[@]} == 0)) || kill -TERM "${pids[@]}" 2> /dev/null || true
    wait
}
trap stop EXIT
trap 'exit 0' TERM INT

fail() {
    echo "tests/cluster.sh: $1; see the logs in $dir" >&2
    exit 1
}

# Repeats a command until it succeeds, for at most a minute.
within_a_minute() {
    local deadline=$((SECONDS + 60))
    until "$@"; do
        (($(jobs -pr | wc -l) == ${#pids[@]})) || fail "a server has ended"
        ((SECONDS < deadline)) || fail "not within a minute: $*"
        sleep 0.1
    done
}

# start NAME ROLE FLAGS...: starts a server and waits until it says that it is ready.
start() {
    local name=$1 role=$2
    shift 2
    : > "$dir/$name.out"
    "$holdfast" "$role" --data-dir "$dir/$name" --http-port 0 "$@" > "$dir/$name.out" 2>> "$dir/$name.log" &
    pids+=($!)
    within_a_minute grep -q ' is ready: ' "$dir/$name.out"
    echo "$name $!: $(sed -n 's/.* is ready: //p' "$dir/$name.out")"
}

# port NAME PORT: the port that a server has chosen.
port() {
    sed -nE "s/.*[ :] $2 [^,]*:([0-9]+)(,.*|$)/\1/p" "$dir/$1.out"
}

sql() {
    mariadb --no-defaults --host 127.0.0.1 --port "$(port fe mysql)" --user root --batch --vertical --execute "$1" \
        2>> "$dir/sql.log"
}

alive() {
    (($(sql 'SHOW BACKENDS' | grep -cw 'Alive: true') == 3))
}

start fe fe --mysql-port 0
for be in be1 be2 be3; do
    # The FE knows a BE by its port, so a BE that was here before gets the same one again.
    start $be be --be-port "$(cat "$dir/$be.port" 2> /dev/null || echo 0)"
    port $be be > "$dir/$be.port"
    # Fails for one that was here before; whether all are there is seen below.
    sql "ALTER SYSTEM ADD BACKEND \"127.0.0.1:$(cat "$dir/$be.port")\"" > /dev/null || true
done
within_a_minute alive
echo ready

wait -n || true
fail "a server has ended"
