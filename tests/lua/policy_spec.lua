--- lua/peerup/policy.lua: who is let through which door.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local guests = require "peerup.guests"
local keys = require "peerup.authorized_keys"
local policy = require "peerup.policy"

local FRIEND, STRANGER, RELAY = table.unpack(support.PEERS)
local NOW = 1800000000

local function rules(fields)
  local r = policy.rules(fields)
  r.authorized[FRIEND] = keys.list(FRIEND)[1]
  r.relays[RELAY] = true
  return r
end

local function ask(r, kind, fields)
  local question = { ask = kind, addr = "/ip4/192.0.2.1/tcp/1", relayed = false, peer = FRIEND }
  for key, value in pairs(fields or {}) do question[key] = value end
  return (policy.decide(r, question, NOW))
end

describe("a node", function()
  it("lets in authorized peers only", function()
    assert.is_true(ask(rules(), "inbound"))
    assert.is_false(ask(rules(), "inbound", { peer = STRANGER }))
    assert.is_false(ask(rules(), "inbound", { peer = RELAY }))
    assert.is_true(ask(rules(), "accept", { peer = false }))
  end)

  it("enforces expires", function()
    local r = rules()
    r.authorized[FRIEND] = keys.list(FRIEND .. " expires=2020-01-01T00:00:00Z")[1]
    assert.is_false(ask(r, "inbound"))
    local _, why = policy.decide(r, { ask = "inbound", peer = FRIEND }, NOW)
    assert.equal("authorization expired", why)
  end)

  it("is open only when gating is off", function()
    assert.is_true(ask(rules { gating = false }, "inbound", { peer = STRANGER }))
  end)

  it("dials relays, authorized peers and targets", function()
    local r = rules()
    assert.is_true(ask(r, "dial"))
    assert.is_true(ask(r, "dial", { peer = RELAY }))
    assert.is_false(ask(r, "dial", { peer = STRANGER }))
    r.targets[STRANGER] = true
    assert.is_true(ask(r, "dial", { peer = STRANGER }))
  end)

  it("takes circuits only from its relays", function()
    assert.is_true(ask(rules(), "stream", { peer = RELAY, protocol = policy.STOP }))
    assert.is_false(ask(rules(), "stream", { protocol = policy.STOP }))
  end)

  it("is no relay", function()
    assert.is_false(ask(rules(), "reservation"))
    assert.is_false(ask(rules(), "circuit", { target = FRIEND }))
    assert.is_false(ask(rules(), "stream", { protocol = policy.HOP }))
  end)

  it("serves services to authorized and allowed peers", function()
    local r = rules()
    r.authorized[STRANGER] = keys.list(STRANGER)[1]
    r.services["/peerup/ssh/1.0.0"] = policy.service_rule("ssh", {})
    r.services["/peerup/web/1.0.0"] = policy.service_rule("web", { STRANGER })
    local none, bad = policy.service_rule("none", { "nonsense" })
    r.services["/peerup/none/1.0.0"] = none
    assert.same({ "nonsense" }, bad)
    assert.is_true(ask(r, "stream", { protocol = "/peerup/ssh/1.0.0" }))
    assert.is_false(ask(r, "stream", { protocol = "/peerup/web/1.0.0" }))
    assert.is_true(ask(r, "stream", { protocol = "/peerup/web/1.0.0", peer = STRANGER }))
    assert.is_false(ask(r, "stream", { protocol = "/peerup/none/1.0.0" }))
    assert.is_false(ask(r, "stream", { protocol = "/peerup/other/1.0.0" }))
    r.authorized[FRIEND] = nil
    assert.is_false(ask(r, "stream", { protocol = "/peerup/ssh/1.0.0" }))
    assert.is_true(ask(r, "stream", { protocol = "/ipfs/ping/1.0.0" }))
  end)

  it("lets strangers speak nothing but the invite while one is open", function()
    local r = rules { invite = "/peerup/invite/1.0.0" }
    r.protocols["/pingpong/1.0.0"] = true
    assert.is_true(ask(r, "inbound", { peer = STRANGER, relayed = true }))
    assert.is_true(ask(r, "stream", { peer = STRANGER, protocol = "/peerup/invite/1.0.0" }))
    assert.is_false(ask(r, "stream", { peer = STRANGER, protocol = "/pingpong/1.0.0" }))
    assert.is_true(ask(r, "stream", { protocol = "/pingpong/1.0.0" }))
    r.invite = nil
    assert.is_false(ask(r, "inbound", { peer = STRANGER, relayed = true }))
    assert.is_false(ask(r, "stream", { peer = STRANGER, protocol = "/peerup/invite/1.0.0" }))
  end)

  it("denies what it does not understand", function()
    assert.is_false(ask(rules(), "something"))
    assert.is_false(ask(rules { gating = false }, "inbound", { peer = 3 }))
  end)
end)

describe("a relay", function()
  local function relay_rules(fields)
    local r = rules { relaying = true, guests = guests.new() }
    for key, value in pairs(fields or {}) do r[key] = value end
    return r
  end

  it("serves members", function()
    local r = relay_rules()
    assert.is_true(ask(r, "reservation"))
    assert.is_false(ask(r, "reservation", { peer = STRANGER }))
    assert.is_true(ask(r, "stream", { protocol = policy.HOP }))
    assert.is_false(ask(r, "stream", { protocol = policy.HOP, peer = STRANGER }))
    r.authorized[RELAY] = keys.list(RELAY)[1]
    assert.is_true(ask(r, "circuit", { target = RELAY }))
    assert.is_false(ask(r, "circuit", { target = STRANGER }))
    assert.is_false(ask(r, "circuit", { peer = STRANGER, target = FRIEND }))
    assert.is_true(ask(r, "stream", { protocol = policy.RELAY_INVITE }))
    assert.is_false(ask(r, "stream", { protocol = policy.RELAY_INVITE, peer = STRANGER }))
  end)

  it("carries a guest to the inviter and nowhere else", function()
    local r = relay_rules()
    r.authorized[RELAY] = keys.list(RELAY)[1]
    assert.is_false(ask(r, "inbound", { peer = STRANGER }))
    assert(r.guests:open(FRIEND, 60, NOW))
    assert.is_true(ask(r, "inbound", { peer = STRANGER }))
    assert.is_false(ask(r, "inbound", { peer = STRANGER, relayed = true }))
    assert.is_false(ask(r, "circuit", { peer = STRANGER, target = FRIEND })) -- not entered yet
    r.guests:enter(STRANGER, NOW)
    assert.is_true(ask(r, "circuit", { peer = STRANGER, target = FRIEND }))
    assert.is_false(ask(r, "circuit", { peer = STRANGER, target = RELAY }))
    assert.is_true(ask(r, "stream", { peer = STRANGER, protocol = policy.HOP }))
    assert.is_false(ask(r, "stream", { peer = STRANGER, protocol = policy.RELAY_INVITE }))
    assert.is_false(ask(r, "reservation", { peer = STRANGER }))
  end)

  it("has no guests when members may not invite", function()
    local r = rules { relaying = true }
    assert.is_false(ask(r, "inbound", { peer = STRANGER }))
    assert.is_false(ask(r, "stream", { protocol = policy.RELAY_INVITE }))
  end)
end)
