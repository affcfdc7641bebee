#!/usr/bin/env bash
# Trains on a TPU pod of Google Cloud, through preemptions. Not verified on a real pod: tested against stubs only.
#
#   bash launch/tpu_pod.sh start --name=ncvc --zone=us-central2-b --type=v4-32 --bucket=gs://BUCKET \
#       --config=configs/pretrain.py:ncvc_slm_1 [--spot] [--project=P] [--runtime=VERSION] [--attempts=20] \
#       [--stream=runs/products/stream-…] [--dry-run] [-- --config.train.steps=500 …]
#   bash launch/tpu_pod.sh logs   --name=ncvc --zone=us-central2-b [--project=P] [--dry-run]
#   bash launch/tpu_pod.sh delete --name=ncvc --zone=us-central2-b [--project=P] [--dry-run]
#
# The run lives on the pod: stop this script or lose the network, give the same `start` again, and it follows the
# run. BUCKET/NAME keeps checkpoints, history and code (the last commit), BUCKET/products the token stream. The pod
# stays, and costs, until `delete`. Needed: gcloud, logged in, and a pod that may write to the bucket.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC1091
source launch/common.sh

pause() { sleep "${SLM_POLL_SECONDS:-30}"; }

# From outside -------------------------------------------------------------------------------------------------

describe() {  # KIND FIELD
    local said
    if said=$(gcloud compute tpus "$1" describe "$name" "${place[@]}" --format="value($2)" --verbosity=error 2>&1); then
        printf '%s\n' "${said##*$'\n'}"
    elif [[ $said == *NOT_FOUND* ]]; then
        echo ABSENT
    else
        printf '%s\n' "$said" >&2
        echo UNKNOWN
    fi
}

state() {  # READY, ABSENT, GONE (a request without its machine), UNKNOWN (no answer), or Google's own word
    local now
    now=$(describe queued-resources state.state)
    if [ "$now" = ACTIVE ]; then
        now=$(describe tpu-vm state)
        [ "$now" != ABSENT ] || now=GONE
    fi
    echo "$now"
}

acquire() {  # BEGUN; returns once the pod is ready; only what was preempted or failed is deleted
    local begun=$1 now tries=0
    while now=$(state); [ "$now" != READY ]; do
        printf '%s pod %s: %s\n' "$(date +%T)" "$name" "$now"
        case $now in
            ABSENT)
                # Refused at once, something is wrong; refused later, the next try may find room.
                run "${create[@]}" || [ "$begun" != 0 ] || die "refused: mend --type, --zone, --runtime or the quota" ;;
            SUSPENDED | FAILED | PREEMPTED | TERMINATED | GONE) run "${delete[@]}" || true ;;
            UNKNOWN) ;;
            *) tries=-1 ;;  # in the queue, for as long as it takes
        esac
        ((++tries <= 3 * attempts)) || die "no pod after many tries: mend --type, --zone, --runtime or the quota"
        pause
    done
}

status() {  # of the run: running, gone, its exit code; nothing where worker 0 does not answer
    "${ssh[@]}" --worker=0 --command="$ask_status" 2>/dev/null | tail -n 1 | grep -Ex 'running|gone|[0-9]+' || true
}

results() {
    run mkdir -p "runs/$name"
    run gcloud storage rsync --recursive "$bucket/$name/workdir" "runs/$name" ||
        echo "the history stays in $bucket/$name/workdir: it could not be copied" >&2
}

