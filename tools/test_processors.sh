#!/usr/bin/env bash
# The numeric tests as on lesser processors and with other numbers of threads: one line a setting.
#
#   tools/test_processors.sh [options of pytest, as -k grids]
#
# Libraries are told to leave out instructions that this processor has, which gives them other
# kernels and other orders of summation. MKL listens on Intel's processors only. ATen is told with
# oneDNN: in bfloat16 it asks that one what the processor has, and then fails for want of its own.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

tests=(
    tests/quant tests/distill tests/whisper tests/student
    tests/task/test_{model,vocabularies,memory,ddp}.py
    tests/formats/test_{ctranslate2,onnx_writer,huggingface,ggml_writer,whisper_cpp_logits}.py
    tests/runtimes/test_onnx_runtime.py tests/labels/test_split.py
)
settings=(
    "OMP_NUM_THREADS=1"
    "OMP_NUM_THREADS=2"
    "OMP_NUM_THREADS=4"
    "OMP_NUM_THREADS=1 CT2_FORCE_CPU_ISA=GENERIC"
    "OMP_NUM_THREADS=1 CT2_FORCE_CPU_ISA=AVX"
    "OMP_NUM_THREADS=1 CT2_FORCE_CPU_ISA=AVX2"
    "OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41"
    "OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2"
    "OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=SSE41"
    "OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2"
    "OMP_NUM_THREADS=1 MKL_ENABLE_INSTRUCTIONS=SSE4_2"
    "OMP_NUM_THREADS=1 MKL_ENABLE_INSTRUCTIONS=AVX2"
)
failed=0
for setting in "${settings[@]}"; do
    read -ra variables <<< "$setting"
    said=$(env "${variables[@]}" "${ESPNET_DQ_VENV:-.venv}/bin/python" -m pytest --color=no -p no:cacheprovider \
        -o addopts=--strict-markers --tb=line "${tests[@]}" "$@" 2>&1) || failed=1
    printf '%s: %s\n' "$setting" "$(tail -n 1 <<< "$said")"
    grep -E '^(FAILED|ERROR)' <<< "$said" || true
done
exit "$failed"
