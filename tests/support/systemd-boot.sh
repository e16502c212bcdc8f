# Turns on a host whose disk systemd-host.sh has made. $1 name, $2 address, $3 its cgroup. Prints the pid of systemd.
set -e
name=$1 address=$2 group=$3 host=/run/nodes/$1
cd "$host/root"
mkdir "$group"

(
    echo 0 >"$group/cgroup.procs"
    exec setsid unshare --net --mount --uts --ipc --pid --cgroup --fork --kill-child --propagation private \
        sh run-init "$name" "$address"
) </dev/null >"$host/log" 2>&1 &
outer=$!
pid=
while [ -z "$pid" ]; do
    kill -0 "$outer" || { cat "$host/log" >&2; exit 1; }
    pid=$(cat "/proc/$outer/task/$outer/children")
done
echo $pid
