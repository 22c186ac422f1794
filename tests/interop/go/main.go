// Package main is the go-libp2p peer of the interoperability tests. Its first argument is a role:
//
//	transport-interop        the official transport contract, from environment variables
//	relay                    a circuit relay v2 on loopback; prints its address
//	listen RELAY             reserves at RELAY, serves echo and ping; prints its circuit address
//	dial ADDR BYTES          connects, echoes BYTES bytes, pings; prints one JSON object
//
// A role that serves ends when its standard input does.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/redis/go-redis/v9"
)

const echoID = "/peerup-interop/echo/1.0.0"

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

func newHost(listen string) (host.Host, error) {
	listenOption := libp2p.NoListenAddrs
	if listen != "" {
		listenOption = libp2p.ListenAddrStrings(listen)
	}
	return libp2p.New(
		listenOption,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.EnableRelay(),
		libp2p.ForceReachabilityPublic(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.UserAgent("go-libp2p-interop"),
	)
}

func waitForEnd() { _, _ = io.Copy(io.Discard, os.Stdin) }

func serveRelay() error {
	h, err := newHost("/ip4/127.0.0.1/tcp/0")
	if err != nil {
		return err
	}
	defer h.Close()
	resources := relay.DefaultResources()
	resources.Limit = &relay.RelayLimit{Duration: 2 * time.Minute, Data: 64 << 20}
	if _, err = relay.New(h, relay.WithResources(resources)); err != nil {
		return err
	}
	fmt.Printf("%s/p2p/%s\n", h.Addrs()[0], h.ID())
	waitForEnd()
	return nil
}

func addrInfo(text string) (*peer.AddrInfo, error) {
	addr, err := ma.NewMultiaddr(text)
	if err != nil {
		return nil, err
	}
	return peer.AddrInfoFromP2pAddr(addr)
}

func echo(s network.Stream) {
	if _, err := io.Copy(s, s); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.CloseWrite()
}

func serveListener(relayAddr string) error {
	h, err := newHost("")
	if err != nil {
		return err
	}
	defer h.Close()
	h.SetStreamHandler(echoID, echo)
	info, err := addrInfo(relayAddr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err = h.Connect(ctx, *info); err != nil {
		return err
	}
	reservation, err := client.Reserve(ctx, h, *info)
	if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	if time.Until(reservation.Expiration) <= 0 {
		return fmt.Errorf("reservation is expired: %v", reservation.Expiration)
	}
	if reservation.Voucher == nil {
		return fmt.Errorf("reservation without a voucher")
	}
	fmt.Printf("%s/p2p-circuit/p2p/%s\n", relayAddr, h.ID())
	waitForEnd()
	return nil
}

func dial(addr, bytesText string) error {
	n, err := strconv.ParseInt(bytesText, 10, 64)
	if err != nil {
		return err
	}
	h, err := newHost("")
	if err != nil {
		return err
	}
	defer h.Close()
	info, err := addrInfo(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	ctx = network.WithAllowLimitedConn(ctx, "interop")
	if err = h.Connect(ctx, *info); err != nil {
		return err
	}
	s, err := h.NewStream(ctx, info.ID, echoID)
	if err != nil {
		return err
	}
	sent, got := sha256.New(), sha256.New()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, io.TeeReader(io.LimitReader(rand.Reader, n), sent))
		if err == nil {
			err = s.CloseWrite()
		}
		done <- err
	}()
	received, err := io.Copy(got, s)
	if err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	if err = <-done; err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if received != n || hex.EncodeToString(sent.Sum(nil)) != hex.EncodeToString(got.Sum(nil)) {
		return fmt.Errorf("echo differs: %d of %d bytes came back", received, n)
	}
	result := <-ping.Ping(ctx, h, info.ID)
	if result.Error != nil {
		return fmt.Errorf("ping: %w", result.Error)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"bytes": received, "ping_ms": float64(result.RTT.Microseconds()) / 1000,
		"addr": h.Network().ConnsToPeer(info.ID)[0].RemoteMultiaddr().String(),
	})
}

// transportInterop follows the official contract of libp2p's transport interoperability tests.
func transportInterop() error {
	env := func(name, otherwise string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	for name, want := range map[string]string{"transport": "tcp", "security": "noise", "muxer": "yamux"} {
		if got := os.Getenv(name); got != want {
			return fmt.Errorf("%s=%q is not tested by this peer", name, got)
		}
	}
	seconds, err := strconv.Atoi(env("test_timeout_seconds", "180"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	defer cancel()
	store := redis.NewClient(&redis.Options{Addr: env("redis_addr", "redis:6379")})
	defer store.Close()

	if os.Getenv("is_dialer") != "true" {
		h, err := newHost(fmt.Sprintf("/ip4/%s/tcp/0", env("ip", "0.0.0.0")))
		if err != nil {
			return err
		}
		defer h.Close()
		addr := fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())
		if err = store.RPush(ctx, "listenerAddr", addr).Err(); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	h, err := newHost("")
	if err != nil {
		return err
	}
	defer h.Close()
	found, err := store.BLPop(ctx, time.Duration(seconds)*time.Second, "listenerAddr").Result()
	if err != nil {
		return err
	}
	info, err := addrInfo(found[1])
	if err != nil {
		return err
	}
	start := time.Now()
	if err = h.Connect(ctx, *info); err != nil {
		return err
	}
	result := <-ping.Ping(ctx, h, info.ID)
	if result.Error != nil {
		return result.Error
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"handshakePlusOneRTTMillis": float64(time.Since(start).Microseconds()) / 1000,
		"pingRTTMilllis":            float64(result.RTT.Microseconds()) / 1000,
	})
}
