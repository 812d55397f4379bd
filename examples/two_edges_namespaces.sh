#!/bin/sh
# Two machines behind home routers and a supernode, all on this machine: sudo examples/two_edges_namespaces.sh
#
#                    supernode 203.0.113.1
#                        |
#   alice --- home-a --- internet --- home-b --- bob       home-a, home-b: NATs (masquerade)
#   192.168.1.2      203.0.113.11  203.0.113.12     192.168.1.2
#
# Everything lives in network namespaces named demo-...; leaving (Ctrl-C included) removes them.
set -eu
[ "$(id -u)" -eq 0 ] || { echo "this makes network namespaces: run it with sudo" >&2; exit 1; }
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
"$root/scripts/mesh-edge" --version
PATH=$root/.venv/bin:$PATH:/usr/sbin:/sbin
files=$(mktemp -d)
machines="internet supernode home-a home-b alice bob"

leave() {
    trap - EXIT INT TERM
    # shellcheck disable=SC2086 # one word per process
    kill $started 2>/dev/null || true
    wait
    for machine in $machines; do ip netns delete "demo-$machine" 2>/dev/null || true; done
    rm -rf "$files"
}
started=
trap leave EXIT
trap 'exit 130' INT TERM

on() { # on MACHINE COMMAND...
    machine=demo-$1
    shift
    ip netns exec "$machine" "$@"
}

start() { # start MACHINE COMMAND...: in the background, with files of its own
    MESH_STATE_DIR=$files/$1/state MESH_RUNTIME_DIR=$files/$1/run
    export MESH_STATE_DIR MESH_RUNTIME_DIR
    name=$1
    mkdir -p "$files/$name"
    shift
    # exec, so that $! is the program itself, not a shell around it.
    (exec ip netns exec "demo-$name" "$@") >"$files/$name/out" 2>"$files/$name/err" &
    started="$started $!"
}

await() { # await MACHINE TEXT: until its program has printed it
    tries=200
    until grep "$2" "$files/$1/out"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { cat "$files/$1/err" >&2; exit 1; }
        sleep 0.1
    done
}

cable() { # cable MACHINE INTERFACE MACHINE INTERFACE
    ip -n "demo-$1" link add "$2" type veth peer name "$4" netns "demo-$3"
    ip -n "demo-$1" link set "$2" up
    ip -n "demo-$3" link set "$4" up
}

for machine in $machines; do
    ip netns add "demo-$machine"
    ip -n "demo-$machine" link set lo up
done
ip -n demo-internet link add exchange type bridge
ip -n demo-internet link set exchange up
number=1
for machine in supernode home-a home-b; do
    cable "$machine" wan0 internet "port$number"
    ip -n demo-internet link set "port$number" master exchange
    number=$((number + 1))
done
ip -n demo-supernode address add 203.0.113.1/24 dev wan0
for home in "home-a alice 203.0.113.11" "home-b bob 203.0.113.12"; do
    # shellcheck disable=SC2086 # three words
    set -- $home
    cable "$1" lan0 "$2" eth0
    ip -n "demo-$1" address add "$3/24" dev wan0
    ip -n "demo-$1" address add 192.168.1.1/24 dev lan0
    ip -n "demo-$2" address add 192.168.1.2/24 dev eth0
    ip -n "demo-$2" route add default via 192.168.1.1
    on "$1" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    on "$1" nft --file - <<NFT
table ip nat {
  chain postrouting { type nat hook postrouting priority srcnat; oifname "wan0" masquerade; }
  chain input { type filter hook input priority filter; iifname "wan0" udp dport 1-65535 drop; }
}
NFT
done

# Folders of its own: the default ones may belong to a real supernode of this machine.
start supernode supernode run --listen 203.0.113.1:7777 \
    --state-dir "$files/supernode/state" --runtime-dir "$files/supernode/run"
await supernode listening
MESH_KEY=$(mesh-edge keygen)
export MESH_KEY
start alice mesh-edge join demo --supernode 203.0.113.1:7777 --name alice
start bob mesh-edge join demo --supernode 203.0.113.1:7777 --name bob
await alice joined
await bob joined
bob=$(sed -n 's|^joined .*: mesh0 \([0-9.]*\)/.*|\1|p' "$files/bob/out")
on alice ping -c 5 -i 0.5 "$bob"
MESH_STATE_DIR=$files/alice/state MESH_RUNTIME_DIR=$files/alice/run on alice mesh-edge peers
