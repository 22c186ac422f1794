local core = require "peerup.core"

local multiaddr = core.multiaddr

local RELAY = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
local PEER = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"

describe("core.multiaddr.parse", function()
  it("gives canonical text", function()
    assert.equal("/ip4/1.2.3.4/tcp/80", multiaddr.parse("/ip4/1.2.3.4/tcp/80"))
    assert.equal("/ip6/::1/tcp/80", multiaddr.parse("/ip6/0:0:0:0:0:0:0:1/tcp/80"))
  end)

  it("says which part is wrong", function()
    local address, err = multiaddr.parse("/ip4/1.2.3/tcp/80")
    assert.is_nil(address)
    assert.equal("malformed", err.code)
    assert.matches("1.2.3", tostring(err), 1, true)
    for _, bad in ipairs { "", "ip4", "/ip4", "/tcp/70000", "/what/ever", "/tcp/80\0" } do
      assert.is_nil((multiaddr.parse(bad)), bad)
    end
  end)
end)

describe("core.multiaddr.inspect", function()
  it("takes a TCP address apart", function()
    assert.same({
      kind = "tcp", text = "/ip4/93.184.216.34/tcp/4001/p2p/" .. PEER, host = "93.184.216.34",
      port = 4001, peer = PEER, is_public = true, is_private = false, is_loopback = false,
      components = { { "ip4", "93.184.216.34" }, { "tcp", "4001" }, { "p2p", PEER } },
    }, multiaddr.inspect("/ip4/93.184.216.34/tcp/4001/p2p/" .. PEER))
  end)

  it("takes a circuit apart", function()
    local relay = "/ip4/10.0.0.1/tcp/4001/p2p/" .. RELAY
    local got = multiaddr.inspect(relay .. "/p2p-circuit/p2p/" .. PEER)
    assert.equal("circuit", got.kind)
    assert.equal(RELAY, got.relay)
    assert.equal(relay, got.relay_addr)
    assert.equal(PEER, got.peer)
    assert.same({ "p2p-circuit" }, got.components[4])
  end)

  it("knows names, other kinds and classes", function()
    local got = multiaddr.inspect("/dns4/relay.example.org/tcp/443")
    assert.equal("tcp", got.kind)
    assert.equal("relay.example.org", got.host)
    assert.equal(443, got.port)
    assert.is_nil(got.peer)
    assert.equal("quic", multiaddr.inspect("/ip4/1.2.3.4/udp/9/quic-v1").kind)
    assert.is_true(multiaddr.inspect("/ip4/127.0.0.1/tcp/1").is_loopback)
    assert.is_true(multiaddr.inspect("/ip4/192.168.1.1/tcp/1").is_private)
    assert.equal("other", multiaddr.inspect("/ip4/1.2.3.4").kind)
  end)

  it("refuses what is no address", function()
    local got, err = multiaddr.inspect("home")
    assert.is_nil(got)
    assert.is_string(err.code)
  end)
end)
