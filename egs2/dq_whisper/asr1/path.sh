# shellcheck shell=bash
# Sourced by the recipe: makes the project's environment on first use, then uses it.
unset CDPATH
_dq_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
"$_dq_root/tools/setup.sh" || return

_dq_venv=${ESPNET_DQ_VENV:-$_dq_root/.venv}
export PYTHON=$_dq_venv/bin/python
export PATH=$_dq_venv/bin:$PATH
if [[ -d /usr/lib/sctk/bin ]]; then
    export PATH=$PATH:/usr/lib/sctk/bin # Debian keeps sclite off the PATH
fi
# Keys are sorted in byte order, texts are in many scripts.
export LC_ALL=C.UTF-8 PYTHONIOENCODING=utf-8
# A model's folder that one enters may hold a safetensors.py: Python looks for none there, nor where
# PYTHONPATH names the current folder. Another Python's home, and warnings as errors, end ours.
export PYTHONSAFEPATH=1
unset PYTHONHOME PYTHONWARNINGS
IFS=: read -ra _dq_paths <<< "${PYTHONPATH:-}"
unset PYTHONPATH
for _dq_path in "${_dq_paths[@]}"; do
    if [[ $_dq_path == /* ]]; then export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$_dq_path; fi
done
unset _dq_root _dq_venv _dq_paths _dq_path
