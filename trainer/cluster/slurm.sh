#!/bin/bash
# Trains on several hosts: `sbatch trainer/cluster/slurm.sh --data_dir=DATA --model_dir=RUN`
# with directories that all hosts see. Ten minutes before the time is up Slurm sends
# SIGTERM, all workers save and end, and the job goes back into the queue to continue.
#SBATCH --job-name=photographs
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@600
set -uo pipefail

# A port of its own for each job and worker, should two meet on a host.
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

# 143 is what a run says that was asked to stop and can continue.
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
