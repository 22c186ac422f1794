--- lua/peerup/pairing/member.lua: what needs no network. The rest is in tests/e2e/pair_test.sh.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local keys = require "peerup.authorized_keys"
local member = require "peerup.pairing.member"
local policy = require "peerup.policy"

local RELAY = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
local OWN = "12D3KooWEDuW5gVVqAwzYNYCj6tGw3pPNnD5Y8iBVUoPNDxMJaCp"
local A = "12D3KooWMcQEi7QaJDzcKG5Tnw4Mtmkxn8k5sHdNfPG4m5MY32Ji"
local B = "12D3KooWMdwjXE2UNZFBv5sz22RuCVKWNwwYJ16dW7ycjAHZHHpE"

local function authorized(size)
  return { [RELAY] = { group = "0011aabb", attributes = { group_size = size } },
    [A] = { group = "0011aabb", attributes = {} } }
end

local function notice(size, ...)
  local peers = {}
  for i, peer in ipairs { ... } do peers[i] = { peer = peer, name = "" } end
  return { group = "0011aabb", size = size, peers = peers }
end

describe("a notice", function()
  it("brings those who are new, also when it lists those we know", function()
    local new = assert(member.newcomers(authorized "3", RELAY, notice(3, A, B, OWN), OWN))
    assert.equal(1, #new)
    assert.equal(B, new[1].peer)
    assert.same({}, (member.newcomers(authorized "2", RELAY, notice(2, A), OWN)))
  end)

  it("cannot make the group larger than its codes", function()
    assert.is_nil((member.newcomers(authorized "2", RELAY, notice(255, A, B), OWN)))
    assert.is_nil((member.newcomers(authorized(nil), RELAY, notice(2, A, B), OWN)))
    assert(member.newcomers(authorized(nil), RELAY, notice(3, A, B), OWN))
  end)

  it("of a group that we are not in is not followed", function()
    assert.is_nil((member.newcomers({}, RELAY, notice(3, B), OWN)))
    local other = notice(3, B)
    other.group = "ffffffff"
    assert.is_nil((member.newcomers(authorized "3", RELAY, other, OWN)))
    other.group = "a b"
    assert.is_nil((member.newcomers(authorized "3", RELAY, other, OWN)))
  end)
end)

describe("what a pairing leaves", function()
  local function keep(text, answer)
    local dir <close> = support.dir()
    assert(fs.write(dir.path .. "/keys", text))
    assert(fs.write(dir.path .. "/config.yaml", require("peerup.config.template").node {
      by = "join", relay = "/ip4/1.2.3.4/tcp/1/p2p/" .. RELAY }))
    local kept = assert(member.keep { path = dir.path .. "/config.yaml",
      keys = dir.path .. "/keys", relay = RELAY, token = ("t"):rep(16), answer = answer })
    return kept, assert(keys.load(assert(fs.read(dir.path .. "/keys")))),
      assert(fs.read(dir.path .. "/config.yaml"))
  end

  it("is a relay that may use no service, and the peers by names of their own", function()
    local kept, entries, config = keep("", { group = "0011aabb", size = 3,
      peers = { { peer = A, name = "my box\n" }, { peer = B, name = "mybox" } } })
    assert.same({ { peer = A, name = "mybox" }, { peer = B, name = "mybox-2" } }, kept)
    assert.equal("relay", entries[RELAY].attributes.role)
    assert.equal("3", entries[RELAY].attributes.group_size)
    assert.equal(64, #entries[RELAY].attributes.hmac_proof)
    assert.equal("my box", entries[A].comment)
    assert.equal("0011aabb", entries[A].group)
    assert.matches("mybox%-2: ", config)
    local rules = policy.rules { authorized = entries,
      services = { ["/peerup/web/1.0.0"] = { name = "web" } } }
    local function may(peer)
      return (policy.decide(rules, { ask = "stream", peer = peer,
        protocol = "/peerup/web/1.0.0" }, 1))
    end
    assert.is_true(may(A))
    assert.is_false(may(RELAY))
    rules.services["/peerup/web/1.0.0"].allowed = { [RELAY] = true }
    assert.is_true(may(RELAY)) -- the user named it
  end)

  it("keeps the lines that stand", function()
    local _, entries = keep(RELAY .. "  # mine\n" .. A .. "  verified=sha256:00112233  # Anna\n",
      { group = "0011aabb", size = 2, peers = { { peer = A, name = "x" } } })
    assert.equal("mine", entries[RELAY].comment)
    assert.is_nil(entries[RELAY].attributes.role)
    assert.equal("Anna", entries[A].comment)
    assert.equal("sha256:00112233", entries[A].verified)
    assert.equal("0011aabb", entries[A].group)
  end)
end)
