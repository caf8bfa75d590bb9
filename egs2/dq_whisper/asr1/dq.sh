#!/usr/bin/env bash
# The stages of DQ-Whisper. Each can be run again, alone or after a kill: a finished one (its
# marker is in EXPDIR/done) is skipped, unless --stage asks for it and those after it.
# shellcheck disable=SC2154 # variables that are options: see below
set -euo pipefail +f
unset CDPATH # cd would go elsewhere, and print where
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=egs2/dq_whisper/asr1/path.sh
. ./path.sh

# Options are declared in espnet_dq/recipe/options.py, and checked. espnet_dq/bin/recipe.py says them
# as variables of their names, and beside them what follows: exp, teacher_pt, ... (settle.py), and
# lists: systems, words of commands, ... (lists.py).
for word; do
    case $word in -h|--help) exec "$PYTHON" -m espnet_dq.bin.recipe --help ;; esac
done
settle() {
    local variables variable
    mapfile -d '' -t variables < <("$PYTHON" -m espnet_dq.bin.recipe --caller "$caller" "$@")
    wait "$!" # for its exit code
    for variable in "${variables[@]}"; do # NAME=VALUE; NAME begins a list, NAME[0]=WORD follows
        if [[ $variable != *=* ]]; then unset -v "$variable"; continue; fi
        printf -v "${variable%%=*}" %s "${variable#*=}"
    done
    nj=${nj:-$(nproc)}
}
settle "$@"

# shown TEXT: without what a terminal obeys; names may be those of others.
shown() { local LC_ALL=C.UTF-8; printf %s "${1//[[:cntrl:]]/?}"; }
die() { echo "dq.sh: $(shown "$*")" >&2; exit 2; }
# shellcheck source=egs2/dq_whisper/asr1/cmd.sh
. "$(realpath "$cmd")"
shopt -s inherit_errexit # what fails in our $(...) ends the run, too
case ${cmd_backend-} in
    local) [ "$num_nodes" -eq 1 ] || die "--num_nodes $num_nodes: needs cmd_backend=slurm in $cmd" ;;
    slurm) cmd_split=true ;;
    *) die "$cmd: cmd_backend=${cmd_backend-}: local or slurm" ;;
esac
for variable in cmd_{split,threads,options,train_options}; do
    [ -v "$variable" ] || die "$cmd: $variable is not set"
    [ "$cmd_split" = false ] ||
        why=$("$PYTHON" -c 'import shlex, sys; shlex.split(sys.argv[1])' "${!variable}" 2>&1) ||
        die "$cmd: $variable: ${why##*: }" # as sbatch would get it
done
case $cmd_split in true|false) ;; *) die "$cmd: cmd_split=$cmd_split: true or false" ;; esac
[[ $cmd_threads == +([0-9]) && $cmd_threads != +(0) ]] ||
    die "$cmd: cmd_threads=$cmd_threads: not a whole number above 0"

for folder in "$exp/done" "$dumpdir" downloads; do
    elsewhere="in a clone that is somebody else's nothing can be made: work in one of your own"
    why=$(mkdir -p "$folder" 2>&1) || die "${why#mkdir: }: $elsewhere"
    [ -w "$folder" ] || [ "$folder" = downloads ] || die "$folder: no right to write: $elsewhere"
done
py() { "$PYTHON" -m "espnet_dq.bin.$1" "${@:2}"; }
log() { echo "$(date '+%H:%M:%S') (dq.sh:${BASH_LINENO[0]}) $(shown "$*")" >&2; }
# beside FILE: a new hidden name beside it, as espnet_dq/files.py makes them.
host=$(uname -n | tr -cd '[:alnum:]' | cut -c 1-12)
beside() {
    echo "${1%/*}/.${1##*/}.tmp-${host:-host}-$$-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')"
}
# whole FILE: what comes in, under its name only once all of it is there.
whole() {
    local part
    part=$(beside "$1")
    cat > "$part" && mv "$part" "$1"
}

# One run at a time in this folder. Everything that a run starts here holds the lock, so what a
# killed one has left at work is waited for.
alone=()
if type -P flock > /dev/null; then
    exec {lock}> "$exp/.lock"
    locked=0
    flock -n "$lock" || locked=$? # other codes than 1: a file system without locks
    if [ "$locked" -eq 1 ]; then
        log "$exp: another run, or what a killed one has left, is at work there: waiting for it"
        flock "$lock" && locked=0
        settle "$@" # what the other has made may not go together with these options
    fi
    [ "$locked" -ne 0 ] || alone=(--alone)
