package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	perfID    = "/perf/1.0.0"
	perfBlock = 64 << 10
)

// perfLine is what the official contract prints, one a line.
type perfLine struct {
	Type          string  `json:"type"`
	TimeSeconds   float64 `json:"timeSeconds"`
	UploadBytes   uint64  `json:"uploadBytes"`
	DownloadBytes uint64  `json:"downloadBytes"`
	// of --handshakes
	Handshakes       int     `json:"handshakes,omitempty"`
	ConnectP50Millis float64 `json:"connectP50Millis,omitempty"`
}

func (l perfLine) print() { _ = json.NewEncoder(os.Stdout).Encode(l) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// perfServerKey is the same everywhere, so that clients know whom to expect.
func perfServerKey() (crypto.PrivKey, error) {
	key, _, err := crypto.GenerateEd25519Key(zeros{})
	return key, err
}

// perf follows the official contract of libp2p's perf programs:
//
//	--run-server --server-address HOST:PORT [--transport T] [--security S]
//	--server-address HOST:PORT --transport T --upload-bytes N --download-bytes N [--security S]
//	[--handshakes N]
//
// A server without --transport listens on TCP. The last option connects, waits for identify and closes, N
// times, one after another, and prints how long it took.
func perf(args []string) error {
	flags := flag.NewFlagSet("perf", flag.ContinueOnError)
	server := flags.Bool("run-server", false, "serve")
	address := flags.String("server-address", "", "HOST:PORT")
	transport := flags.String("transport", "tcp", "tcp, quic-v1 or ws")
	security := flags.String("security", "tls", "noise or tls")
	upload := flags.Uint64("upload-bytes", 0, "bytes to send")
	download := flags.Uint64("download-bytes", 0, "bytes to receive")
	handshakes := flags.Int("handshakes", 0, "connect and close so often")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ip, port, err := net.SplitHostPort(*address)
	if err != nil {
		return err
	}
	options, err := stack(*transport, *security)
	if err != nil {
		return err
	}
	listen := listenAddr(*transport, ip, port)
	key, err := perfServerKey()
	if err != nil {
		return err
	}
	if *server {
		return servePerf(append(options, libp2p.ListenAddrStrings(listen), libp2p.Identity(key)))
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	addr, err := ma.NewMultiaddr(listen)
	if err != nil {
		return err
	}
	return runPerf(append(options, libp2p.NoListenAddrs),
		peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{addr}}, *upload, *download, *handshakes)
}

func servePerf(options []libp2p.Option) error {
	h, err := libp2p.New(options...)
	if err != nil {
		return err
	}
	h.SetStreamHandler(perfID, func(s network.Stream) {
		var header [8]byte
		if _, err := io.ReadFull(s, header[:]); err != nil {
			_ = s.Reset()
			return
		}
		if _, err := receive(s, nil); err != nil {
			_ = s.Reset()
			return
		}
		if err := send(s, binary.BigEndian.Uint64(header[:]), nil); err != nil {
			_ = s.Reset()
			return
		}
		_ = s.CloseWrite()
	})
	for _, addr := range h.Addrs() {
		fmt.Printf("%s/p2p/%s\n", addr, h.ID())
	}
	select {} // until it is ended
}

func runPerf(options []libp2p.Option, server peer.AddrInfo, upload, download uint64, handshakes int) error {
	ctx := context.Background()
	h, err := libp2p.New(options...)
	if err != nil {
		return err
	}
	defer h.Close()
	start := time.Now()
	if handshakes > 0 {
		return shakeHands(ctx, h, server, handshakes)
	}
	if err := h.Connect(ctx, server); err != nil {
		return err
	}
	s, err := h.NewStream(ctx, server.ID, perfID)
	if err != nil {
		return err
	}
	var header [8]byte
	binary.BigEndian.PutUint64(header[:], download)
	if _, err := s.Write(header[:]); err != nil {
		return err
	}
	if err := send(s, upload, &meter{since: time.Now(), upload: true}); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	received, err := receive(s, &meter{since: time.Now()})
	if err != nil {
		return err
	}
	if received != download {
		return fmt.Errorf("%d of %d bytes came", received, download)
	}
	perfLine{
		Type: "final", TimeSeconds: time.Since(start).Seconds(), UploadBytes: upload, DownloadBytes: download,
	}.print()
	return nil
}

// shakeHands connects, waits for identify and closes, count times.
func shakeHands(ctx context.Context, h host.Host, server peer.AddrInfo, count int) error {
	var connects []float64
	h.Peerstore().AddAddrs(server.ID, server.Addrs, peerstore.PermanentAddrTTL)
	start := time.Now()
	for range count {
		dialled := time.Now()
		if _, err := h.Network().DialPeer(ctx, server.ID); err != nil {
			return err
		}
		connects = append(connects, float64(time.Since(dialled).Microseconds())/1000)
		if err := h.Connect(ctx, server); err != nil { // waits for identify
			return err
		}
		if err := h.Network().ClosePeer(server.ID); err != nil {
			return err
		}
	}
	line := perfLine{Type: "final", TimeSeconds: time.Since(start).Seconds(), Handshakes: count}
	slices.Sort(connects)
	line.ConnectP50Millis = connects[count/2]
	line.print()
	return nil
}

// meter prints a line for every second; a nil one does not.
type meter struct {
	since  time.Time
	upload bool
	bytes  uint64
}

func (m *meter) add(n int) {
	if m == nil {
		return
	}
	m.bytes += uint64(n)
	now := time.Now()
	elapsed := now.Sub(m.since)
	if elapsed < time.Second {
		return
	}
	line := perfLine{Type: "intermediary", TimeSeconds: elapsed.Seconds(), DownloadBytes: m.bytes}
	if m.upload {
		line.UploadBytes, line.DownloadBytes = m.bytes, 0
	}
	line.print()
	m.since, m.bytes = now, 0
}

func send(s io.Writer, left uint64, m *meter) error {
	block := make([]byte, perfBlock)
	for left > 0 {
		n, err := s.Write(block[:min(left, perfBlock)])
		if err != nil {
			return err
		}
		left -= uint64(n)
		m.add(n)
	}
	return nil
}

func receive(s io.Reader, m *meter) (uint64, error) {
	block := make([]byte, perfBlock)
	var received uint64
	for {
		n, err := s.Read(block)
		received += uint64(n)
		m.add(n)
		if err == io.EOF {
			return received, nil
		}
		if err != nil {
			return received, err
		}
	}
}
