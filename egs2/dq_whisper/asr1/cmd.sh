# shellcheck shell=bash disable=SC2034
# Where the recipe's long work runs; sourced by dq.sh (another file: --cmd FILE).

# local: on this machine. slurm: through sbatch; the recipe itself waits, and needs little.
cmd_backend=local

# Whether the teacher pass (stage 4) and decoding (stage 9) are cut into --nj jobs, each with a
# model of its own in memory. On Slurm always; here one process and its threads use all cores too.
cmd_split=false

# Threads of each such job (with cmd_split or slurm).
cmd_threads=4

# Options of sbatch: of each data and decoding job, and of training (for each node). The recipe adds
# --nodes, --ntasks-per-node and --gpus-per-node, as --num_nodes and --ngpu say. Yours go here as
# well: --partition, --account, --gres.
cmd_options="--cpus-per-task=$cmd_threads --mem=8G --time=08:00:00"
cmd_train_options="--cpus-per-task=8 --mem=64G --time=2-00:00:00"
