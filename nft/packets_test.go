package nft

import (
	"net"
	"testing"
)

// send sends n datagrams of one byte from a local address to 127.0.0.1, where nobody may be listening.
func send(t testing.TB, from string, n int) {
	t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP("127.0.0.1"), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range n {
		if _, err := c.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
}
