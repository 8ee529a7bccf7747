#!/usr/bin/env bash
# Run the pipeline, and go on where an earlier machine stopped.
#
#   bash deploy/run.sh [TARGET ...]      # of dvc repro; default: all
#
# STATE      a folder that outlives the machine (a mounted bucket, a shared disk): the work is saved
#            there every ten minutes. Not needed where the whole checkout lies on such a disk.
# TRAIN_WORKERS  fine-tune in so many workers of the Ray cluster instead of here: for a first machine
#            without a GPU. They have to share the checkout's disk.
#
# The profile and compute.engine are those of params.yaml: commit them before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -f .venv/bin/activate ]; then
    # shellcheck disable=SC1091
    . .venv/bin/activate
fi
export DVC_NO_ANALYTICS=1

# shellcheck disable=SC2329  # `command` calls it
repro() {
    if [ -n "${TRAIN_WORKERS:-}" ]; then
        dvc repro split embed
        if ! dvc status --quiet finetune; then
            python deploy/ray_train.py --workers "$TRAIN_WORKERS"
            dvc commit --force finetune
        fi
    fi
    dvc repro "$@"
}

command=(repro "$@")
if [ -n "${STATE:-}" ]; then
    mkdir -p "$STATE"
    if [ -f "$STATE/session.json" ]; then
        abo-vqa session restore "$STATE"
    fi
    command=(abo-vqa session run --embeddings "$STATE" dvc repro "$@")
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
