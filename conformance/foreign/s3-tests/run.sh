#!/bin/sh
# Runs the listed tests of Ceph's s3-tests against a server of its own; see README.md beside it.
#   S3T_SRC=a checkout of the suite  run.sh [--list FILE]
set -eu
: "${S3T_SRC:?must be the path of a checkout of s3-tests}"
here=$(cd "$(dirname "$0")" && pwd)
venv=${XDG_CACHE_HOME:-$HOME/.cache}/jay/venv-s3-tests
if [ ! -e "$venv/complete" ]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --no-input -r "$S3T_SRC/requirements.txt" pytest-timeout
    touch "$venv/complete"
fi
exec "$venv/bin/python" -B "$here/suite.py" --source "$S3T_SRC" "$@"
