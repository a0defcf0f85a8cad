#!/bin/sh
# Train on all GPUs of this machine (or on N processes of it):
#
#   tools/torchrun.sh train-supernet experiments/coco_search_res50.yaml --data-root COCO
#   N=4 tools/torchrun.sh retrain experiments/quickstart.yaml --device cpu
#
# batch_size in the experiment is that of all processes together, and a multiple of their number.
# Stopped or killed, the same command resumes from the last checkpoint, also with another N.
set -eu
PYTHON=${PYTHON:-python}
N=${N:-$($PYTHON -c 'import torch; print(max(1, torch.cuda.device_count()))')}
# One thread each unless told otherwise: the processes share the processors.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$N" -m vipnas "$@"
