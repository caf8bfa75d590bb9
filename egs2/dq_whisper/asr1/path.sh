# shellcheck shell=bash
# Sourced by the recipe: makes the project's environment on first use, then uses it.
_dq_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
"$_dq_root/tools/setup.sh" || return

export PYTHON=$_dq_root/.venv/bin/python
export PATH=$_dq_root/.venv/bin:$PATH
if [[ -d /usr/lib/sctk/bin ]]; then
    export PATH=$PATH:/usr/lib/sctk/bin # Debian keeps sclite off the PATH
fi
# Keys are sorted in byte order, texts are in many scripts.
export LC_ALL=C.UTF-8 PYTHONIOENCODING=utf-8
unset _dq_root
