--- The ways to a relay that is known by one address, and the words for a transport.
local core = require "peerup.core"
local net = require "peerup.net"
local relays = require "peerup.relays"

local PEER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"

local function at(text) return text .. "/p2p/" .. PEER end

describe("the ways to a relay", function()
  it("are the known address, and the other transports at its port", function()
    local tcp, quic, ws = at "/ip4/192.0.2.7/tcp/7777", at "/ip4/192.0.2.7/udp/7777/quic-v1",
      at "/ip4/192.0.2.7/tcp/7777/ws"
    assert.same({ tcp, quic, ws }, relays.ways(tcp))
    assert.same({ quic, tcp, ws }, relays.ways(quic))
    assert.same({ ws, quic, tcp }, relays.ways(ws))
  end)

  it("are addresses, whatever names the host", function()
    for _, host in ipairs { "/ip6/2001:db8::1", "/dns4/relay.example", "/dns/relay.example" } do
      local ways = relays.ways(at(host .. "/tcp/443"))
      assert.equal(3, #ways)
      for _, way in ipairs(ways) do
        assert.equal(way, core.multiaddr.parse(way))
        assert.equal(PEER, core.multiaddr.inspect(way).peer)
      end
    end
  end)

  it("are not guessed where a web server stands in front, or for other addresses", function()
    for _, addr in ipairs { at "/dns4/relay.example/tcp/443/tls/ws",
      at "/ip4/192.0.2.7/tcp/80/ws/http-path/peer", at "/dnsaddr/relay.example",
      "/ip4/192.0.2.7/tcp/7777" } do
      assert.same({ addr }, relays.ways(addr))
    end
  end)

  it("hold the one for an invite code", function()
    local tcp = at "/ip4/192.0.2.7/tcp/7777"
    for _, way in ipairs(relays.ways(tcp)) do assert.equal(tcp, relays.plain_tcp(way)) end
    assert.is_nil(relays.plain_tcp(at "/dns4/relay.example/tcp/443/tls/ws"))
  end)
end)

describe("the transport that an address names", function()
  it("is found", function()
    for addr, transport in pairs {
      ["/ip4/127.0.0.1/udp/1/quic-v1"] = "quic-v1",
      ["/ip4/127.0.0.1/tcp/1"] = "tcp",
      ["/ip4/127.0.0.1/tcp/1/ws"] = "ws",
      ["/dns4/a.example/tcp/443/tls/ws/certhash/uEiA"] = "wss",
      ["/dns4/a.example/tcp/443/tls/sni/b.example/ws"] = "wss",
      ["/dns4/a.example/tcp/443/wss"] = "wss",
    } do assert.equal(transport, net.transport(addr)) end
    assert.is_nil(net.transport "/ip4/127.0.0.1/udp/1")
  end)

  it("is the relay's of an address through a relay", function()
    local tail = "/p2p-circuit/p2p/" .. PEER
    assert.equal("ws", net.transport(at "/ip4/127.0.0.1/tcp/1/ws" .. tail))
    assert.equal("quic-v1", net.transport(at "/ip4/127.0.0.1/udp/1/quic-v1" .. tail))
    assert.equal("tcp", net.transport(at "/ip4/127.0.0.1/tcp/1" .. tail))
    assert.is_nil(net.transport("/p2p/" .. PEER .. "/p2p-circuit"))
  end)
end)
