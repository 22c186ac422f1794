// Package main is the go-libp2p peer of the interoperability tests and of the benchmark. Its first
// argument is a role:
//
//	transport-interop        the official transport contract, from environment variables
//	perf ...                 the official perf contract, from arguments (perf.go)
//	relay                    a circuit relay v2 on loopback; prints its address
//	listen RELAY             reserves at RELAY, serves echo and ping; prints its circuit address
//	dial ADDR BYTES          connects, echoes BYTES bytes, pings; prints one JSON object
//
// A role that serves ends when its standard input does, the contracts' servers when they are ended.
package main

import (
	"fmt"
	"os"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "go peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("a role is needed")
	}
	switch args[0] {
	case "transport-interop":
		return transportInterop()
	case "perf":
		return perf(args[1:])
	case "relay":
		return serveRelay()
	case "listen":
		if len(args) == 2 {
			return serveListener(args[1])
		}
	case "dial":
		if len(args) == 3 {
			return dial(args[1], args[2])
		}
	}
	return fmt.Errorf("wrong arguments: %v", args)
}

// stack is what a host of one transport and one security protocol is made of.
func stack(transport, security string) ([]libp2p.Option, error) {
	options := []libp2p.Option{
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.UserAgent("go-libp2p-interop"),
	}
	switch transport {
	case "tcp":
		options = append(options, libp2p.Transport(tcp.NewTCPTransport))
	case "ws":
		options = append(options, libp2p.Transport(websocket.New))
	case "quic-v1":
		return append(options, libp2p.Transport(libp2pquic.NewTransport)), nil
	default:
		return nil, fmt.Errorf("transport=%q is not tested by this peer", transport)
	}
	switch security {
	case "noise":
		options = append(options, libp2p.Security(noise.ID, noise.New))
	case "tls":
		options = append(options, libp2p.Security(libp2ptls.ID, libp2ptls.New))
	default:
		return nil, fmt.Errorf("security=%q is not tested by this peer", security)
	}
	return append(options, libp2p.Muxer(yamux.ID, yamux.DefaultTransport)), nil
}

// listenAddr is the multiaddr of a transport at an address and a port.
func listenAddr(transport, ip, port string) string {
	switch transport {
	case "ws":
		return fmt.Sprintf("/ip4/%s/tcp/%s/ws", ip, port)
	case "quic-v1":
		return fmt.Sprintf("/ip4/%s/udp/%s/quic-v1", ip, port)
	}
	return fmt.Sprintf("/ip4/%s/tcp/%s", ip, port)
}