fi
# What killed runs have left: on Slurm, where nothing holds the lock, jobs that work on; and, if
# nobody else can be at work here, files under the names that `beside` and espnet_dq/files.py make.
py end_jobs --exp "$exp" "${alone[@]}"

# What decides the results: espnet_dq/recipe/settings.py has compared them, but perhaps another run
# has begun the experiment since, where nothing can be locked.
[ -e "$exp/settings" ] || echo "$settings" | whole "$exp/settings"
[ "$settings" = "$(<"$exp/settings")" ] ||
    die "$exp was made with other settings meanwhile: use --tag NAME"
# A configuration with keys that are set is the experiment's own.
[ -z "$train_yaml" ] || printf %s "$train_yaml" | whole "$train_config"
[ -z "$qat_yaml" ] || printf %s "$qat_yaml" | whole "$qat_config"

# run_stage N TITLE SKIP: whether stage N is to be run now.
run_stage() {
    [ "$1" -ge "$stage" ] && [ "$1" -le "$stop_stage" ] || return 1
    if [ "$3" = true ]; then log "stage $1 ($2): left out"; return 1; fi
    again=false
    if [ -e "$exp/done/$1" ]; then
        if [ "$stage" -eq 0 ]; then log "stage $1 ($2): finished before"; return 1; fi
        again=true
    fi
    check_before "$1"
    # What later stages made of the old result does not stand any longer, nor what their jobs did.
    for ((later = $1; later <= 13; later++)); do
        rm -f "$exp/done/$later"
        [ "$later" -eq "$1" ] && [ "$stage" -eq 0 ] || rm -rf "$exp/logs/$later"/.*.log
    done
    log "stage $1: $2"
    started=$SECONDS current=$1
}
# check_before N: what stage N goes on with is of this experiment as it is now, not of one before.
check_before() {
    local before or
    for before in ${needs[$1]}; do
        or=; [ "$before" -ne 4 ] || or=", or --skip_teacher_pass true"
        [[ $before -ge $stage || -e $exp/done/$before ]] ||
            die "stage $before is not finished: run --stage $before$or"
    done
    [[ $1 != [467] || -e $exp/data/train/utt2sha256 ]] ||
        die "$exp/data: no windows: run --stage 2"
    [[ $1 != [67] || -e $exp/conf/qat.yaml ]] || die "$exp/conf: no configurations: run --stage 3"
}
finish_stage() {
    log "stage $1: done in $((SECONDS - started)) s"
    echo "$((SECONDS - started))" | whole "$exp/done/$1"
}
# in_jobs N NAME OPTIONS COMMAND...: as N jobs where cmd.sh says, JOB in the command being the number.
in_jobs() {
    local code=0
    py jobs --backend "$cmd_backend" --nj "$1" --log "$exp/logs/$current/$2.JOB.log" \
        --options="$3" -- "${@:4}" || code=$?
    [[ $code -eq 0 || $stage -eq 0 ]] || log "without --stage, that is: with it all jobs of the stage run again"
    return "$code"
}
# heavy NAME MODULE ARGS...: as `py`; on Slurm as a job, with $heavy_options if set.
heavy() {
    if [ "$cmd_backend" = local ]; then py "${@:2}"; return; fi
    in_jobs 1 "$1" "${heavy_options:-$cmd_options}" "$PYTHON" -m "espnet_dq.bin.$2" "${@:3}"
}
processes=$nj here=$ngpu # of one command on one machine; GPUs that this machine must have
[ "$cmd_backend" = local ] || processes=$cmd_threads here=0
# fetch_weights teacher|student...: their checkpoints, fetched or made where they are none yet.
fetch_weights() {
    local model file own source
    for model; do
        file=${model}_pt own=${model}_own
        source=${!model}
        [ "${!own}" ] || source=openai:$source # whatever lies here under that name
        [ "${!file}" -ef "$source" ] || py fetch_whisper --model "$source" --out "$weights"
        [ -e "${!file}" ] || die "--$model ${!model}: has changed since this run began: run it again"
    done
}

# Those that are gone since stage 3, as downloads may be.
need_weights() { [[ -e $teacher_pt && -e $student_pt ]] || fetch_weights teacher student; }

