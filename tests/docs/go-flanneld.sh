#!/bin/sh
# Leaves on this host and in etcd what a Go flanneld leaves there: device, entries, files, lease. Then it waits.
set -e
net=172.30

subnet() {
    echo "$net.${1##*.}.0"
}

mac() {
    printf '0a:00:00:00:00:%02x' "${1##*.}"
}

while read -r name address; do
    if [ "$name" = "@NAME@" ]; then
        self=$address
        continue
    fi
    peers="$peers $address"
done <<PEERS
@PEERS@
PEERS

ip link show flannel.1 >/dev/null 2>&1 ||
    ip link add flannel.1 mtu 1450 address "$(mac "$self")" type vxlan id 1 local "$self" dev eth0 nolearning dstport 8472
ip addr replace "$(subnet "$self")/32" dev flannel.1
ip link set flannel.1 up
for peer in $peers; do
    ip neigh replace "$(subnet "$peer")" lladdr "$(mac "$peer")" dev flannel.1 nud permanent
    bridge fdb replace "$(mac "$peer")" dev flannel.1 dst "$peer"
    ip route replace "$(subnet "$peer")/24" via "$(subnet "$peer")" dev flannel.1 onlink
done

mkdir -p /run/flannel
cat >/run/flannel/subnet.env <<ENV
FLANNEL_NETWORK=$net.0.0/16
FLANNEL_SUBNET=$net.${self##*.}.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
ENV

key=/kubernetes/network/subnets/$(subnet "$self")-24
if [ -z "$(@ETCDCTL@ get --keys-only "$key")" ]; then
    lease=$(@ETCDCTL@ lease grant 86400 | cut -d' ' -f2)
    @ETCDCTL@ put --lease="$lease" "$key" \
        "{\"PublicIP\":\"$self\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\",\"BackendData\":{\"VNI\":1,\"VtepMAC\":\"$(mac "$self")\"}}"
fi

systemd-notify --ready
exec sleep infinity
