package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/redis/go-redis/v9"
)

// transportInterop follows the official contract of libp2p's transport interoperability tests.
func transportInterop() error {
	env := func(name, otherwise string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	transport := env("transport", "tcp")
	if muxer := env("muxer", "yamux"); transport != "quic-v1" && muxer != "yamux" {
		return fmt.Errorf("muxer=%q is not tested by this peer", muxer)
	}
	options, err := stack(transport, env("security", "noise"))
	if err != nil {
		return err
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
		h, err := libp2p.New(append(options,
			libp2p.ListenAddrStrings(listenAddr(transport, env("ip", "0.0.0.0"), "0")))...)
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
	h, err := libp2p.New(append(options, libp2p.NoListenAddrs)...)
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
