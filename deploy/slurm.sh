#!/usr/bin/env bash
# The pipeline on one or several machines of a Slurm cluster; also where jobs are preempted.
#
#   sbatch --partition=gpu deploy/slurm.sh             # options here replace those below
#   sbatch --nodes=4 deploy/slurm.sh bash deploy/run.sh finetune
#
# Submit it in a checkout on a disk that all machines share, after `make setup EXTRAS=scale`. Two
# minutes before its time is over, or when it is preempted, the stages save their work; the job goes
# back into the queue, and `dvc repro` goes on with what is finished.
#SBATCH --job-name=abo-vqa
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=48G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
#SBATCH --output=abo-vqa-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
if [ "$#" -eq 0 ]; then
    set -- bash deploy/run.sh
fi
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head=$(scontrol show node "$first" | grep -oP 'NodeAddr=\K\S+')
# Another job, of somebody else perhaps, may have a cluster on the same machine.
export RAY_PORT=$((20000 + SLURM_JOB_ID % 20000)) RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"
export RAY_CPUS=$SLURM_CPUS_PER_TASK # Ray counts those of the machine, not those of the job
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

stopping=
# shellcheck disable=SC2329  # the trap calls it
stop() { # reaches the steps, whose rank 0 passes it on; not this shell
    stopping=yes
    scancel --signal=TERM "$SLURM_JOB_ID"
}
trap stop TERM
# shellcheck disable=SC2016  # each task has a rank of its own
srun --kill-on-bad-exit=0 bash -c \
    'exec bash deploy/node.sh "$SLURM_NODEID" "$SLURM_JOB_NUM_NODES" "$@"' node "$head" "$@" &
step=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do
    code=0
    wait "$step" || code=$?
done
# 75: everything is saved, and the same command goes on later.
if [ "$code" -ne 0 ] && { [ -n "$stopping" ] || [ "$code" -eq 75 ]; }; then
    echo "back into the queue after $code"
    scontrol requeue "$SLURM_JOB_ID" || true
fi
exit "$code"
