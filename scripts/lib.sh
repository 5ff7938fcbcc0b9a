# Shared by the scripts beside it, which source it: where things are, and how what they need gets here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${LASTCALL_VENV:-$PWD/.venv}
DEVELOPMENT=dev,mongod,peers,reconcile,spark  # the extras that checks and tests need
export PATH="$PATH:/usr/sbin:/sbin"  # Debian keeps its servers there, and not on everybody's PATH

# have COMMAND...: whether every one of these commands is here.
have() { for command in "$@"; do command -v "$command" >/dev/null || return 1; done; }

# debian PACKAGE...: install Debian packages, starting none of the services that come with them.
debian() {
    if ! have apt-get || [ "$(id -u)" != 0 ]; then
        echo "missing: install the Debian packages $*, or run this as root" >&2
        exit 1
    fi
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    fi
    echo "installing $*" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" >/dev/null </dev/null
    if [ "$(trap -p EXIT)" ]; then rm -f $policy && trap - EXIT; fi
}

# python_with EXTRAS: a virtual environment with lastcall, editable, and these extras; quick when nothing has changed.
python_with() {
    local extras=$1 python=${PYTHON:-python3} stamp
    if ! have "$python"; then debian python3 python3-venv; fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed" >&2; exit 1; }
    if [ ! -x "$VENV/bin/pip" ]; then
        "$python" -c 'import ensurepip' 2>/dev/null || debian python3-venv
        "$python" -m venv "$VENV"
    fi
    stamp="$VENV/.lastcall-${extras:-plain}"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint)" ]; then
        echo "installing lastcall${extras:+ with $extras} into $VENV" >&2
        "$VENV/bin/pip" install -q --disable-pip-version-check -e ".${extras:+[$extras]}"
        fingerprint >"$stamp"
    fi
}

# What an installation depends on: the declared requirements, and which checkout it is of.
fingerprint() { { pwd && cat pyproject.toml; } | sha256sum; }
