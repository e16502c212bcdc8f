# The disk of a host that systemd will start: runs in the namespaces of a lab. $1 name, $2 units to enable.
# What is below /run/nodes/NAME/upper lies over the machine's files.
set -e
name=$1 units=$2 host=/run/nodes/$1
mkdir "$host/work" "$host/root"
mount -t overlay -o "lowerdir=/,upperdir=$host/upper,workdir=$host/work" host "$host/root"
cd "$host/root"

# What an administrator or a flannel of the machine keeps is not on this host: neither files in these directories, nor the directories
# that no package brings.
for path in /etc/cni/* /etc/default/* /etc/docker/* /etc/systemd/system/* /etc/flannel /etc/kubernetes /opt/cni /var/lib/cni \
    /var/lib/flannel /var/lib/kubelet; do
    [ -e "$host/upper$path" ] || rm -rf "$host/root$path"
done
for dir in /etc/flannel /etc/kubernetes /opt/cni /var/lib/cni /var/lib/flannel /var/lib/kubelet; do
    for path in "$host/root$dir"/*; do
        [ -e "$host/upper${path#"$host/root"}" ] || rm -rf "$path"
    done
done
# Nothing of the machine's own services but what is asked for; no hardware; no sysctl, for most of them count for the whole
# machine.
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires
for unit in docker.socket containerd.service etcd.service getty.target systemd-logind.service \
    systemd-pstore.service systemd-timesyncd.service systemd-networkd.service \
    systemd-resolved.service systemd-modules-load.service systemd-remount-fs.service \
    systemd-sysctl.service systemd-udevd.service systemd-udevd-control.socket \
    systemd-udevd-kernel.socket systemd-udev-trigger.service modprobe@.service \
    kmod-static-nodes.service proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount; do
    case " $units " in
    *" $unit "*) ;;
    *) ln -sf /dev/null "etc/systemd/system/$unit" ;;
    esac
done
# shellcheck disable=SC2086
[ -z "$units" ] || systemctl --root=. --quiet enable $units
: >etc/fstab
# An installed package would have the index of all manual pages of the machine written again.
rm -f var/lib/man-db/auto-update
echo "$name" >etc/hostname
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id

cat >run-init <<'INIT'
set -e
name=$1 address=$2 root=/run/nodes/$1/root
hostname "$name"
ip -batch - <<END
link set lo up
link add eth0 type veth peer name v-$name netns switch
addr add $address/16 dev eth0
link set eth0 up
route add default via ${address%.*.*}.255.254
END
ip -n switch link set "v-$name" master br0 up

mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
# Layers of images cannot lie on the overlay that the host's own root is.
for dir in var/lib/docker var/lib/containerd; do
    mkdir -p "$dir"
    mount -t tmpfs -o mode=711 "${dir##*/}" "$dir"
done
mkdir run/old
pivot_root . run/old
cd /
umount -l /run/old
rmdir /run/old
exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target --log-target=journal
INIT
