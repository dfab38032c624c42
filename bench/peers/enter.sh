#!/bin/sh
# enter.sh PACKAGES LAYER COMMAND...: run a command on a file system of its own: the machine's
# root with two directories laid over it, and what is written in memory. To be called by
#   unshare --mount --pid --fork --kill-child --propagation private
# so that nothing it starts, writes or mounts outlives it or is seen outside.
set -eu
packages=$1
layer=$2
shift 2
mount -t tmpfs bench /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
for directory in "$packages" "$layer"; do
	tar -C "$directory" -c . | tar -C /mnt/root -x --keep-directory-symlink
done
cd /mnt/root
mount -t proc proc proc
mount --rbind /sys sys
mount -t tmpfs run run
mount -t tmpfs log var/log
mount -t tmpfs dev dev
for node in null zero full random urandom tty; do
	: > "dev/$node"
	mount --bind "/dev/$node" "dev/$node"
done
ln -s /proc/self/fd dev/fd
sed -i "s/^hosts:.*/hosts: files/" etc/nsswitch.conf # no resolver is in reach
exec chroot /mnt/root "$@"
