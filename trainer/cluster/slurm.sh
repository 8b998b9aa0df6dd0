#!/bin/bash
# Trains on several hosts: `sbatch trainer/cluster/slurm.sh --data_dir=DATA --model_dir=RUN`
# with directories that all hosts share. Ten minutes before the time limit, Slurm sends
# SIGTERM. Then all workers save a checkpoint and exit, and this script puts the job back
# into the queue, where it continues the run.
#SBATCH --job-name=photographs
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@600
set -uo pipefail

# Each worker of each job gets another port, because two of them can share a host.
port=$((20000 + SLURM_JOB_ID % 10000))
WORKERS=""
for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  WORKERS+="${WORKERS:+, }\"$host:$port\""
  port=$((port + 1))
done
export WORKERS

srun --kill-on-bad-exit=1 bash -c '
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  exec python -m trainer.main "$@"
' trainer "$@"
status=$?

# The trainer exits with status 143 (128 + SIGTERM) when the run can be continued.
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
