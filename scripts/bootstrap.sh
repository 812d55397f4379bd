# Sets up .venv beside this folder; read by scripts/mesh-edge and scripts/check, not run by itself.
#
# What is missing comes from Debian (apt-get, as root only) and PyPI, nothing from elsewhere. All
# messages go to stderr: stdout belongs to the program that is started afterwards.
# shellcheck shell=sh

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
venv=$root/.venv

say() { printf 'mesh set-up: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# need_debian_packages PACKAGE...: installs them when root, else says in one line what to do.
need_debian_packages() {
    command -v apt-get >/dev/null || die "missing $*; install them with your system's package tool"
    [ "$(id -u)" -eq 0 ] || die "missing $*; run: sudo apt-get install $*"
    say "installing $* (apt-get)"
    export DEBIAN_FRONTEND=noninteractive
    # Programs for us, not services of this machine: deb-systemd-invoke asks this script first.
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && policy=/dev/null
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    [ "$policy" = /dev/null ] || chmod 755 "$policy"
    failed=
    {
        apt-get -qq install --yes --no-install-recommends "$@" ||
            # A machine that never asked, or long ago, knows no or only outdated package files.
            { apt-get -qq update && apt-get -qq install --yes --no-install-recommends "$@"; }
    } </dev/null >&2 || failed=yes
    [ "$policy" = /dev/null ] || rm -f "$policy"
    [ -z "$failed" ] || die "apt-get could not install $*; see above"
    case " $* " in *" nginx-light "*) systemctl disable nginx >/dev/null 2>&1 || : ;; esac
}

# add_missing PACKAGE TEST...: notes PACKAGE in $missing unless the command TEST succeeds.
add_missing() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

# need_programs run|dev: what Debian has to provide before pip can do the rest.
need_programs() {
    missing=
    # sbin is not on an ordinary user's PATH on Debian, yet ip and nft live there.
    PATH=$PATH:/usr/sbin:/sbin
    add_missing python3 command -v python3
    add_missing python3-venv python3 -c 'import ensurepip, venv'
    if [ "$1" = dev ]; then
        add_missing iproute2 command -v ip
        add_missing nftables command -v nft
        add_missing iputils-ping command -v ping
        # A real router's daemon for the port mapping tests; installed alone it starts nothing.
        add_missing miniupnpd-nftables command -v miniupnpd
        # Proxies on the way to a supernode; tinyproxy-bin alone, without its service.
        add_missing tinyproxy-bin command -v tinyproxy
        add_missing nginx-light command -v nginx
    fi
    # shellcheck disable=SC2086 # one word per package
    [ -z "$missing" ] || need_debian_packages $missing
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed, this is $(python3 --version)"
}

# fill_venv run|dev: creates .venv if need be and installs the project into it (editable).
fill_venv() {
    if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
        say "creating .venv"
        python3 -m venv --clear "$venv" >&2 || die "could not create $venv"
    fi
    say "installing the $1 dependencies from PyPI into .venv"
    # Debian 12's pip 23.0 does not know dependency groups (PEP 735); 25.1 is the first that does.
    pip_install --upgrade 'pip>=25.1'
    if [ "$1" = dev ]; then
        pip_install --editable "$root" --group "$root/pyproject.toml:dev"
        : >"$venv/.ready-dev"
    else
        pip_install --editable "$root"
    fi
    : >"$venv/.ready-run"
}

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --root-user-action=ignore "$@" </dev/null >&2 || die "pip could not install; see above"
}

# bootstrap run|dev: makes .venv ready, at once when pyproject.toml has not changed since.
bootstrap() {
    if [ "$venv/.ready-$1" -nt "$root/pyproject.toml" ] && [ -x "$venv/bin/mesh-edge" ]; then
        return
    fi
    need_programs "$1"
    [ -w "$root" ] || die "cannot write to $root; run this once as the owner of that folder"
    # Two terminals may start at the same moment; the second waits and finds the work done.
    exec 9<"$root/pyproject.toml"
    flock 9
    if [ ! "$venv/.ready-$1" -nt "$root/pyproject.toml" ] || [ ! -x "$venv/bin/mesh-edge" ]; then
        fill_venv "$1"
    fi
    exec 9<&-
}
