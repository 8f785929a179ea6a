# enter.sh ROOT RUST NOTE DIRECTORY COMMAND...: runs a command in the system below ROOT as if it were all there is.
#
# Run by `unshare --mount`: what is mounted here goes with the last process in here. The process ids stay the host's,
# because forkwatch sees the host's. No tracefs, no bpffs, no securityfs: a bare machine has none either.
set -eu
root=$1 rust=$2 note=$3 directory=$4
shift 4
readlink /proc/self/ns/mnt >"$note"

mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 dev "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "fd/${number%:*}" "$root/dev/${number#*:}"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t tmpfs -o mode=0755 run "$root/run"
mkdir -p "$root/opt/rust" "$root/host"
mount --bind -o ro "$rust" "$root/opt/rust"

# Not chroot: within one, nobody can make a user namespace, and some tests do.
pivot_root "$root" "$root/host"
cd /
umount --lazy /host
rmdir /host
cd "$directory"
exec env "$@"
