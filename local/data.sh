#!/usr/bin/env bash
# Stage 1: speech and transcripts in, Kaldi folders for train, dev and test out.
set -euo pipefail +f
unset CDPATH # cd would go elsewhere, and print where

help=$(cat <<'EOF'
Usage: local/data.sh [--corpus NAME] [options]

  --corpus NAME     asterisk: en es fr it ru (default)
                    debian7:  asterisk, ru from festvox-ru, cs and nl from fillets-ng
                    debian13: debian7, and ro bg be ca da el from tuxpaint-stamps
                    or one that you have, with --data_root:
                    common_voice, fleurs, mls, voxpopuli (many languages), librispeech, aishell,
                    speechocean762,
                    kaldi (your own folders), lhotse_cuts, hf_dataset,
                    csv (a file of paths and texts)
  --data_root DIR   the corpus; kaldi: holds train, dev and test, or is one folder to split;
                    csv: a .csv, .tsv or .jsonl file, a folder that holds metadata.csv or its
                    like, or recordings with a text beside each (talk.wav, talk.txt)
  --split 80/10/10  csv, kaldi: shares of train, dev and test where the data have no splits; by
                    speaker where three or more are known, else by text
  --train DIR       kaldi: the folder of one split, instead of --data_root (also --dev, --test);
                    lhotse_cuts: a manifest of it
  --untranscribed   kaldi: train and dev are audio only, for the teacher to label
  --allow_pipes     kaldi, lhotse_cuts: take audio from commands, which stage 2 runs
  --language NAME   csv, kaldi, lhotse_cuts, hf_dataset: the language of all utterances
  --languages LIST  common_voice, fleurs, mls, voxpopuli: take only these, with commas between (all)
  --language_tokens NAME=LANGUAGE,...  of these corpora: use another language's token for one that
                    Whisper does not know, as ast=es
  --audio_column NAME  csv, hf_dataset (also --text_column, --language_column,
                    --speaker_column; csv: --split_column)
  --out DIR         where train, dev, test and report.json go (default: data)
  --downloads DIR   where downloaded packages are kept (default: downloads)
  --nj N            processes that decode audio (default: number of CPUs)
  --help            this text

docs/corpora.md says how each corpus must lie on the disk and what is left out of it.
Set PYTHON to the interpreter of the environment (default: that of tools/setup.sh, else python3).
EOF
)

# shown TEXT: without what a terminal obeys; names may be those of others.
shown() { local LC_ALL=C.UTF-8; printf %s "${1//[[:cntrl:]]/?}"; }
log() { echo "$(date '+%F %T') (${BASH_SOURCE[0]##*/}:${BASH_LINENO[0]}) $(shown "$*")" >&2; }
die() { echo "data.sh: $(shown "$*")" >&2; exit 2; }

corpus=asterisk
options=()  # of a corpus that the user has
out=data
downloads=downloads
nj=$(nproc)

while [ $# -gt 0 ]; do
    case "$1" in
        --help | -h) echo "${help}"; exit 0 ;;
        --data_root | --train | --dev | --test | --split | --language | --languages | \
            --language_tokens | --*_column)
            [ $# -ge 2 ] || die "$1 needs a value"
            options+=("$1" "$2")
            shift 2 ;;
        --allow_pipes | --untranscribed) options+=("$1"); shift ;;
        --corpus | --out | --downloads | --nj)
            [ $# -ge 2 ] || die "$1 needs a value"
            printf -v "${1#--}" '%s' "$2"
            shift 2 ;;
        *) die "unknown option: $1 (see --help)" ;;
    esac
done
[[ "${nj}" =~ ^[1-9][0-9]*$ ]] || die "--nj must be a number above 0: ${nj}"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
export PYTHONSAFEPATH=1 PYTHONPATH="${here%/*}${PYTHONPATH:+:${PYTHONPATH}}"
python=${PYTHON:-${ESPNET_DQ_VENV:-${here%/*}/.venv}/bin/python}
[[ -n ${PYTHON:-} || -x ${python} ]] || python=python3
packages=(--out "${out}" --downloads "${downloads}" --nj "${nj}")

known=$("${python}" -P -m espnet_dq.bin.corpus_scripts -- "${corpus}") || exit
read -r kind scripts <<< "${known}"
if [ "${kind}" = published ]; then
    [ "${#options[@]}" -eq 0 ] || die "${options[0]} goes with a corpus of your own"
else
    [[ " ${options[*]}" =~ \ --(data_root|train|dev|test)\  ]] ||
        die "--corpus ${corpus} needs --data_root DIR"
fi
for ((n = 0; n < ${#options[@]}; n++)); do
    given="${options[n]} ${options[n + 1]-}"
    case "${options[n]}" in
        --data_root)
            if [ "${kind}" = file ]; then
                [ -e "${given#* }" ] || die "${given}: no such file or folder"
            else
                [ -d "${given#* }" ] || die "${given}: no such folder"
            fi ;;
        --train | --dev | --test) [ -e "${given#* }" ] || die "${given}: no such file or folder" ;;
    esac
done
log "corpus ${corpus} -> ${out}"
if [ "${kind}" = published ]; then
    for script in ${scripts}; do
        "${python}" "${here}/${script}.py" "${packages[@]}"
    done
    # shellcheck disable=SC2086  # words
    "${python}" "${here}/split.py" --out "${out}" ${scripts}
else
    "${python}" "${here}/${scripts}.py" --out "${out}" --nj "${nj}" "${options[@]}"
fi
log "done: ${out}"
