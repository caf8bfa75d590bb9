#!/usr/bin/env bash
# DQ-Whisper on real speech in five languages: data in, quantized Whisper and report out.
# Runs from any folder; every option of dq.sh may follow and overrides what stands here.
set -euo pipefail +f
unset CDPATH # cd would go elsewhere, and print where

corpus=asterisk                     # asterisk, debian7, or one of your own with --data_root
teacher=base                        # Whisper that teaches: tiny, base, small, or a .pt file
student=tiny                        # Whisper that learns: tiny, base, small, or a .pt file
grid=ct2_int8                       # weight grid of the runtime

exec "$(dirname "${BASH_SOURCE[0]}")/dq.sh" \
    --corpus "$corpus" \
    --teacher "$teacher" \
    --student "$student" \
    --grid "$grid" \
    "$@"
