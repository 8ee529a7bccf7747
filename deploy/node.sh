#!/usr/bin/env bash
# Make one Ray cluster of several machines, and run a command on the first: every machine runs this.
#
#   bash deploy/node.sh RANK NODES HEAD COMMAND ...
#
# RANK is 0 on the first machine, HEAD its address. The command finds the cluster by RAY_ADDRESS; it
# starts when all NODES have joined, or after JOIN_S seconds with those that have. With one machine
# there is no cluster: compute.engine: ray starts its own. The others end with the first, with 0.
#
# RAY_AUTH_TOKEN  any secret, the same on all machines: whoever reaches a cluster without one can run
#                 programs on it
# RAY_CPUS        cores of this machine that the cluster may use (all)
# RAY_PORT        of the head (6379)
# JOIN_S          seconds that machines wait for each other (300)
set -euo pipefail
rank=$1 nodes=$2 head=$3
shift 3
port=${RAY_PORT:-6379} patience=${JOIN_S:-300}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -f .venv/bin/activate ]; then
    # shellcheck disable=SC1091
    . .venv/bin/activate
fi
export RAY_USAGE_STATS_ENABLED=0
options=(--block)
if [ -n "${RAY_CPUS:-}" ]; then
    options+=("--num-cpus=$RAY_CPUS")
fi
if [ "$nodes" -le 1 ]; then
    exec "$@"
fi
: "${RAY_AUTH_TOKEN:?set it to a secret, the same on all machines, e.g. of openssl rand -hex 32}"
export RAY_AUTH_MODE=token

listening() { # whether the head answers
    (exec 3<>"/dev/tcp/$head/$port") 2>/dev/null
}

await_head() {
    for _ in $(seq "$patience"); do
        if listening; then
            return 0
        fi
        sleep 1
    done
    echo "nothing listens at $head:$port after $patience s" >&2
    return 1
}

# shellcheck disable=SC2329  # the traps call it
finish() { # not `ray stop`, which would end other jobs' clusters on this machine
    kill -TERM "$cluster" 2>/dev/null || true
    wait "$cluster" || true
}

if [ "$rank" -gt 0 ]; then
    # A machine that can't join, or whose head has ended, is no failure of the command.
    await_head || exit 0
    ray start --address="$head:$port" "${options[@]}" &
    cluster=$!
    trap 'finish; exit 0' EXIT TERM INT
    misses=0
    while kill -0 "$cluster" 2>/dev/null && [ "$misses" -lt 3 ]; do
        sleep 2
        if listening; then misses=0; else misses=$((misses + 1)); fi
    done
    if [ "$misses" -eq 3 ]; then # asked politely, they wait a minute for the head to let them go
        pkill -KILL -P "$cluster" || true
        wait "$cluster" || true
    fi
    exit 0
fi

ray start --head --node-ip-address="$head" --port="$port" --include-dashboard=false "${options[@]}" &
cluster=$!
child=
trap finish EXIT
trap 'if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null || true; else exit 143; fi' TERM INT
export RAY_ADDRESS="$head:$port"
await_head
python - "$nodes" "$patience" <<'PYTHON'
import sys
import time

import ray

nodes, deadline = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
ray.init(log_to_driver=False, logging_level="ERROR")
while (joined := sum(node["Alive"] for node in ray.nodes())) < nodes and time.monotonic() < deadline:
    time.sleep(1)
print(f"{joined} of {nodes} machines are in the cluster", flush=True)
PYTHON
"$@" &
child=$!
code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do # a signal has ended `wait`: the command is saving
    code=0
    wait "$child" || code=$?
done
exit "$code"
