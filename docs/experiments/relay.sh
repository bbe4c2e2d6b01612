#!/usr/bin/env bash
# How fast the tool's relay is beside the direct way: a file over a loopback device with the MTU of Ethernet, in a
# namespace of its own. As root: docs/experiments/relay.sh target/debug/sss [MiB] [rounds]
set -euo pipefail
sss=$(realpath "$1") size=${2:-1024} rounds=${3:-5}
ns=relay-$$ dir=$(mktemp -d /dev/shm/relay-XXXXXX)
ip netns add "$ns"
trap 'ip netns pids "$ns" | xargs -r kill; wait; ip netns delete "$ns"; rm -rf "$dir"' EXIT
ip -n "$ns" link set lo mtu 1500 up
as() { local home=$dir/$1; shift; HOME=$home XDG_CONFIG_HOME=$home ip netns exec "$ns" "$sss" "$@"; }
mkdir "$dir/source"
head -c "${size}M" /dev/urandom >"$dir/source/file"
as server rendezvous --relay --bind 127.0.0.1:7757 --stats 1 --json >"$dir/server.log" 2>&1 &
until grep -q '"target"' "$dir/server.log"; do sleep 0.05; done
server=$(sed -n 's/.*"target":"\([^"]*\)".*/\1/p' "$dir/server.log" | head -n 1)
as callee serve "$dir/source" --public --bind 127.0.0.1:0 --server "$server" >"$dir/callee.log" 2>&1 &
until grep -q '^registered' "$dir/callee.log"; do sleep 0.05; done
eid=$(sed -n 's/^listening \(.*\)@.*/\1/p' "$dir/callee.log" | head -n 1)
pid=$(for one in $(ip netns pids "$ns"); do
    if [ "$(cat "/proc/$one/comm")" = sss ] && grep -q rendezvous "/proc/$one/cmdline"; then echo "$one"; fi
done)
ticks() { awk '{ print $14 + $15 }' "/proc/$pid/stat"; }
before=$(ticks)
for ((round = 1; round <= rounds; round++)); do
    for way in --no-relay --relay-only; do
        rm -f "$dir/got"
        begun=$(date +%s%N)
        as "client$round$way" get "$eid/file" "$dir/got" --server "$server" "$way" >/dev/null 2>&1
        ns_taken=$(($(date +%s%N) - begun))
        cmp "$dir/source/file" "$dir/got"
        echo "$way $((size * 1000000000 / ns_taken)) MiB/s"
    done
done | tee "$dir/rates"
sort "$dir/rates" | awk '{ n[$1]++; rate[$1, n[$1]] = $2 }
    END { for (way in n) print way, "median", rate[way, int((n[way] + 1) / 2)], "MiB/s of", n[way] }'
echo "processor time of the relay: $((($(ticks) - before) * 1000 / $(getconf CLK_TCK))) ms, of $rounds files"
sleep 1
grep statistics "$dir/server.log" | tail -n 1
