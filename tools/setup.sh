#!/usr/bin/env bash
# Makes the environment that requirements.lock says; a second run finds it finished and ends at once.
set -euo pipefail +f
unset CDPATH # cd would go elsewhere, and print where

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lock=$root/requirements.lock
venv=$root/.venv
tools=$root/.tools # what set-up itself needs
if [[ -n ${ESPNET_DQ_VENV:-} ]]; then
    venv=${ESPNET_DQ_VENV%/}
    tools=$venv.tools
fi
extras=(--extra runtimes --extra tensorboard --extra trainer --extra recipe --extra dev) # all but page
stamp=$venv/.lock-sha256
making=$tools/making # there while the environment is ours, and unfinished
setup_log=$tools/setup.log

usage() {
    cat <<'EOF'
Usage: tools/setup.sh [--lock] [--help]

Makes the Python environment .venv: finds Python 3.12 or 3.13 (or has uv fetch one), installs
the packages of requirements.lock, hashes checked, and this project, editable. Installs
Debian's sctk (sclite) where apt-get and the rights are there. Asks nothing. Can be run again at
any time: a finished environment is kept as long as requirements.lock is the same.

  --lock    make requirements.lock anew from pyproject.toml, and tools/audit.lock (for make audit),
            then stop
  --help    this text

TORCH_BACKEND   handed to uv: cpu for PyTorch's smaller CPU build, or cu126, cu130, auto, ...
                These builds lie on PyTorch's own server, which must be in reach; their hashes
                are not in requirements.lock, so here its versions are kept and no hashes are
                checked. The choice is remembered; to undo it remove .venv and run this again.
                  TORCH_BACKEND=cpu tools/setup.sh
ESPNET_DQ_VENV  the environment's folder, instead of .venv, beginning with /; the recipe, make and
                .ci/run take it, too. For a clone that is somebody else's, or read-only:
                  export ESPNET_DQ_VENV=$HOME/espnet_dq_venv
EOF
}

log() { echo "setup: $*" >&2; }

die() {
    log "$*"
    exit 1
}

sha256_of() { { sha256sum "$1" 2>/dev/null || shasum -a 256 "$1"; } | cut -d ' ' -f 1; }

# The environment is finished if the stamp, written last, names this lock, backend and folder:
# an environment that was copied or moved points to where it was.
finished() {
    local sha backend folder
    [[ -r $stamp ]] || return 1
    { read -r sha && read -r backend && read -r folder; } <"$stamp" || return 1
    [[ $sha == "$(sha256_of "$lock")" && $folder == "$root" ]] || return 1
    [[ -z ${TORCH_BACKEND:-} || $backend == "$TORCH_BACKEND" ]] || return 1
    usable "$venv/bin/python"
}

# check_rights FILE...: ends with a line that says what cannot be made here, and what can be done.
check_rights() {
    local place at of own="or have an environment of your own: export ESPNET_DQ_VENV=\$HOME/espnet_dq_venv"
    # Its code is another clone's, which a set-up for this one would take away from it.
    if [[ (-L $venv || -n ${ESPNET_DQ_VENV:-}) && -r $stamp ]]; then
        of=$(sed -n 3p "$stamp")
        [[ -z $of || $of == "$root" ]] ||
            die "$venv runs the code of $of, not of $root: give each its own, with ESPNET_DQ_VENV=FOLDER"
    fi
    for place in "$@"; do
        at=$place
        until [[ -e $at || -L $at ]]; do at=$(dirname "$at"); done
        [[ -w $at ]] || die "no right to write to $at, to make $venv as this clone needs it: ask whoever may to run tools/setup.sh, $own"
    done
}

usable() {
    "$1" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}