start() {
    local now begin ours='' half='' begun=0 misses=0
    if [ -z "$stream" ]; then
        printf '$ %s\n' "$(quoted python -m slm.main --config="$config" "$@" --prepare)"
        stream=runs/products/stream-0123456789abcdef  # what --dry-run shows
        [ "$dry_run" ] || stream=$(python -m slm.main --config="$config" "$@" --prepare | tail -n 1)
    fi
    [ "$dry_run" ] || [ -d "$stream" ] || die "no folder $stream: give --stream=FOLDER, or leave it out to make one"
    run gcloud storage rsync --recursive "$stream" "$bucket/products/${stream##*/}"
    run mkdir -p runs
    run git archive --format=tar.gz --output="runs/$name.code.tar.gz" HEAD
    run gcloud storage cp "runs/$name.code.tar.gz" "$bucket/$name/code.tar.gz"

    stream=${stream##*/}
    begin=$(quoted bash slm/launch/tpu_pod.sh worker --name="$name" --bucket="$bucket" --config="$config" \
        --stream="$stream" -- "$@")
    begin="mkdir -p slm && gcloud storage cp $(quoted "$bucket/$name/code.tar.gz") - | tar -xz -C slm && $begin"
    if [ "$dry_run" ]; then  # as if there were no pod yet, and nothing went wrong
        run "${queue[@]}" describe "$name" "${place[@]}" '--format=value(state.state)'
        run "${create[@]}"
        run "${ssh[@]}" --worker=all --command="$begin"
        echo '# on every worker, in ~/slm:'
        worker "$@"
        echo '# here again:'
        run "${ssh[@]}" --worker=0 --command="$follow"
        run "${ssh[@]}" --worker=0 --command="$ask_status"
        results
        return
    fi
    while :; do
        acquire "$begun"
        now=$(status)
        # An exit code is of a run that this command has seen, or of one before, which says nothing.
        if [ -z "$ours" ] && [[ $now =~ ^[0-9]+$ ]]; then now=gone; fi
        [ -z "$half" ] || now=gone  # some workers were not set up: all begin again
        case $now in
            running)
                ours=yes misses=0
                run "${ssh[@]}" --worker=0 --command="$follow" || pause ;;
            gone | 75)  # 75: stopped by SIGTERM, saved; gone: the machine is new, or went down under the run
                ((++begun <= attempts)) || die "stopped $attempts times: the same command goes on, see --attempts"
                ours=yes half=''
                run "${ssh[@]}" --worker=all --command="$begin" || { half=yes; pause; ((++misses < 5)) ||
                    die "the workers cannot be set up: mend what is said above, then give the same command"; } ;;
            '')
                ((++misses < 10)) || die "worker 0 does not answer: try $(quoted "${ssh[@]}")"
                pause ;;
            *)
                if [ "$now" != 0 ]; then  # on a pod that is going down, whatever the code, it was a preemption
                    pause
                    [ "$(state)" = READY ] || continue
                fi
                results
                printf 'exit code %s; the pod is still there, and costs: %s\n' "$now" \
                    "$(quoted bash launch/tpu_pod.sh delete --name="$name" "${place[@]}")"
                exit "$now" ;;
        esac
    done
}

# On a worker, in ~/slm ----------------------------------------------------------------------------------------

worker() {  # sets the machine up and starts the run, detached; the lock runs/NAME.lock is held as long as it lives
    local number=0 command
    if [ -z "$dry_run" ]; then
        number=$(curl -fsS -H 'Metadata-Flavor: Google' \
            http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number)
        mkdir -p runs
        exec 9>"runs/$name.lock"
        # The run before may still be saving here; what hangs after five minutes lost its peers.
        flock --timeout=300 9 || { kill -KILL -- "-$(cat "runs/$name.pid")"; flock 9; }
        rm -f "runs/$name.exit"
    fi
    run python3 -m pip install --quiet --user uv  # the machine's own Python is 3.10, too old for slm
    run python3 -m uv venv --quiet --allow-existing --python=3.11 .venv
    run python3 -m uv pip install --quiet --python=.venv --editable '.[tpu,gcs]'
    run mkdir -p "runs/products/$stream"
    run gcloud storage rsync --recursive "$bucket/products/$stream" "runs/products/$stream"
    [ "$number" != 0 ] || [ -e "runs/$name" ] || restore
    run mkdir -p "runs/$name"
    command=(bash launch/tpu_pod.sh train --name="$name" --bucket="$bucket" --number="$number" --
        .venv/bin/python -m slm.main --config="$config" "$@" --config.stream="runs/products/$stream"
        --config.train.checkpoints="$bucket/$name/checkpoints" --workdir="runs/$name")
    printf '$ nohup setsid %s >>runs/%s/launch.log 2>&1 </dev/null &\n' "$(quoted "${command[@]}")" "$name"
    [ -z "$dry_run" ] || { echo '# every minute and at the end, on worker 0:'; keep_history; return; }
    nohup setsid "${command[@]}" >>"runs/$name/launch.log" 2>&1 </dev/null &
    echo $! >"runs/$name.pid"
}

restore() {  # a new machine goes on with the history of the one before
    local said=''
    if [ "$dry_run" ] || said=$(gcloud storage ls "$bucket/$name/workdir/" 2>&1); then
        run mkdir -p "runs/$name.restoring"
        run gcloud storage rsync --recursive "$bucket/$name/workdir" "runs/$name.restoring"
        run mv "runs/$name.restoring" "runs/$name"
    elif [[ $said != *'matched no objects'* ]]; then
        die "$bucket/$name/workdir cannot be read: ${said##*$'\n'}"
    fi
}

keep_history() { run gcloud storage rsync --recursive '--exclude=.*\.writing$' "runs/$name" "$bucket/$name/workdir"; }