# Experiments on one corpus share its data, so only one makes them at a time. What another has made
# of the same source while this one waited, with the same options, need not be made again, unless
# --stage asks for it. (A source that changes while a run reads it is anyone's guess.)
last_made() { cat "$dump/.made" 2> /dev/null || true; }
lock_data() {
    local before
    if ! type -P flock > /dev/null || [ -n "${data_lock:-}" ]; then return; fi
    mkdir -p "$dump"
    before=$(last_made)
    exec {data_lock}> "$dump/.lock"
    if flock -n "$data_lock" || [ $? -ne 1 ]; then return; fi # or a file system without locks
    log "$dump: another run is making the data: waiting for it"
    flock "$data_lock"
    if [ "$stage" -eq 0 ] && [ "$(last_made)" != "$before" ] &&
        [[ $(last_made) == *" $data_options" ]]; then
        log "$dump: it has made what this one needs"
        data_made=true
    fi
}
data_made=false data_read=false # by another run; by this one, from the source
unlock_data() { [ -z "${data_lock:-}" ] || exec {data_lock}>&-; data_lock=; }
# make_data OPTIONS...: stage 1, which notes what it reads; or with --exp a look whether that is so.
make_data() { py make_data --nj "$nj" "$@" "${make_data[@]}"; }
if [ -n "$data_root" ] && [ -e "$exp/done/1" ] && [ "$skip_data" = false ]; then
    if [ "$stage" -eq 0 ]; then make_data --exp "$exp"; fi
    if [ "$stage" -ge 3 ]; then make_data --exp "$exp" --warn; fi
fi
if run_stage 1 "data" "$skip_data"; then
    # A user's may be damaged: said before the work on the data.
    fetch_weights ${teacher_own:+teacher} ${student_own:+student}
    lock_data
    if [ "$data_made" = false ]; then
        rm -f "$dump/.made"
        make_data --student "${student_own:-$student}"
        data_read=true
    fi
    rm -f "$exp/source.jsonl"
    finish_stage 1
fi

if run_stage 2 "format to 16 kHz, check splits, pack windows" "$skip_data"; then
    lock_data
    if [ "$long" = split ] || [ "$labels" != text ]; then fetch_weights teacher; fi
    fetch_weights ${student_own:+student}
    if [ "$data_made" = false ]; then
        rm -f "$dump/.made"
        heavy format format_data --nj "$processes" "${format_data[@]}"
        [ "$data_read" = false ] || echo "$(date +%s%N) $$ $data_options" | whole "$dump/.made"
    fi
    [ ! -e "$data/source.jsonl" ] || whole "$exp/source.jsonl" < "$data/source.jsonl"
    [ "$labels" != text ] || unlock_data # windows are each experiment's own
    label_options=
    [ "$ngpu" -eq 0 ] || label_options="$cmd_train_options --gpus-per-node 1"
    # A student that is not OpenAI's has perhaps not all of Whisper's tokens, or another window.
    for each in "train $singles $most_windows" "dev 10 $dev_windows"; do
        read -r set alone most <<< "$each"
        source=$raw/$set limit=$max_left_out
        [ "$set" = train ] || limit=100 # of few utterances one is much
        if [ "$labels" != text ]; then
            source=${raw}_$of_teacher/${labels}_$set
            heavy_options=$label_options heavy "label_$set" pseudo_label --data "$raw/$set" \
                --out "$source" --teacher "$teacher_pt" --mode "$labels" --ngpu "$((ngpu > 0))"
        fi
        py pack_windows --data "$source" --out "$exp/data/$set" ${most:+--most "$most"} \
            --singles "$alone" --seed "$seed" ${student_own:+--student "$student_own"} \
            --temperature "$temperature" --max_hours "$max_hours" --max_left_out "$limit" \
            ${cachedir:+--shared "$cachedir/windows"}
    done
    finish_stage 2
fi
unlock_data

# make_canary NAME OPTIONS...: EXPDIR/data/NAME, of Debian's speech, if it can be had, and the user's.
make_canary() {
    local sets=("${own_sets[@]}")
    rm -rf "$exp/data/$1" "$exp/data/${1}_wav"
    [ "$canary" != none ] || return 0
    # The part that is written last.
    if [ -e "$stamps/parts/tuxpaint_others" ] ||
        "$PYTHON" local/tuxpaint.py --out "$stamps" --downloads downloads --nj "$nj"; then
        sets=("${stamp_sets[@]}" "${own_sets[@]}")
    else
        log "no canary of Debian's: how the student does on other people is not known"
    fi
    [ "${#sets[@]}" -eq 0 ] ||
        py make_canary --train "$raw/train" --sets "${sets[@]}" --out "$exp/data/$1" "${@:2}"
}

