#!/usr/bin/env bash
# Installs, removes, installs again and purges a package in a fresh minimal Debian, and checks what each step leaves:
#
#	deploy/package/chroot.sh banset_VERSION_ARCH.deb [bookworm|trixie] [MIRROR]
#
# As root; needs debootstrap and util-linux. No service runs, and nothing of this machine is touched: the Debian is a
# directory that goes away, with a network namespace of its own.
set -euo pipefail

deb=$(realpath "$1") suite=${2:-bookworm} mirror=${3:-http://deb.debian.org/debian}
root=$(mktemp -d) && chmod 755 "$root"
trap 'rm -rf --one-file-system "$root"' EXIT
debootstrap --variant=minbase --include=systemd,nftables "$suite" "$root" "$mirror" >"$root.log" 2>&1 ||
	{ cat "$root.log"; exit 1; }
rm -f "$root.log"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service is started
chmod 755 "$root/usr/sbin/policy-rc.d"
cp "$deb" "$root/root/banset.deb"

cat >"$root/root/steps" <<'STEPS'
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
ok() { echo "ok: $1"; }
fail() { echo "FAILED: $1"; exit 1; }
table() { nft list table inet banset >/dev/null 2>&1; }
begin() { apt-get install -y /root/banset.deb >/root/log 2>&1 || { cat /root/log; fail install; }; }
find / -xdev -path /proc -prune -o -path /root -prune -o -print | sort >/root/before

begin
grep '^banset: ' /root/log
[ "$(id -nG banset)" = "banset adm systemd-journal" ] || fail "the user's groups: $(id banset)"
ok "the user is in adm and systemd-journal"
for unit in banset banset-restore; do
	[ "$(systemctl is-enabled $unit)" = enabled ] || fail "$unit is not enabled"
done
ok "both units are enabled"
[ -z "$(dpkg --verify banset)" ] || fail "$(dpkg --verify banset)"
banset check --short >/dev/null || fail "banset check"
ok "the configuration is right"
setpriv --reuid=banset --regid=banset --init-groups banset check --short >/dev/null || fail "banset check as the user"

banset ban 192.0.2.1 >/dev/null
table || fail "a ban made no table"
owners=$(stat -c %U /var/lib/banset /var/lib/banset/* | sort -u)
[ "$owners" = banset ] || fail "the state belongs to $owners"
ok "what root's commands make belongs to the daemon's user"

echo '# mine' >>/etc/banset/banset.yaml
begin
grep -q '# mine' /etc/banset/banset.yaml || fail "an upgrade lost an edit of the configuration"
ok "an upgrade keeps an edited configuration"

dpkg --remove banset >/root/log 2>&1 || { cat /root/log; fail remove; }
table && nft get element inet banset ban4 '{ 192.0.2.1 }' >/dev/null || fail "remove lifted the ban"
[ -s /var/lib/banset/blocklist ] || fail "remove took the blocklist"
ok "remove leaves the bans, the blocklist and the configuration"

begin
banset list | grep -q '^192.0.2.1 ' || fail "the ban is not known any more"
ok "installed again, it knows the bans"

# Purge finds a table of another name, too.
mkdir -p /etc/banset/conf.d
echo 'nftables: {table: mine}' >/etc/banset/conf.d/table.yaml
banset restore >/dev/null
dpkg --remove banset >/root/log 2>&1 || { cat /root/log; fail remove; }
rm /etc/banset/conf.d/table.yaml
nft list table inet mine >/dev/null || fail "remove took the other table"
dpkg --purge banset >/root/log 2>&1 || { cat /root/log; fail purge; }
[ -z "$(nft list tables)" ] || fail "purge left: $(nft list tables)"
ok "purge takes the table, whatever its name"
find / -xdev -path /proc -prune -o -path /root -prune -o -print | sort >/root/after
left=$(comm -13 /root/before /root/after | grep -v -E '^/var/(log|cache|lib/(dpkg|apt))/|^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|^/etc/\.pwd\.lock$' || true)
[ -z "$left" ] || fail "purge left: $left"
ok "purge leaves no file"
STEPS
unshare --mount --net --pid --fork --mount-proc="$root/proc" chroot "$root" sh /root/steps
