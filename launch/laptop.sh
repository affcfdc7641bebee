#!/usr/bin/env bash
# The whole story on one machine, small, on the text the project brings: corpus, tokenizer, model, samples.
#   bash launch/laptop.sh [--dry-run]      # `make demo` sets up .venv and runs this
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
    printf '\n$ python -m slm.main %s\n' "$*"
    [ "${dry_run:-}" ] || python -m slm.main "$@"
}

[ "${1:-}" = --dry-run ] && dry_run=yes

step --config=configs/corpus.py --workdir=runs/demo/corpus
step --config=configs/tokenizer.py --workdir=runs/demo/tokenizer
step --config=configs/pretrain.py:demo --workdir=runs/demo/pretrain
step --config=configs/generate.py --config.checkpoint=runs/demo/pretrain --workdir=runs/demo/generate

printf '\n$ python -m slm.report.summary runs/demo\n'
[ "${dry_run:-}" ] || python -m slm.report.summary runs/demo
