package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local commands = require "commands"
local reach = require "peerup.reach"

local NULL = require("cjson").null -- as it comes out of an answer
local LAPTOP, RELAY = commands.PEERS[1], commands.RELAY
local config = { relay = { addresses = { RELAY } }, names = { laptop = LAPTOP } }

local function answers(fields)
  return { status = { peer_id = commands.PEERS[2], uptime_seconds = 3720,
    listen_addresses = fields.listen or NULL, relay_addresses = fields.relayed or NULL,
    dialling = { udp_blocked = fields.blocked or false } }, paths = fields.paths or {} }
end

describe("reach", function()
  it("says no without a daemon, and what to run", function()
    local verdict, _, advice = reach.verdict(nil, config)
    assert.matches("^no: no daemon runs", verdict)
    assert.equal("peerup daemon", advice)
  end)

  it("says yes through a relay, and how", function()
    local verdict, ways, advice = reach.verdict(answers { relayed = { RELAY .. "/p2p-circuit" } },
      config)
    assert.matches("^yes", verdict)
    assert.equal("through the relay /ip4/203.0.113.50/tcp/7777", ways[1])
    assert.is_nil(advice)
  end)

  it("says yes by a public address", function()
    local verdict, ways = reach.verdict(answers { listen = { "/ip4/10.0.0.2/tcp/1",
      "/ip4/198.51.99.7/tcp/1" } }, config)
    assert.matches("^yes", verdict)
    assert.equal("NOT through the relay /ip4/203.0.113.50/tcp/7777", ways[1])
    assert.matches("^directly, if no firewall is in between: /ip4/198.51.99.7/tcp/1$", ways[2])
  end)

  it("says who has to do what when nothing leads here", function()
    local verdict, _, advice = reach.verdict(answers { listen = { "/ip4/10.0.0.2/tcp/1" } }, config)
    assert.matches("^only from its own network: no relay", verdict)
    assert.equal("peerup relay authorize " .. commands.PEERS[2], advice)
    verdict, _, advice = reach.verdict(answers { blocked = true },
      { relay = { addresses = {} }, names = {} })
    assert.matches("no relay is configured", verdict)
    assert.equal("peerup relay add <address>", advice)
  end)

  it("names who is connected", function()
    assert.same({ "laptop               [DIRECT] over quic, 1.5 ms",
      "the relay            [DIRECT] over tcp" }, reach.connected(answers { paths = {
        { peer_id = LAPTOP, path_type = "DIRECT", transport = "quic", last_rtt_ms = 1.54 },
        { peer_id = commands.PEERS[3], path_type = "DIRECT", transport = "tcp" } } }, config))
    assert.same({}, reach.connected(nil, config))
    assert.equal("1h2m0s", reach.uptime(answers({}).status))
  end)
end)

describe("status", function()
  it("keeps its lines, and says that no daemon runs", function()
    local dir <close> = commands.dir()
    commands.node_home(dir)
    local code, out = commands.run({ home = dir.path }, "status")
    assert.equal(0, code)
    for _, line in ipairs { "Peer ID:  12D3", "Config:   /", "Key file: /",
      "Network:  global (default)", "Reachable: no: ", "  peerup daemon\n", "Relay addresses:",
      "Authorized peers:", "Services:", "Names:" } do
      assert.is_truthy(out:find("\n" .. line, 1, true), line)
    end
    local _, lines = out:gsub("\n", "\n")
    assert.is_true(lines <= 24, lines .. " lines")
    code, out = commands.run({ home = dir.path }, "status", "--json")
    assert.equal(0, code)
    assert.is_truthy(out:find('"daemon": null', 1, true))
  end)
end)
