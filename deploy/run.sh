#!/usr/bin/env bash
# Run the pipeline, and go on where an earlier machine stopped.
#
#   bash deploy/run.sh [TARGET ...]      # of dvc repro; default: all
#
# STATE      a folder that outlives the machine (a mounted bucket, a shared disk): the work is saved
#            there every ten minutes. Not needed where the whole checkout lies on such a disk.
#
# The profile and compute.engine are those of params.yaml: commit them before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -f .venv/bin/activate ]; then
    # shellcheck disable=SC1091
    . .venv/bin/activate
fi
export DVC_NO_ANALYTICS=1

command=(dvc repro "$@")
if [ -n "${STATE:-}" ]; then
    mkdir -p "$STATE"
    if [ -f "$STATE/session.json" ]; then
        abo-vqa session restore "$STATE"
    fi
    command=(abo-vqa session run --embeddings "$STATE" "${command[@]}")
fi

# A group of its own, so that SIGTERM reaches DVC and the stage, which saves its work and ends.
set -m
"${command[@]}" &
child=$!
set +m
trap 'kill -TERM -- "-$child" 2>/dev/null || true' TERM INT
code=0
wait "$child" || code=$?
while kill -0 -- "-$child" 2>/dev/null; do # after a signal: what DVC started ends after it
    sleep 0.5
done
if [ "$code" -eq 0 ] && [ -n "$(dvc config core.remote 2>/dev/null || true)" ]; then
    dvc push --quiet
fi
exit "$code"
