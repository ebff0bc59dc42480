#!/bin/sh
# image.sh SUITE MIRROR DIR GUEST makes a Debian that boots in qemu: DIR/disk (ext4), DIR/vmlinuz, DIR/initrd.
# GUEST is a directory of files that are put over the installed system. Nothing is mounted but in namespaces of its own,
# nothing is started, and what packages do when they are installed happens without a network.
set -eu
suite=$1 mirror=$2 dir=$3 guest=$4
root=$dir/root
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin

# What an administrator has on such a host, and no more: ifupdown is Debian's own, rsyslog is not there any more.
packages="linux-image-amd64 initramfs-tools systemd-sysv dbus udev kmod procps iproute2 iputils-ping ifupdown
	openssh-server exim4-daemon-heavy nftables iptables ufw firewalld python3 cron logrotate"

# A systemd timer of a guest under emulation costs minutes; documentation and translations cost space.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d" "$root/etc/apt/apt.conf.d" "$root/etc/initramfs-tools/conf.d" \
	"$root/usr/share/initramfs-tools/modules.d" "$root/usr/sbin"
cat >"$root/etc/dpkg/dpkg.cfg.d/test" <<EOF
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
EOF
echo 'APT::Install-Recommends "no"; Acquire::Languages "none"; Acquire::Retries "3";' >"$root/etc/apt/apt.conf.d/test"

debootstrap --variant=minbase "$suite" "$root" "$mirror"

printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# The disk that qemu gives it is all that the initrd has to find.
echo 'MODULES=list' >"$root/etc/initramfs-tools/conf.d/test"
printf 'virtio_pci\nvirtio_blk\next4\n' >"$root/usr/share/initramfs-tools/modules.d/test"
cp /etc/resolv.conf "$root/etc/resolv.conf"

chroot "$root" apt-get -qq update
# shellcheck disable=SC2086
chroot "$root" apt-get -qq install --download-only $packages
# shellcheck disable=SC2086
unshare --mount --pid --fork --net sh -c '
	root=$1; shift
	mount -t proc proc "$root/proc"
	chroot "$root" apt-get -qq install "$@"' sh "$root" $packages
chroot "$root" apt-get clean

cp -R "$guest/." "$root/"
unshare --mount --pid --fork --net sh -c '
	mount -t proc proc "$1/proc"
	chroot "$1" sh -eu /root/setup' sh "$root"
rm -rf "$root/usr/sbin/policy-rc.d" "$root/root/setup" "$root"/var/lib/apt/lists/*
: >"$root/etc/resolv.conf"

cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"
cp "$root"/boot/initrd.img-* "$dir/initrd"
truncate -s 4G "$dir/disk.new"
mke2fs -q -t ext4 -E lazy_itable_init=1 -d "$root" "$dir/disk.new"
rm -rf "$root"
mv "$dir/disk.new" "$dir/disk"
