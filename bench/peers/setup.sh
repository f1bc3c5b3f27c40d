#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes (or completes) the Python environment of the rivals, outside the source tree, and prints its
# interpreter. VERTEBRA_VENV says where, VERTEBRA_PYTHON which Python to make it with.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${VERTEBRA_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/vertebra/venv}
stamp=$venv/peers-requirements.txt
if ! cmp -s "$here/requirements.txt" "$stamp"; then
    [ -x "$venv/bin/python" ] || "${VERTEBRA_PYTHON:-python3}" -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --disable-pip-version-check -r "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$stamp"
fi
echo "$venv/bin/python"
