# shellcheck shell=bash
# What the launch scripts share; they source it from the project's folder.

die() { printf 'error: %s\n' "$*" >&2; exit 2; }

quoted() {  # the words as a shell reads them
    local word words='' mark="'" escaped="'\\''"
    for word; do
        [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] || word="'${word//$mark/$escaped}'"
        words+=" $word"
    done
    printf '%s' "${words# }"
}

run() {  # says a command, and runs it unless this is a --dry-run
    printf '$ %s\n' "$(quoted "$@")"
    [ "${dry_run:-}" ] || "$@"
}
