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
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

const echoID = "/peerup-interop/echo/1.0.0"

func newHost(listen string) (host.Host, error) {
	options, err := stack("tcp", "noise")
	if err != nil {
		return nil, err
	}
	if listen != "" {
		options = append(options, libp2p.ListenAddrStrings(listen))
	} else {
		options = append(options, libp2p.NoListenAddrs)
	}
	return libp2p.New(append(options, libp2p.EnableRelay(), libp2p.ForceReachabilityPublic())...)
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
