#!/usr/bin/env bash
# The whole story on one machine, small, on the text the project brings: corpus, tokenizer, model, fine-tuning, leaderboard,
# export, an answer from llama.cpp.
#   bash launch/laptop.sh [--dry-run]      # `make demo` sets up .venv and runs this
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
    printf '\n$ python -m slm.main %s\n' "$*"
    [ "${dry_run:-}" ] || python -m slm.main "$@"
}

[ "${1:-}" = --dry-run ] && dry_run=yes

# What the project brings and what it has just written, curated; the steps after it train on that.
corpus="--config.corpus.files=sample,runs/demo/textbooks/documents.jsonl --config.corpus.curated=true"

step --config=configs/textbooks.py --workdir=runs/demo/textbooks
# shellcheck disable=SC2086  # two flags
step --config=configs/corpus.py $corpus --workdir=runs/demo/corpus
# shellcheck disable=SC2086
step --config=configs/tokenizer.py $corpus --workdir=runs/demo/tokenizer
# shellcheck disable=SC2086
step --config=configs/pretrain.py:demo $corpus --workdir=runs/demo/pretrain
step --config=configs/generate.py --config.checkpoint=runs/demo/pretrain --workdir=runs/demo/generate
step --config=configs/sft.py:demo --config.checkpoint=runs/demo/pretrain --workdir=runs/demo/sft
step --config=configs/evaluate.py:sample --config.checkpoint=runs/demo/sft --workdir=runs/demo/evaluate
step --config=configs/export.py:gguf --config.checkpoint=runs/demo/sft --workdir=runs/demo/export
step --config=configs/chat.py --config.runtime.model=runs/demo/export --config.settings.temperature=0 \
    --workdir=runs/demo/chat <<< '次の診療記録から、薬の名前をすべて抜き出してください。「高血圧症に対しアムロジピンを内服中。」'

printf '\n$ python -m slm.report.summary runs/demo\n'
[ "${dry_run:-}" ] || python -m slm.report.summary runs/demo
