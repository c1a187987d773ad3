# The first process of a node's namespaces, see node_keeper.py: its mounts, its network, and then nothing but waiting.
# $1 is the node's directory, which is /run/node inside; NODE, ADDRESS and MORE are filled in.
mount --make-rprivate /
for place in /run /var/log /var/lib/cni; do
    mkdir -p "$place"
    mount -t tmpfs -o mode=755 tmpfs "$place"
done
mkdir -p /run/node /run/netns
mount --bind "$1" /run/node
mount --bind /run/node/etc/hosts /etc/hosts
mount --bind /run/node/etc/resolv.conf /etc/resolv.conf
mount --bind /run/node/nodes /sys/devices/system/node
mount --make-rshared /
ip link set lo up
ip link add node0 type veth peer name node0p
ip link set node0p up
for address in @ADDRESSES@; do ip address add "$address/24" dev node0; done
ip link set node0 up
ip route add default dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
for mount in @MOUNTS@; do
    mkdir -p "/run/node/containerd/$mount"
    mount --bind "@STORE@/$mount" "/run/node/containerd/$mount"
    mount -o remount,ro,bind "/run/node/containerd/$mount"
done
touch /run/node/ready
# Whoever is left without a parent becomes a child of this process: the kernel reaps children of one that ignores them.
trap '' CHLD
exec sleep infinity
