#!/usr/bin/env bash
# Stage 1: speech and transcripts in, Kaldi folders for train, dev and test out.
set -euo pipefail

help=$(cat <<'EOF'
Usage: local/data.sh [--corpus NAME] [options]

  --corpus NAME     asterisk: en es fr it ru (default)
                    debian7:  asterisk, ru from festvox-ru, cs and nl from fillets-ng
                    kaldi:    your own Kaldi folders
  --data_root DIR   kaldi: holds train, dev and test
  --train DIR       kaldi: the folder of one split, instead of --data_root (also --dev, --test)
  --out DIR         where train, dev, test and report.json go (default: data)
  --downloads DIR   where downloaded packages are kept (default: downloads)
  --nj N            processes that decode audio (default: number of CPUs)
  --help            this text

Set PYTHON to the interpreter of the environment (default: python3).
EOF
)

log() { echo "$(date '+%F %T') (${BASH_SOURCE[0]##*/}:${BASH_LINENO[0]}) $*" >&2; }
die() { echo "data.sh: $*" >&2; exit 2; }

corpus=asterisk
folders=()  # of --corpus kaldi
out=data
downloads=downloads
nj=$(nproc)

while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h) echo "${help}"; exit 0 ;;
        --data_root | --train | --dev | --test)
            [ $# -ge 2 ] || die "$1 needs a value"
            folders+=("$1" "$2")
            shift 2 ;;
        --corpus | --out | --downloads | --nj)
            [ $# -ge 2 ] || die "$1 needs a value"
            printf -v "${1#--}" '%s' "$2"
            shift 2 ;;
        *) die "unknown option: $1 (see --help)" ;;
    esac
done
[[ "${nj}" =~ ^[1-9][0-9]*$ ]] || die "--nj must be a number above 0: ${nj}"

[ "${corpus}" = kaldi ] || [ "${#folders[@]}" -eq 0 ] || die "${folders[0]} goes with --corpus kaldi"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
export PYTHONPATH="${here%/*}${PYTHONPATH:+:${PYTHONPATH}}"
python=${PYTHON:-python3}
packages=(--out "${out}" --downloads "${downloads}" --nj "${nj}")

log "corpus ${corpus} -> ${out}"
case "${corpus}" in
    asterisk)
        "${python}" "${here}/asterisk.py" "${packages[@]}"
        "${python}" "${here}/split.py" --out "${out}" asterisk ;;
    debian7)
        "${python}" "${here}/asterisk.py" "${packages[@]}"
        "${python}" "${here}/festvox_ru.py" "${packages[@]}"
        "${python}" "${here}/fillets.py" "${packages[@]}"
        "${python}" "${here}/split.py" --out "${out}" asterisk festvox_ru fillets ;;
    kaldi)
        [ "${#folders[@]}" -gt 0 ] || die "--corpus kaldi needs --data_root DIR"
        "${python}" "${here}/kaldi_dir.py" --out "${out}" "${folders[@]}" ;;
    *) die "unknown corpus: ${corpus} (asterisk, debian7 or kaldi)" ;;
esac
log "done: ${out}"
