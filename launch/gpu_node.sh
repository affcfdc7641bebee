#!/usr/bin/env bash
# Trains on one machine with several NVIDIA GPUs: one process drives them all. Not verified on a real GPU: tested
# against stubs only.
#
#   bash launch/gpu_node.sh --config=configs/pretrain.py:small [--name=NAME] [--stream=runs/products/stream-…] \
#       [--restarts=20] [--dry-run] [-- --config.train.steps=500 …]
#
# Ctrl-C or SIGTERM: it saves and ends with 75; the same command goes on. `python` is that of a .venv with
# pip install -e '.[cuda12]'. To outlive the terminal: nohup bash launch/gpu_node.sh … &
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC1091
source launch/common.sh

config='' name='' stream='' restarts=20 dry_run=''
while [ $# -gt 0 ]; do
    case $1 in
        --config=* | --name=* | --stream=* | --restarts=*) setting=${1%%=*}; printf -v "${setting#--}" %s "${1#*=}" ;;
        --dry-run) dry_run=yes ;;
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
        --) shift; break ;;
        *) die "$1 is not a setting of this script: see --help; flags of slm come after --" ;;
    esac
    shift
done
stream=${stream%/}
[ -n "$config" ] || die "--config=… is missing: bash launch/gpu_node.sh --help shows an example"
[ -f "${config%%:*}" ] || die "--config=$config: there is no file ${config%%:*}"
[ -z "$stream" ] || [ -d "$stream" ] || die "--stream=$stream: no such folder; leave --stream out to make one"
[[ $restarts =~ ^[0-9]+$ ]] || die "--restarts=$restarts: give a number"
for flag; do
    case $flag in --config=* | --config.stream* | --workdir* | --prepare*)
        die "$flag is set by this script: give --config, --stream or --name before the --" ;;
    esac
done
name=${name:-$(basename "${config/.py/}" | tr -c 'A-Za-z0-9._\n-' -)}  # pretrain-small

echo '$ nvidia-smi -L'
if [ -z "$dry_run" ]; then
    gpus=$(nvidia-smi -L) || die "nvidia-smi does not answer: install the NVIDIA driver, or train with launch/laptop.sh"
    [[ $gpus == GPU* ]] || die "nvidia-smi lists no GPU: see nvidia-smi, and CUDA_VISIBLE_DEVICES"
    printf '%s\n' "$gpus"
fi

if [ -z "$stream" ]; then
    printf '$ %s\n' "$(quoted python -m slm.main --config="$config" "$@" --prepare)"
    stream=runs/products/stream-0123456789abcdef  # what --dry-run shows
    [ "$dry_run" ] || stream=$(python -m slm.main --config="$config" "$@" --prepare | tail -n 1)
    [ "$dry_run" ] || [ -d "$stream" ] || die "--prepare made no folder ($stream): see what it said above"
fi

train=(python -m slm.main --config="$config" "$@" --config.stream="$stream" --workdir="runs/$name")
child='' asked='' stopping=''
# shellcheck disable=SC2329  # the trap calls it
stop() {
    asked=yes stopping=yes
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM INT HUP  # slm saves on SIGTERM; a child in the background does not see Ctrl-C

for ((started = 0; started <= restarts; started++)); do
    printf '$ %s\n' "$(quoted "${train[@]}")"
    [ -z "$dry_run" ] || exit 0
    [ -z "$stopping" ] || exit 75
    "${train[@]}" &
    child=$!
    [ -z "$stopping" ] || kill -TERM "$child"
    while :; do
        asked='' code=0
        wait "$child" || code=$?
        [ "$asked" ] || break  # a signal ends `wait` early: what slm ends with comes after
    done
    # 75: saved, start me again; but not where it was we who were asked to stop.
    if [ "$code" != 75 ] || [ "$stopping" ]; then exit "$code"; fi
done
die "stopped $((restarts + 1)) times: --restarts allows more, the same command goes on"
