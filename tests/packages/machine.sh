# What the boot ROM, the loader and the kernel leave behind when init begins: file systems, device nodes, a command
# line. Runs as the first process of a board's namespaces and becomes its systemd. Called by machine.py with
#   SLOT-DEVICE ROOT-OPTIONS FILES
# FILES is a directory with: cmdline, boot_id; `devices`, a line "LABEL DEVICE" for each partition; `mounts`, a line
# "LABEL DIRECTORY OPTIONS" for each that /etc/fstab would name.
set -eu
device=$1 options=$2 files=$3
root=$files/root
mount --make-rprivate /
mount -o "$options" "$device" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
mkdir -p dev/pts dev/shm dev/disk/by-partlabel run/lock run/systemd/system/twinboot.service.d run/board
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t cgroup2 cgroup2 sys/fs/cgroup
ln -s pts/ptmx dev/ptmx
for node in null zero full random urandom tty; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
ln -s /proc/self/fd dev/fd
for stream in stdin:0 stdout:1 stderr:2; do
    ln -s "/proc/self/fd/${stream#*:}" "dev/${stream%:*}"
done
# There is no udev in here: the nodes and names that it would make.
while read -r label node; do
    mknod "dev/${node##*/}" b "$(stat -c 0x%t "$node")" "$(stat -c 0x%T "$node")"
    ln -s "../../${node##*/}" "dev/disk/by-partlabel/$label"
done <"$files/devices"
if [ "$options" = ro ]; then
    # What changes is in memory, and gone at the next boot (as with systemd.volatile=state).
    mount -t tmpfs -o mode=755 tmpfs var
    mkdir -p var/lib/twinboot
fi
while read -r label directory options; do
    mount -o "$options" "dev/disk/by-partlabel/$label" "./$directory"
done <"$files/mounts"
# A kernel tells each boot by a random id. Ours has not rebooted, so the board brings its own, and a service that has a
# /proc of its own (ProtectProc=) must be shown the same.
cp "$files/cmdline" "$files/boot_id" run/board/
mount --bind run/board/cmdline proc/cmdline
mount --bind run/board/boot_id proc/sys/kernel/random/boot_id
cat >run/systemd/system/twinboot.service.d/50-board.conf <<'UNIT'
[Service]
BindReadOnlyPaths=/run/board/cmdline:/proc/cmdline /run/board/boot_id:/proc/sys/kernel/random/boot_id
UNIT
: >dev/console
mount --bind "$files/console" dev/console
# What was the root lies under the new one until it is let go: no directory for it is needed in there.
pivot_root . .
umount -l .
cd /
# As it is on every machine that systemd boots: what it mounts for one service (credentials) must reach the others.
mount --make-rshared /
exec env -i container=board TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system systemd.show_status=no
