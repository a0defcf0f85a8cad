#!/bin/sh
# Train on several machines of a Slurm cluster, one task a machine and one process a GPU:
#
#   sbatch --nodes 2 --gpus-per-node 4 tools/slurm.sh train-supernet EXPERIMENT --data-root COCO
#
# The run's folder must be on a file system that all machines see. A job that is taken off the
# machine is queued again and resumes from its last checkpoint. PYTHON names the interpreter.
#SBATCH --job-name=vipnas
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=vipnas-%j.log
set -eu
PYTHON=${PYTHON:-python}
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# A port of this job's own, so that two jobs on one machine do not meet.
exec srun --kill-on-bad-exit=1 "$PYTHON" -m torch.distributed.run \
    --nnodes "$SLURM_JOB_NUM_NODES" \
    --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$FIRST:$((20000 + SLURM_JOB_ID % 20000))" \
    -m vipnas "$@"