train() {  # the slm command; its history goes to the bucket, its exit code to runs/NAME.exit
    local code=0 keeper=''
    trap : TERM  # the SIGTERM of a preemption is for slm; this shell stays to keep what slm leaves
    if [ "$number" = 0 ]; then
        while sleep "${SLM_SYNC_SECONDS:-60}"; do keep_history || true; done >/dev/null 2>&1 9>&- &
        keeper=$!
    fi
    "$@" || code=$?
    [ -z "$keeper" ] || { kill "$keeper" || true; keep_history || true; }
    echo "$code" >"runs/$name.exit.new"
    mv "runs/$name.exit.new" "runs/$name.exit"
}

# Flags --------------------------------------------------------------------------------------------------------

mode=${1:---help}
shift || true
name='' zone='' type='' bucket='' config='' project='' runtime='' stream='' number='' spot='' dry_run='' attempts=20
while [ $# -gt 0 ]; do
    case $1 in
        --name=* | --zone=* | --type=* | --bucket=* | --config=* | --project=* | --runtime=* | --stream=* | \
            --number=* | --attempts=*) setting=${1%%=*}; printf -v "${setting#--}" %s "${1#*=}" ;;
        --spot) spot=yes ;;
        --dry-run) dry_run=yes ;;
        --) shift; break ;;
        *) die "$1 is not a setting of this script: see --help; flags of slm come after --" ;;
    esac
    shift
done
bucket=${bucket%/} stream=${stream%/}

case $mode in
    start) needed='name zone type bucket config' ;;
    logs | delete) needed='name zone' ;;
    worker | train | follow | status) needed='' ;;  # what this script calls on the workers
    -h | --help | help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    *) die "$mode is not start, logs or delete: see bash launch/tpu_pod.sh --help" ;;
esac
for setting in $needed; do
    [ -n "${!setting}" ] || die "--$setting=… is missing: bash launch/tpu_pod.sh --help shows an example"
done
if [ "$needed" ]; then
    [[ $name =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] || die "--name=$name: Google takes small letters, digits and -"
    [ "$dry_run" ] || command -v gcloud >/dev/null || die "gcloud is missing: install the Google Cloud CLI and log in"
    place=(--zone="$zone")
    [ -z "$project" ] || place+=(--project="$project")
    queue=(gcloud compute tpus queued-resources)
    delete=("${queue[@]}" delete "$name" "${place[@]}" --force --quiet)
    ssh=(gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --quiet --ssh-flag=-oServerAliveInterval=30)
    follow="bash slm/launch/tpu_pod.sh follow --name=$name"
    ask_status="[ ! -e slm/launch/tpu_pod.sh ] && echo gone || bash slm/launch/tpu_pod.sh status --name=$name"
fi

case $mode in
    start)
        [[ $bucket == gs://?* ]] || die "--bucket=$bucket: a bucket is named gs://BUCKET or gs://BUCKET/FOLDER"
        [ -f "${config%%:*}" ] || die "--config=$config: there is no file ${config%%:*}"
        [ -z "$stream" ] || [ -d "$stream" ] || die "--stream=$stream: no such folder; leave --stream out to make one"
        [[ $attempts =~ ^[1-9][0-9]*$ ]] || die "--attempts=$attempts: give a number from 1"
        for flag; do
            case $flag in --config=* | --config.stream* | --config.train.checkpoints* | --workdir* | --prepare*)
                die "$flag is set by this script: give --config, --stream, --bucket or --name before the --" ;;
            esac
        done
        case $type in
            v4-*) machine=tpu-ubuntu2204-base ;;
            v5e-* | v5litepod-*) machine=v2-alpha-tpuv5-lite type=v5litepod-${type#*-} ;;
            v5p-*) machine=v2-alpha-tpuv5 ;;
            v6e-*) machine=v2-alpha-tpuv6e ;;
            *) die "--type=$type: give v4-N, v5e-N, v5p-N or v6e-N" ;;
        esac
        create=("${queue[@]}" create "$name" --node-id="$name" "${place[@]}" --accelerator-type="$type"
            --runtime-version="${runtime:-$machine}")
        [ -z "$spot" ] || create+=(--spot)
        start "$@" ;;
    logs) run "${ssh[@]}" --worker=0 --command="$follow" ;;
    delete) run "${delete[@]}" ;;
    worker) worker "$@" ;;
    train) train "$@" ;;
    follow)
        tail -n 50 -F "runs/$name/launch.log" &
        flock "runs/$name.lock" true  # free once the run has ended
        sleep "${SLM_POLL_SECONDS:-1}"
        kill $! ;;
    status)
        mkdir -p runs  # for the lock
        if [ -s "runs/$name.exit" ]; then cat "runs/$name.exit"
        elif flock --nonblock "runs/$name.lock" true; then echo gone
        else echo running; fi ;;
esac