if run_stage 3 "weights" false; then
    fetch_weights teacher student
    py init_student --from "$student_pt" --teacher "$teacher_pt" --grid "$grid" \
        --export "$format" "${configs[-1]}" --also "${also[@]}" --out "$exp/init"
    if [ "$skip_train" = false ]; then
        py check_configs "${configs[@]}" --student "$student_pt" --teacher "$teacher_pt" \
            --grid "$grid" --processes "$(((ngpu > 1 ? ngpu : 1) * num_nodes))" \
            --data "$exp/data/train" "$exp/data/dev" --ngpu "$here"
        [ "$merge" != auto ] || { make_canary choice --choice --student "$student_pt"
            [ -e "$exp/data/choice" ]; } || die "no speech of others to choose --merge by:" \
            "--canary DIR, or --merge 1, with --tag NAME"
        # What a user says of data may be wrong.
        [ -z "$data_root" ] ||
            py check_languages --teacher "$teacher_pt" --data "$exp/data/train" \
                --out "$exp/doubts.json"
        timed=(--teacher "$teacher_pt" --student "$student_pt")
        [ "$cmd_backend$ngpu" = local0 ] || timed=() # it is another machine that trains
        py plan "${configs[@]}" --grid "$grid" --out "$exp" --data "$exp/data/train" "$exp/data/dev" \
            "${lengths[@]}" "${timed[@]}" >&2
    fi
    finish_stage 3
fi

if run_stage 4 "teacher pass" "$skip_teacher_pass"; then
    need_weights
    py made_of "$exp/cache" --note windows --data "$exp/data" # answers to other windows go
    for set in dev train; do
        pass=(--data "$exp/data/$set" --out "$exp/cache/$set"
            --teacher "$teacher_pt" --student "$student_pt" --grid "$grid" --padding "$padding"
            --train_config "${configs[@]}" ${cachedir:+--shared "$cachedir/teacher"})
        if [ "$cmd_split" = true ]; then
            in_jobs "$nj" "teacher_${set}_part" "$cmd_options" env "OMP_NUM_THREADS=$cmd_threads" \
                "$PYTHON" -m espnet_dq.bin.teacher_pass "${pass[@]}" --part "JOB/$nj"
        fi
        # All of it, or what is left: joining the parts.
        heavy "teacher_$set" teacher_pass "${pass[@]}"
    done
    finish_stage 4
fi

if run_stage 5 "shapes" "$skip_train"; then
    for set in dev train; do py collect_shapes --data "$exp/data/$set" --out "$exp/stats/$set"; done
    finish_stage 5
fi

# train NAME INIT: one run of ESPnet's trainer, of conf/NAME.yaml; resumes by itself.
train() {
    local out=$exp/$1 code=0 live=() anew=()
    need_weights
    # A finished run that is asked for again starts anew, and so does one from another start, of
    # other data or another teacher; an unfinished one is resumed.
    [ "$again" = false ] || anew=(--anew)
    py made_of "$out" --note start --data "$exp/data" --of "$2" "$teacher_pt" "${anew[@]}"
    [ "$skip_teacher_pass" = false ] || live=(--live)
    py run_training --exp "$exp" --name "$1" --init "$2" --teacher "$teacher_pt" \
        --padding "$padding" --seed "$seed" --ngpu "$ngpu" --nodes "$num_nodes" "${live[@]}" \
        --backend "$cmd_backend" --options="$cmd_train_options" || code=$?
    case $code in
        0) ;;
        2) exit 2 ;;
        130) log "interrupted: the same command goes on with the training"; exit 130 ;;
        *) [ ! -e "$out/train.log" ] || tail -n 1 "$out/train.log" >&2
            log "training failed: see $out/train.log"; exit 1 ;;
    esac
    { grep 'epoch results' "$out/train.log" || true; } | sed 's/.*INFO: //' | cut -c1-180 >&2
}

if [ "$mode" = kd_qat ] && run_stage 6 "distil (kd)" "$skip_train"; then
    train kd "$exp/init/student.pth"
    finish_stage 6
fi

if run_stage 7 "distil on the grid (qat)" "$skip_train"; then
    start=$exp/init/student.pth
    [ "$mode" = joint ] || start=$exp/kd/$learned
    [ "$learned" = "$checkpoint" ] || heavy merge merge_start --exp "$exp" --share "$merge" \
        --trained "$exp/kd/$checkpoint" --padding "$padding" --out "$start"
    if grep -q '^ *ranges: gptq$' "$exp/conf/qat.yaml"; then
        heavy round round_start --exp "$exp" --init "$start" --padding "$padding" \
            --out "$exp/init/rounded.pth"
        start=$exp/init/rounded.pth
    fi
    train qat "$start"
    finish_stage 7
fi

