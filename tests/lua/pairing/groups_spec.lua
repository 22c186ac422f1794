--- lua/peerup/pairing/groups.lua: time is a number here.
local groups = require "peerup.pairing.groups"
local policy = require "peerup.policy"

local function open(options)
  local all = groups.new()
  local group, tokens = all:create({ count = options.count or 2, ttl_s = options.ttl_s or 100,
    network = "" }, 0)
  return all, group, tokens
end

describe("a group", function()
  it("lets one peer in for each token", function()
    local all, group, tokens = open {}
    local got, slot, again = all:use(tokens[1], "A", "a", 1)
    assert.equal(group, got)
    assert.is_false(again)
    assert.equal(32, #slot.proof)
    assert.is_nil((all:use(tokens[1], "B", "b", 1)))
    got, slot, again = all:use(tokens[1], "A", "changed", 2)
    assert.equal(group, got)
    assert.is_true(again)
    assert.equal("a", slot.name)
    assert.is_nil((all:use(("x"):rep(16), "B", "b", 1)))
    assert.is_true(all:is_open(3))
    assert(all:use(tokens[2], "B", "b", 3))
    assert.is_false(all:is_open(3))
    assert.equal(2, #group.members)
  end)

  it("ends by time, and by being revoked", function()
    local all, _, tokens = open { ttl_s = 10 }
    assert.is_true(all:is_open(9))
    assert.is_false(all:is_open(10))
    assert.is_nil((all:use(tokens[1], "A", "", 10)))
    assert.same({}, all:list(10))
    assert.same({}, all.by_hash)
    local group
    all, group, tokens = open {}
    assert.is_true(all:revoke(group.id))
    assert.is_false(all:revoke(group.id))
    assert.is_nil((all:use(tokens[1], "A", "", 1)))
  end)

  it("gives a slot back", function()
    local all, group, tokens = open { count = 1 }
    local _, slot = all:use(tokens[1], "A", "a", 1)
    groups.release(group, slot)
    assert.is_true(all:is_open(1))
    assert(all:use(tokens[1], "B", "b", 1))
  end)

  it("is one of a bounded number", function()
    local all = groups.new()
    for _ = 1, groups.MAX_GROUPS do
      assert(all:create({ count = 1, ttl_s = 10, network = "" }, 0))
    end
    local group, problem = all:create({ count = 1, ttl_s = 10, network = "" }, 0)
    assert.is_nil(group)
    assert.equal("limit", problem.code)
    assert(all:create({ count = 1, ttl_s = 10, network = "" }, 10))
  end)
end)

describe("strangers", function()
  it("are let in while a group is open, a few for a short time", function()
    local all, group = open {}
    for i = 1, groups.MAX_STRANGERS do
      assert.is_true(all:may_enter("S" .. i, 0))
      all:enter("S" .. i, 0)
    end
    assert.is_false(all:may_enter("late", 1))
    assert.is_true(all:is_stranger("S1", 1))
    assert.is_false(all:is_stranger("late", 1))
    all:leave "S1"
    assert.is_true(all:may_enter("late", 1))
    assert.equal(groups.MAX_STRANGERS - 1, #all:expire(groups.PROBATION_S))
    all:enter("X", 20)
    assert.same({}, all:expire(21))
    all:revoke(group.id)
    assert.same({ "X" }, all:expire(21))
    assert.is_false(all:may_enter("Y", 21))
  end)

  it("with three wrong tokens stay out, and nobody else does", function()
    local all, _, tokens = open {}
    all:enter("thief", 0)
    for _ = 1, groups.MAX_WRONG do all:use(("x"):rep(16), "thief", "", 1) end
    assert.is_true(all:is_barred "thief")
    assert.is_false(all:may_enter("thief", 1))
    assert.is_true(all:may_enter("friend", 1))
    assert(all:use(tokens[1], "friend", "", 1))
    for i = 1, groups.MAX_BARRED + 10 do all:use(("x"):rep(16), "T" .. i, "", 1) end
    local count = 0
    for _ in pairs(all.wrong) do count = count + 1 end
    assert.is_true(count <= groups.MAX_BARRED)
  end)

  it("may pair at a relay, and nothing else", function()
    local all, group = open {}
    local rules = policy.rules { relaying = true, pairing = all }
    local function ask(question)
      question.peer = question.peer or "S"
      return (policy.decide(rules, question, 1))
    end
    assert.is_true(ask { ask = "inbound" })
    assert.is_false(ask { ask = "inbound", relayed = true })
    assert.is_false(ask { ask = "stream", protocol = policy.RELAY_PAIR }) -- has not entered
    all:enter("S", 1)
    assert.is_true(ask { ask = "stream", protocol = policy.RELAY_PAIR })
    assert.is_false(ask { ask = "stream", protocol = policy.HOP })
    assert.is_false(ask { ask = "stream", protocol = policy.RELAY_INVITE })
    assert.is_false(ask { ask = "reservation" })
    assert.is_false(ask { ask = "circuit", target = "A" })
    rules.authorized.A = { attributes = {} }
    assert.is_false(ask { ask = "circuit", target = "A" })
    all:revoke(group.id)
    assert.is_false(ask { ask = "inbound" })
    assert.is_false(ask { ask = "stream", protocol = policy.RELAY_PAIR })
  end)
end)
