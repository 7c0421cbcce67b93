# Sourced by the other scripts: how checks are made, told and counted.

tell=/dev/ttyS1
failed=
manifests=/etc/pinnace/manifests
root=/var/lib/pinnace

say() { printf '%s\n' "$*" > "$tell"; }

# check NAME COMMAND...: the command's output is told when it fails.
check() {
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then
    say "PASS $name"
  else
    say "FAIL $name"
    failed=yes
    sed 's/^/     | /' <<<"$out" | tail -40 > "$tell"
  fi
}

# await SECONDS COMMAND...: as soon as the command succeeds, at the latest then.
await() {
  local until=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$until" ]; then
      "$@"
      return
    fi
    sleep 1
  done
}

# same WHAT GOT WANT
same() { [ "$2" = "$3" ] || { printf '%s is\n%s\nnot\n%s\n' "$1" "$2" "$3"; return 1; }; }

# pod NAME FILTER: a jq filter on one pod of the agent's report.
pod() { pinnace status -o json | jq -er --arg name "$1" ".pods[] | select(.name == \$name) | $2"; }

address() { pod "$1" .status.podIP; }
phase() { pod "$1" .status.phase; }
restarts() { pod "$1" '.status.containerStatuses[0].restartCount'; }
container() { pod "$1" '.status.containerStatuses[0].containerID | sub(".*://"; "")'; }
ready() { pod "$1" '.status.conditions[] | select(.type == "Ready" and .status == "True") | .type'; }

is() { same "$1 of pod $2" "$("$1" "$2")" "$3"; } # is phase job Succeeded
answers() { curl -fsS -m 5 "http://$(address "$1"):8080/" | grep -F "pod $1"; }

# everyone: pod, uid, container id, restart count of every container.
everyone() {
  pinnace status -o json | jq -r '.pods[] | .name as $p | .uid as $u | .status.containerStatuses[]
    | "\($p) \($u) \(.name) \(.containerID) \(.restartCount)"' | sort
}

# scope CONTAINER, slice POD: their cgroup folders.
scope() { find /sys/fs/cgroup -type d -name "cri-containerd-$1.scope" | grep .; }
slice() {
  local uid
  uid=$(pod "$1" .uid) && find /sys/fs/cgroup -type d -name "*-pod${uid//-/_}.slice" | grep .
}

# holds DIR FILE WANT
holds() { same "$1/$2" "$(cat "$1/$2")" "$3"; }

daemon() { pgrep -f "^[^ ]*containerd --config $root/"; }

# footprint: all that pinnace could leave on a host.
footprint() {
  echo "# mounts"; findmnt -rno TARGET | grep -v -e '^/proc/sys/fs/binfmt_misc' -e '^/run/credentials' | sort
  echo "# links"; ip -o link | cut -d: -f2 | sort
  echo "# addresses"; ip -o addr | awk '{print $2, $3, $4}' | sort
  # The kernel keeps an anycast route per network while it forwards, and
  # forwarding stays on: others may need it by then.
  echo "# routes"; { ip route show table all; ip -6 route show table all; } | grep -v ^anycast | awk '{print $1, $2, $3}' | sort -u
  echo "# policy"; { ip rule; ip -6 rule; }
  echo "# rules"; { iptables-save; ip6tables-save; } 2>/dev/null | grep -E '^(-A|:[^ ]+ -)' || true
  echo "# namespaces"; ls /run/netns 2>/dev/null || true
  echo "# cgroups"; find /sys/fs/cgroup -type d | grep -E 'pinnace|cri-containerd' | grep -v '/pinnace.service$' || true
  echo "# units"; systemctl list-units --all --plain --no-legend 'pinnace[-_]*' 'cri-containerd*' | awk '{print $1}'
  echo "# processes"; ps -eo args= | grep -E '^([^ ]*/)?(containerd|pause|pinnace)' || true
  echo "# run"; find /run/pinnace /run/containerd 2>/dev/null || true
}

# story: what helps to understand a failure, when there was one.
story() {
  [ -n "$failed" ] || return 0
  { pinnace status; journalctl -b -u pinnace --no-pager -n 60; tail -20 "$root/containerd/containerd.log"; } 2>&1 |
    sed 's/^/     | /' > "$tell"
}
