package main

import (
	"errors"
	"time"
)

// quickInstall has the package installed, somebody banned for an attack and somebody by hand, on IPv4 and IPv6, unless
// a section before did that.
func (v *visit) quickInstall() {
	if v.installed {
		return
	}
	v.check("dpkg -i banset.deb", func() (string, error) {
		v.installed = true
		return "", v.run("dpkg -i /root/deb/old.deb")
	})
	v.check("Exim attacked", func() (string, error) { return v.attackSMTP(mailAttacker) })
	v.check("banset ban", func() (string, error) {
		v.banned = append(v.banned, byHand, sshAttacker6)
		return "", errors.Join(v.run("banset ban "+byHand+" "+sshAttacker6+" --for 7d"), v.holds())
	})
}

// containers is what Docker does on a host: a bridge, a container that listens on port 80 behind it, published as port
// 8080, and the rules that it makes of that with iptables.
const containers = `cat >/usr/local/sbin/containers <<'EOF'
#!/bin/sh
set -e
case $1 in
container)
	exec ip netns exec c1 python3 -c '
import socketserver
class Hello(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(b"hello\n")
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", 80), Hello).serve_forever()'
	;;
network)
	sysctl -qw net.ipv4.ip_forward=1
	ip netns add c1
	ip link add docker0 type bridge
	ip link add veth1 type veth peer name eth0 netns c1
	ip link set veth1 master docker0 up
	ip addr add 192.0.2.129/25 dev docker0
	ip link set docker0 up
	ip -n c1 link set lo up
	ip -n c1 addr add 192.0.2.130/25 dev eth0
	ip -n c1 link set eth0 up
	ip -n c1 route add default via 192.0.2.129
	;;
rules)
	clear() { # table chain...
		table=$1; shift
		for chain; do iptables -t $table -N $chain 2>/dev/null || iptables -t $table -F $chain; done
	}
	once() { # table chain rule...
		table=$1 chain=$2; shift 2
		iptables -t $table -C $chain "$@" 2>/dev/null || iptables -t $table -A $chain "$@"
	}
	clear nat DOCKER
	once nat PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
	once nat OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
	once nat POSTROUTING -s 192.0.2.128/25 ! -o docker0 -j MASQUERADE
	once nat DOCKER -i docker0 -j RETURN
	once nat DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 192.0.2.130:80
	clear filter DOCKER DOCKER-USER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2
	iptables -P FORWARD DROP
	once filter FORWARD -j DOCKER-USER
	once filter FORWARD -j DOCKER-ISOLATION-STAGE-1
	once filter FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	once filter FORWARD -o docker0 -j DOCKER
	once filter FORWARD -i docker0 ! -o docker0 -j ACCEPT
	once filter FORWARD -i docker0 -o docker0 -j ACCEPT
	once filter DOCKER-USER -j RETURN
	once filter DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
	once filter DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
	once filter DOCKER -d 192.0.2.130/32 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT
	;;
esac
EOF
chmod 755 /usr/local/sbin/containers
cat >/etc/systemd/system/containers.service <<'EOF'
[Unit]
After=network-online.target
Wants=network-online.target
[Service]
ExecStartPre=/usr/local/sbin/containers network
ExecStartPre=/usr/local/sbin/containers rules
ExecStart=/usr/local/sbin/containers container
[Install]
WantedBy=multi-user.target
EOF
systemctl daemon-reload
systemctl enable --now containers.service`

// docker is a host whose ports are forwarded to containers. Docker itself is too big for an emulated machine: its rules
// are what matters.
func docker(v *visit) {
	published := port{"8080", "hello"}
	v.check("a container with a published port", func() (string, error) {
		return "", errors.Join(v.run(containers), v.until(time.Minute, "ip netns exec c1 ss -tln | grep :80"), welcome(friend, published))
	})
	v.forwarded = []port{published}
	v.quickInstall()
	v.check("the container's own connections", func() (string, error) {
		return "", v.run(`ip netns exec c1 timeout 10 bash -c 'exec 4<>/dev/tcp/` + byHand + `/2222; read -r word <&4; [ "$word" = hello ]'`)
	})
	v.tight("its rules made anew", func() error { return v.run("containers rules") })
	v.tight("iptables-restore of all rules", func() error { return v.run("iptables-save >/root/rules; iptables-restore </root/rules") })
	v.healed("nft flush ruleset", func() error { return v.run("nft flush ruleset; containers rules") })
	v.tight("reboot, from the first packet", func() error { return errors.Join(v.reboot(), v.up()) })
	v.forwarded = nil
	v.tight("its rules gone", func() error {
		return v.run(`set -e
			systemctl disable --now containers
			ip netns del c1
			ip link del docker0
			iptables -P FORWARD ACCEPT
			for t in filter nat; do iptables -t $t -F; iptables -t $t -X; done`)
	})
}

// ufw is a host with Ubuntu's firewall.
func ufw(v *visit) {
	v.check("ufw enable", func() (string, error) {
		return "", v.run("ufw allow 22/tcp && ufw allow 25/tcp && ufw --force enable && systemctl enable ufw")
	})
	v.quickInstall()
	v.check("bans beside it", func() (string, error) { return "", v.holds() })
	v.tight("ufw reload", func() error { return v.run("ufw reload") })
	v.tight("ufw disable, ufw enable", func() error { return v.run("ufw disable && ufw --force enable") })
	v.tight("reboot, from the first packet", func() error {
		return errors.Join(v.reboot(), v.up(), v.run("ufw status | grep -w active"))
	})
	v.tight("ufw --force reset", func() error { return v.run("ufw --force reset") })
}

// firewalld is a host with Red Hat's firewall.
func firewalld(v *visit) {
	v.check("systemctl enable --now firewalld", func() (string, error) {
		return "", v.run(`systemctl enable --now firewalld && firewall-cmd --permanent --add-service=ssh --add-service=smtp &&
			firewall-cmd --reload`)
	})
	v.quickInstall()
	v.check("bans beside it", func() (string, error) { return "", v.holds() })
	v.tight("firewall-cmd --reload", func() error { return v.run("firewall-cmd --reload") })
	v.tight("firewall-cmd --complete-reload", func() error { return v.run("firewall-cmd --complete-reload") })
	v.tight("systemctl restart firewalld", func() error { return v.run("systemctl restart firewalld") })
	v.tight("reboot, from the first packet", func() error {
		return errors.Join(v.reboot(), v.up(), v.run("firewall-cmd --state"))
	})
	v.tight("systemctl disable --now firewalld", func() error { return v.run("systemctl disable --now firewalld") })
}
