#!/usr/bin/env bash
# Trains on the GPUs of a Slurm cluster, one task a GPU. Not verified on a real cluster: tested against stubs only.
#
#   bash launch/slurm.sh --nodes=2 --gpus=8 --partition=gpu --config=configs/pretrain.py:ncvc_slm_1 \
#       [--time=24:00:00] [--account=A] [--cpus=4] [--name=NAME] [--stream=runs/products/stream-…] \
#       [--local-disk=/scratch] [--requeues=100] [--dry-run] [-- --config.train.steps=500 …]
#
# --gpus and --cpus are of one node and of one GPU. Here, on the submitting machine, it makes the token stream and
# submits; where the login node is too small for that, make the stream first and give it as --stream:
#   srun --cpus-per-task=16 python -m slm.main --config=configs/pretrain.py:ncvc_slm_1 --prepare
# Before its time limit, and when it is preempted, a job saves and goes back into the queue; scancel ends it.
# The checkout, with the .venv that `python` comes from (pip install -e '.[cuda12]'), must be on a shared disk.
set -euo pipefail
# Slurm runs a copy of this file from elsewhere, in the folder given as --chdir.
[ "${1:-}" = --job ] || cd "$(dirname "$0")/.."
# shellcheck disable=SC1091
source launch/common.sh

job() {  # inside the allocation: STREAM LOCAL_DISK CPUS REQUEUES, then the command
    local stream=$1 local_disk=$2 cpus=$3 requeues=$4 code=0
    shift 4
    if [ -n "$local_disk" ]; then  # one task a node copies; what is there already is only compared
        # shellcheck disable=SC2016  # for the shell of the task
        run srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 \
            bash -c 'mkdir -p "$2" && rsync --archive "$1/" "$2/"' copy "$stream" "$local_disk/${stream##*/}"
        stream="$local_disk/${stream##*/}"
    fi
    trap : TERM  # for the tasks, who save; this shell stays to requeue
    # Every task sees all GPUs of its node: jax picks the one of its SLURM_LOCALID. --kill-on-bad-exit=1 would kill
    # the others at the first 75 and srun would say 137; so tasks have five minutes to follow the first that ends.
    run srun --kill-on-bad-exit=0 --wait=300 --cpus-per-task="$cpus" "$@" --config.stream="$stream" || code=$?
    if [ "$dry_run" ]; then
        echo '# if that ends with 75, which is "saved, start me again":'
    elif [ "$code" != 75 ]; then
        exit "$code"
    elif [ "${SLURM_RESTART_COUNT:-0}" -ge "$requeues" ]; then
        die "requeued $requeues times: --requeues allows more, the same command goes on"
    elif [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" != RUNNING ]; then
        echo 'saved; stopped by scancel, or preempted and requeued by Slurm itself' >&2
        exit 75
    fi
    run scontrol requeue "$SLURM_JOB_ID"
}

dry_run=''
if [ "${1:-}" = --job ]; then
    shift
    job "$@"
    exit
fi

nodes='' gpus='' partition='' config='' account='' name='' stream='' local_disk='' time=24:00:00 cpus=4 requeues=100
while [ $# -gt 0 ]; do
    case $1 in
        --nodes=* | --gpus=* | --partition=* | --config=* | --account=* | --name=* | --stream=* | --time=* | \
            --cpus=* | --requeues=*) setting=${1%%=*}; printf -v "${setting#--}" %s "${1#*=}" ;;
        --local-disk=*) local_disk=${1#*=} ;;
        --dry-run) dry_run=yes ;;
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
        --) shift; break ;;
        *) die "$1 is not a setting of this script: see --help; flags of slm come after --" ;;
    esac
    shift
done
stream=${stream%/} local_disk=${local_disk%/}
for setting in nodes gpus partition config; do
    [ -n "${!setting}" ] || die "--$setting=… is missing: bash launch/slurm.sh --help shows an example"
done
for setting in nodes gpus cpus requeues; do
    [[ ${!setting} =~ ^[1-9][0-9]*$ ]] || die "--$setting=${!setting}: give a number from 1"
done
[ -f "${config%%:*}" ] || die "--config=$config: there is no file ${config%%:*}"
[ -z "$stream" ] || [ -d "$stream" ] || die "--stream=$stream: no such folder; leave --stream out to make one"
for flag; do
    case $flag in --config=* | --config.stream* | --workdir* | --prepare*)
        die "$flag is set by this script: give --config, --stream or --name before the --" ;;
    esac
done
name=${name:-$(basename "${config/.py/}" | tr -c 'A-Za-z0-9._\n-' -)}  # pretrain-ncvc_slm_1
python=$(command -v python) || die "python is missing: make the .venv and put its bin folder on the PATH"
[ "$dry_run" ] || command -v sbatch >/dev/null || die "sbatch is missing: start this on a machine of the cluster"

if [ -z "$stream" ]; then
    printf '$ %s\n' "$(quoted "$python" -m slm.main --config="$config" "$@" --prepare)"
    stream=runs/products/stream-0123456789abcdef  # what --dry-run shows
    [ "$dry_run" ] || stream=$("$python" -m slm.main --config="$config" "$@" --prepare | tail -n 1)
    [ "$dry_run" ] || [ -d "$stream" ] || die "--prepare made no folder ($stream): see what it said above"
fi

run mkdir -p runs
command=("$python" -m slm.main --config="$config" "$@" --workdir="runs/$name")
submit=(sbatch --job-name="$name" --partition="$partition" --nodes="$nodes" --ntasks-per-node="$gpus"
    --gpus-per-node="$gpus" --cpus-per-task="$cpus" --time="$time" --signal=TERM@300 --requeue --open-mode=append
    --output="runs/$name.%j.log" --chdir="$PWD")  # without B:, --signal goes to the tasks, five minutes before the end
[ -z "$account" ] || submit+=(--account="$account")
run "${submit[@]}" launch/slurm.sh --job "$stream" "$local_disk" "$cpus" "$requeues" "${command[@]}"
if [ "$dry_run" ]; then
    echo '# in the job:'
    SLURM_NNODES=$nodes SLURM_JOB_ID=1 job "$stream" "$local_disk" "$cpus" "$requeues" "${command[@]}"
fi
