--- lua/peerup/limits.lua, and the section "limits" of configurations.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local hosts = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/hosts.lua")
local limits = require "peerup.limits"
local load = require "peerup.config.load"
local show = require "peerup.config.show"
local template = require "peerup.config.template"

local NODE = template.node { by = "init", relay = support.RELAY }
local FULL = NODE .. [[
limits:
  connections:
    total: 101
    inbound: 102
    per_address: 103
    per_peer: 104
    pending: 105
    pending_per_address: 106
  streams:
    total: 201
    per_address: 202
    per_peer: 203
    per_connection: 204
    negotiating: 205
    per_protocol: 206
    per_protocol_and_peer: 207
  memory:
    total: 301 MB
    per_address: 20 MB
    per_peer: 302 MB
    per_connection: 300 MB
  protocols:
    /peerup/ssh/1.0.0:
      total: 40
      per_peer: 4
]]

local function decode(text, kind)
  return assert(load.decode(text, kind or "node", "dir/x.yaml"))
end

local function by_name(host)
  local stats = {}
  for _, stat in ipairs(host:limits()) do stats[stat.name] = stat end
  return stats
end

describe("limits", function()
  it("reach the engine, each under its own name", async(function()
    local config = decode(FULL)
    assert.same({}, config.warnings)
    local host <close> = hosts.new { listen = false, limits = limits.of(config) }
    assert.is_true(limits.set_protocols(host, config))
    local stats = by_name(host)
    for section, keys in pairs { connections = config.limits.connections,
      streams = config.limits.streams, memory = config.limits.memory } do
      for key, value in pairs(keys) do
        local stat = stats[section .. "." .. key]
        assert.equal(value, stat and stat.limit, section .. "." .. key)
      end
    end
    -- The one that cannot be set.
    assert.equal(65536, stats["memory.handshake"].limit)
    assert.is_true(stats["memory.total"].used > 0)
  end))

  it("follow from the machine when nothing is set", async(function()
    for kind, text in pairs { node = NODE, relay = "version: 1\n" } do
      local host <close> = hosts.new { listen = false, limits = limits.of(decode(text, kind)) }
      for name, stat in pairs(by_name(host)) do
        assert.is_true(stat.limit > 0 and stat.used <= stat.limit, name)
      end
    end
  end))

  it("count what they refuse", async(function()
    local a <close> = hosts.new()
    local b <close> = hosts.new { limits = { conns_per_peer = 1 } }
    hosts.introduce(a, b)
    assert(a:connect(b:peer_id(), { timeout = 5 }))
    a:connect(b:peer_id(), { timeout = 5, new = true })
    hosts.eventually(function() return by_name(b)["connections.per_peer"].refused > 0 end)
    local stat = by_name(b)["connections.per_peer"]
    assert.same({ 1, 1, 1 }, { stat.used, stat.limit, stat.refused })
    assert.same({ "connections.per_peer: refused 1 times at 1 (raise "
      .. "limits.connections.per_peer)" }, limits.refusals(limits.counts(b)))
  end))

  it("are shown as they were set, and not at all when they were not", function()
    local shown = show.yaml(decode(FULL))
    assert.is_truthy(shown:find("per_address: 103", 1, true))
    assert.is_nil(show.yaml(decode(NODE)):find("limits:", 1, true))
    local again = decode(shown)
    assert.same(decode(FULL).limits, again.limits)
  end)

  it("refuse what is no count", function()
    local config, problem = load.decode("limits:\n  streams:\n    total: -1\n", "node", "x.yaml")
    assert.is_nil(config)
    assert.matches("line 3: limits.streams.total: must be at least 0", tostring(problem))
    config = decode("limits:\n  connections:\n    perpeer: 3\n")
    assert.matches('did you mean "per_peer"', config.warnings[1])
    assert.equal(0xffffffff, limits.of(decode("limits:\n  streams:\n    total: 99999999999\n"))
      .streams_in)
  end)
end)
