#!/usr/bin/env bash
# A raybert job on Slurm: one Ray cluster over the nodes of the allocation, ended with the job.
#
#   make setup                                    # once, in a clone on a file system of all nodes
#   sbatch --nodes 4 --gres gpu:8 examples/slurm.sh \
#       python jobs/pretrain.py --config jobs/configs/base.yaml --tokens data/tokens \
#       --run runs/base --cluster.num_workers 32 --cluster.cpus_per_worker 6
#
# An allocation that ends before the run does costs what came after the last checkpoint, or nothing
# with --pretraining.max_hours 23.8; the same line again goes on from there.
#SBATCH --job-name raybert
#SBATCH --exclusive
#SBATCH --ntasks-per-node 1
#SBATCH --time 24:00:00
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?run by sbatch}"
export PATH="$PWD/.venv/bin:$PATH"

# A key to this cluster alone: srun hands it to all nodes, nobody else on the network has it.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$(python -c 'import socket, sys; print(socket.gethostbyname(sys.argv[1]))' "$head"):6379"

# `ray symmetric-run` starts Ray everywhere, runs the job on the head and stops Ray at its end. Told
# the address, the job joins; without, it would start a cluster of its own.
srun --cpus-per-task "$SLURM_CPUS_ON_NODE" --cpu-bind none \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --dashboard-host=127.0.0.1 --disable-usage-stats -- "$@" --cluster.address "$address"
