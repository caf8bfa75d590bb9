#!/usr/bin/env bash
# DQ-Whisper on real speech in five languages: data in, quantized Whisper and report out.
# Runs from any folder; every option of dq.sh may follow and overrides what stands here.
set -euo pipefail +f
unset CDPATH # cd would go elsewhere, and print where

corpus=asterisk                     # asterisk, debian7, or one of your own with --data_root
teacher=openai:base                 # Whisper that teaches: a name of OpenAI's, or a file or folder
student=openai:tiny                 # Whisper that learns: the same choices
grid=ct2_int8                       # weight grid of the runtime

exec "$(dirname "${BASH_SOURCE[0]}")/dq.sh" \
    --corpus "$corpus" \
    --teacher "$teacher" \
    --student "$student" \
    --grid "$grid" \
    "$@"