# Prints a Python that fits, or nothing. A version manager's plain names may be on PATH and yet
# refuse to run, so every candidate is run.
find_python() {
    local python
    while read -r python; do
        if usable "$python"; then
            echo "$python"
            return
        fi
    done < <(
        type -ap python3.12 python3.13 python3
        printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[23]*/bin/python3 \
            "${ASDF_DATA_DIR:-$HOME/.asdf}"/installs/python/3.1[23]*/bin/python3 \
            "${MISE_DATA_DIR:-$HOME/.local/share/mise}"/installs/python/3.1[23]*/bin/python3
    )
}

# find_uv PYTHON sets `uv`: the one on PATH, ours, or, got with pip, the lock file's as ours.
find_uv() {
    local python
    for uv in "$(type -P uv || true)" "$tools/uv/bin/uv"; do
        if "$uv" --version >/dev/null 2>&1; then return; fi
    done
    while read -r python; do
        if "$python" -m pip --version >/dev/null 2>&1; then break; fi
        python=
    done < <(
        echo "$1"
        type -ap python3
    )
    if [[ -z $1 ]] && ! type -P python3 >/dev/null; then
        die "no Python found: install Python 3.12 or 3.13 (or uv, which can fetch it)"
    fi
    [[ -n $python ]] || die "no uv, and no python3 with pip to get it: install one of them"
    log "getting uv with pip"
    rm -rf "$tools/uv" "$tools/uv.part"
    sed -n '/^uv==/,/[^\\]$/p' "$lock" >"$tools/uv.txt"
    "$python" -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: --target "$tools/uv.part" -r "$tools/uv.txt" >"$setup_log" 2>&1 ||
        fail "could not get uv"
    mv "$tools/uv.part" "$tools/uv"
}

# Ends with one line: why the step whose output is in the log did not work, and what to do.
fail() {
    local why="see $setup_log"
    # On a full disk the log itself may lack the reason.
    if ! { echo >>"$setup_log"; } 2>/dev/null || grep -qi 'no space left' "$setup_log"; then
        why="the disk is full: make room and run this again"
    elif grep -qi 'hash mismatch\|do not match the hashes' "$setup_log"; then
        why="a package has another hash than in requirements.lock: do not trust this server, $why"
    elif grep -qiE 'dns error|error sending|failed to (connect|fetch)|connection|timed out' \
        "$setup_log"; then
        why="no network, or the server is out of reach: check the connection, $why"
    fi
    die "$1: $why"
}

step() { # step "what could not be done" command ...
    local what=$1
    shift
    "$@" >"$setup_log" 2>&1 || fail "$what"
}

install_packages() {
    # Compiled once: where PYTHONDONTWRITEBYTECODE is set, as in containers, each of the recipe's
    # many processes would compile all that it imports.
    # Two packages come as source. They are built with the lock file's setuptools, hash checked:
    # nothing else is fetched to build them.
    sed -n '/^setuptools==/,/[^\\]$/p' "$lock" >"$tools/build.txt"
    step "could not install the packages" "$uv" pip install -q --compile-bytecode \
        --python "$venv/bin/python" --require-hashes --no-deps -r "$tools/build.txt"
    if [[ -z $backend ]]; then
        step "could not install the packages" \
            "$uv" pip sync -q --compile-bytecode --python "$venv/bin/python" --require-hashes \
            --no-build-isolation "$lock"
        return
    fi
    # Which CUDA packages torch needs depends on its build, so their versions are left open.
    sed -E '/^ /d; s/ \\$//; /^(nvidia-|cuda-)/d' "$lock" >"$tools/constraints.txt"
    step "could not install the packages with TORCH_BACKEND=$backend" \
        "$uv" pip install -q --compile-bytecode --python "$venv/bin/python" \
        --torch-backend "$backend" --no-build-isolation \
        -c "$tools/constraints.txt" -r "$root/pyproject.toml" "${extras[@]}"
}

