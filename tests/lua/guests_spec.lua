--- lua/peerup/guests.lua
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local guests = require "peerup.guests"

local MEMBER, JOINER, OTHER = table.unpack(support.PEERS)

describe("guests", function()
  it("come only while an invite is open, and for a short time", function()
    local g = guests.new()
    assert.is_false(g:may_enter(JOINER, 0))
    local id = assert(g:open(MEMBER, 100, 0))
    assert.is_true(g:may_enter(JOINER, 0))
    g:enter(JOINER, 0)
    assert.is_true(g:is_guest(JOINER, guests.GUEST_SECONDS - 1))
    assert.is_false(g:is_guest(JOINER, guests.GUEST_SECONDS))
    assert.same({ JOINER }, g:expire(guests.GUEST_SECONDS))
    assert.same({}, g:expire(guests.GUEST_SECONDS))
    g:enter(JOINER, 70)
    g:close(id)
    assert.is_false(g:is_guest(JOINER, 71))
    assert.same({ JOINER }, g:expire(71))
  end)

  it("are few", function()
    local g = guests.new()
    g:open(MEMBER, 100, 0)
    for i = 1, guests.MAX_GUESTS do g:enter("peer" .. i, 0) end
    assert.is_false(g:may_enter(JOINER, 1))
    assert.is_true(g:may_enter("peer1", 1))
    g:leave("peer1")
    assert.is_true(g:may_enter(JOINER, 1))
  end)

  it("end with the invite's time", function()
    local g = guests.new()
    g:open(MEMBER, 10, 0)
    g:enter(JOINER, 0)
    assert.is_true(g:may_reach(JOINER, MEMBER, 9))
    assert.is_false(g:may_reach(JOINER, MEMBER, 10))
  end)
end)

describe("invites", function()
  it("are few, per member and in all", function()
    local g = guests.new()
    for _ = 1, guests.MAX_INVITES_PER_MEMBER do assert(g:open(MEMBER, 10, 0)) end
    assert.is_nil((g:open(MEMBER, 10, 0)))
    assert(g:open(OTHER, 10, 0))
    assert(g:open(MEMBER, 10, 10))
    for i = 1, guests.MAX_INVITES do g:open("m" .. i, 10, 10) end
    assert.is_nil((g:open("one more", 10, 10)))
    assert.is_nil((guests.new():open(MEMBER, guests.MAX_TTL_SECONDS + 1, 0)))
  end)

  it("vouch for one visitor of their own", function()
    local g = guests.new()
    local id = assert(g:open(MEMBER, 100, 0))
    local other = assert(g:open(OTHER, 100, 0))
    g:enter(JOINER, 0)
    assert.is_nil((g:vouch(id, JOINER, 1)))
    assert.is_true(g:may_reach(JOINER, MEMBER, 1))
    assert.is_nil((g:vouch(other, JOINER, 1)))
    assert.is_true(g:vouch(id, JOINER, 1))
    assert.is_nil((g:vouch(id, JOINER, 1)))
    assert.is_nil((g:vouch(99, JOINER, 1)))
    g:close(other)
    assert.is_nil((g:vouch(other, JOINER, 1)))
  end)
end)

describe("messages", function()
  it("are read strictly", function()
    assert.same({ verb = "open", ttl_s = 600 }, guests.parse("open 600"))
    assert.same({ verb = "vouch", peer = JOINER, name = "lap.top-1" },
      guests.parse(("vouch %s lap.top-1"):format(JOINER)))
    assert.same({ verb = "vouch", peer = JOINER, name = "" }, guests.parse("vouch " .. JOINER))
    for _, line in ipairs { "", "open", "open 0", "open -1", "open 01", "open 1234567", "open 6 ",
      " open 6", "open  6", "OPEN 6", "open 6\r", "vouch", "vouch x", "vouch " .. JOINER .. " ",
      "vouch " .. JOINER .. " a b", "vouch " .. JOINER .. " a#b", "vouch " .. JOINER .. " \u{e9}",
      ("vouch %s %s"):format(JOINER, ("n"):rep(65)), ("x"):rep(300), "open 6\0" } do
      assert.is_nil(guests.parse(line), line)
    end
  end)

  it("never throw, whatever comes, and mean only what they say", function()
    math.randomseed(42)
    local seeds = { "open 600", ("vouch %s laptop"):format(JOINER), "vouch " .. JOINER }
    for _ = 1, 20000 do
      local line = seeds[math.random(#seeds)]
      for _ = 1, math.random(3) do
        local at = math.random(0, #line)
        local kind = math.random(3)
        local byte = string.char(math.random(0, 255))
        if kind == 1 then line = line:sub(1, at) .. byte .. line:sub(at + 1)
        elseif kind == 2 then line = line:sub(1, math.max(0, at - 1)) .. line:sub(at + 1)
        else line = line:sub(1, math.max(0, at - 1)) .. byte .. line:sub(at + 1) end
      end
      local message = guests.parse(line)
      if message then
        local again = message.verb == "open" and "open " .. message.ttl_s
          or "vouch " .. message.peer .. (message.name ~= "" and " " .. message.name or "")
        assert.equal(line, again)
      end
    end
  end)
end)