if run_stage 8 "export and verify" false; then
    need_weights
    py export --exp "$exp/qat" --to "$format" --out "$exp/export/$exported"
    code=0
    py verify "$exp/export/$exported" --against "$exp/qat" --json "$exp/verify.json" |
        whole "$exp/verify.txt" || code=1
    log "$exported: $(tail -n 1 "$exp/verify.txt")"
    [ "$code" -eq 0 ] || exit 1
    py export --exp "$exp/qat" --to openai --out "$exp/export/student.pt"
    rm -rf "$exp/export/rounded_"* "$exp/verify_rounded_"* "$exp/benchmark.json" # of another student
    py export --exp "$exp/$first" --checkpoint "$learned" --to ct2 --float \
        --out "$exp/export/float_student"
    py convert --from "$student_pt" --to ct2 --out "$exp/export/untouched"
    py convert --from "$teacher_pt" --to ct2 --out "$exp/export/teacher"
    finish_stage 8
fi

# decode FOLDER DATA NAME:RUNTIME:PATH, of `scored`; what other experiments decode, too, is shared.
decode() {
    local name runtime path clips=$nj
    IFS=: read -r name runtime path <<< "$3"
    local args=(--model "$exp/$path" --runtime "$runtime" --data "$2" --out "$exp/$1/$name")
    [ "$name" != student_torch ] || clips=8 # as one batch
    [[ $name == student* || $name == rounded_* ]] ||
        args+=(${cachedir:+--shared "$cachedir/decode"})
    if [ "$cmd_split" = true ]; then
        in_jobs "$nj" "${1}_$name" "$cmd_options" \
            "$PYTHON" -m espnet_dq.bin.decode "${args[@]}" --part "JOB/$nj" --threads "$cmd_threads"
        py decode "${args[@]}" --join "$nj"
    else
        py decode "${args[@]}" --nj "$clips"
    fi
}
if run_stage 9 "decode" "$skip_eval"; then
    [ "$test_clips" -eq 0 ] ||
        py subset_data --data "$raw/test" --out "$drawn" --per_language "$test_clips"
    [ "$test_windows" = false ] ||
        py pack_windows --by_speaker --data "$drawn" --out "$test" \
            ${student_own:+--student "$student_own"}
    [[ ${systems[*]} != *rounded* ]] || need_weights
    [[ ${scored[*]} != *rounded* ]] || heavy rounded round_systems --exp "$exp" --grid "$grid" \
        --student "$student_pt" --teacher "$teacher_pt" --systems "${systems[@]}" \
        --also "${also[@]}"
    py describe "${describe[@]}" --command "$command_line"
    echo "$scoring" | whole "$exp/scoring"
    for each in "${scored[@]}"; do decode decode "$test" "$each"; done
    rm -rf "$exp/canary" "$exp/data/canary" "$exp/data/canary_wav"
    [[ " ${systems[*]} " != *" untouched "* ]] || make_canary canary
    for each in "${scored[@]}"; do
        [[ -e $exp/data/canary && $each =~ ^(untouched|teacher|student): ]] || continue
        decode canary "$exp/data/canary" "$each"
    done
    finish_stage 9
fi

if run_stage 10 "score" "$skip_eval"; then
    decoded=()
    for name in "${scored[@]%%:*}"; do decoded+=("$exp/decode/$name"); done
    py score --ref "$test" --hyp "${decoded[@]}"
    finish_stage 10
fi

if run_stage 11 "benchmark" "$skip_eval"; then
    heavy benchmark benchmark --systems "$exp/run.json" --data "$test" --out "$exp/benchmark.json"
    finish_stage 11
fi

if run_stage 12 "report" "$skip_eval"; then
    py report --exp "$exp" "${about_data[@]}"
    finish_stage 12
fi

if run_stage 13 "pack" "$skip_pack"; then
    zip=$(beside "$exp/espnet_model").zip
    "$PYTHON" -m espnet2.bin.pack asr --asr_train_config "$exp/qat/config.yaml" \
        --asr_model_file "$exp/qat/$checkpoint" --outpath "$zip"
    mv "$zip" "$exp/espnet_model.zip"
    if [ -e "$exp/done/12" ]; then # else results.json, if there is one, is of another student
        py publish --exp "$exp" "${about_data[@]}" ${upload_to:+--upload_to "$upload_to"}
    else
        [ -z "$upload_to" ] || die "--upload_to: nothing to upload, no report of this student (stage 12)"
        log "no report of this student (stage 12): packed for ESPnet only, no model cards"
        [ ! -e "$exp/publish" ] || log "$exp/publish: left as it was"
    fi
    finish_stage 13
fi
if [ -e "$exp/done/12" ]; then log "results: $exp/RESULTS.md, $exp/report.html"; fi