# Scoring works without sclite, so nothing here is an error.
install_sclite() {
    if have_sclite; then return; fi
    if [[ $(id -u) == 0 ]] && type -P apt-get >/dev/null; then
        log "installing sclite (Debian's sctk)"
        local get=(timeout 120 env DEBIAN_FRONTEND=noninteractive apt-get -qq
            -o Acquire::Retries=1 -o DPkg::Lock::Timeout=60)
        "${get[@]}" install -y --no-install-recommends sctk >"$setup_log" 2>&1 </dev/null || {
            "${get[@]}" update && "${get[@]}" install -y --no-install-recommends sctk
        } >"$setup_log" 2>&1 </dev/null || true
    fi
}

have_sclite() { [[ -x /usr/lib/sctk/bin/sclite ]] || type -P sclite >/dev/null; }

report() {
    have_sclite || log "no sclite (Debian: apt-get install sctk): its tables are made by our own alignment, with its weights"
    log "$1"
}

main() {
    unset PYTHONHOME PYTHONPATH # of another Python
    cd "$root" # not in a folder whose modules `python -m` would run
    local relock=false python backend
    for arg in "$@"; do
        case $arg in
        --help | -h) usage && exit 0 ;;
        --lock) relock=true ;;
        *) log "unknown option $arg, see --help" && exit 2 ;;
        esac
    done
    [[ $venv == /* ]] || { log "ESPNET_DQ_VENV=$venv: must begin with /" && exit 2; }
    if $relock; then
        check_rights "$tools" "$lock"
    elif finished; then
        report "$venv is ready"
        exit 0
    else
        check_rights "$tools" "$venv"
    fi

    mkdir -p "$tools"
    if type -P flock >/dev/null; then
        exec 9>"$tools/setup.lock"
        flock -n 9 || { log "waiting for another set-up" && flock 9; }
        if ! $relock && finished; then
            report "$venv is ready"
            exit 0
        fi
    fi
    : >"$setup_log"

    python=$(find_python)
    find_uv "$python"
    if $relock; then
        local compile=("$uv" pip compile -q --universal --python-version 3.12 --generate-hashes
            --upgrade --no-emit-index-url --no-emit-find-links
            --custom-compile-command "tools/setup.sh --lock")
        step "could not make requirements.lock" \
            "${compile[@]}" pyproject.toml "${extras[@]}" -o "$lock"
        step "could not make tools/audit.lock" \
            "${compile[@]}" tools/audit.in -c "$lock" -o tools/audit.lock
        log "requirements.lock and tools/audit.lock are made anew"
        exit 0
    fi

    backend=${TORCH_BACKEND:-}
    if [[ -z $backend && -r $stamp ]]; then
        backend=$(sed -n 2p "$stamp")
    fi
    if [[ ! -e $stamp && ! -e $making && -n $(shopt -s nullglob dotglob && echo "$venv"/*) ]]; then
        die "$venv was not made by this script: move it away and run this again"
    fi
    : >"$making"
    rm -f "$stamp"
    if ! usable "$venv/bin/python"; then
        if [[ -L $venv ]]; then
            die "$venv is a link, and no Python behind it works: remove it and run this again"
        fi
        rm -rf "$venv"
        if [[ -z $python ]]; then
            log "no Python 3.12 or 3.13 found, fetching one"
            "$uv" python install 3.12 >"$setup_log" 2>&1 ||
                fail "no Python 3.12 or 3.13 found (install one), and uv could not fetch it"
            python=3.12
        fi
        step "could not make $venv" "$uv" venv -q --python "$python" "$venv"
    fi
    log "installing packages into $venv (up to 7.0 GB, some minutes)"
    install_packages
    # setuptools is in the lock file: no second copy of it is fetched for the build.
    step "could not install the project" \
        "$uv" pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e "$root"
    step "packages do not fit together" "$uv" pip check --python "$venv/bin/python"
    install_sclite
    printf '%s\n' "$(sha256_of "$lock")" "$backend" "$root" >"$stamp.part"
    mv "$stamp.part" "$stamp"
    rm -f "$making"
    report "done in $SECONDS s"
}

main "$@"
