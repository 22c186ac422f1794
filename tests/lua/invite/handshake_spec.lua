--- lua/peerup/invite/handshake.lua; recorded exchanges are in tests/vectors.
local handshake = require "peerup.invite.handshake"

local function pair(options)
  options = options or {}
  return handshake.joiner { token = options.wrong and "87654321" or "12345678", name = "laptop" },
    handshake.inviter { token = "12345678", name = options.name or "home" }
end

--- Passes bytes on in pieces of a size.
local function pass(machine, bytes, size)
  local out = {}
  for at = 1, #bytes, size do
    local piece, problem = machine:feed(bytes:sub(at, at + size - 1))
    if not piece then return nil, problem end
    out[#out + 1] = piece
  end
  return table.concat(out)
end

describe("the handshake", function()
  it("works split at every byte", function()
    for size = 1, 60 do
      local joiner, inviter = pair()
      local answer = assert(pass(inviter, joiner:start(), size))
      local name = assert(pass(joiner, answer, size))
      assert.equal("", pass(inviter, name, size))
      assert.equal("asking", inviter.state)
      assert.equal("laptop", inviter.peer_name)
      assert.equal("", pass(joiner, inviter:accept(), size))
      assert.equal("done", joiner.state)
      assert.equal("home", joiner.peer_name)
      assert.is_nil(joiner.key)
      assert.is_nil(joiner.private)
    end
  end)

  it("fails with a wrong code, and says so on both sides", function()
    local joiner, inviter = pair { wrong = true }
    local name = assert(joiner:feed(assert(inviter:feed(joiner:start()))))
    local out, problem = inviter:feed(name)
    assert.is_nil(out)
    assert.equal("bad_seal", problem.class)
    assert.equal("failed", inviter.state)
    assert.matches("wrong invite code", tostring(joiner:ended()))
    assert.is_nil((inviter:feed("x")))
  end)

  it("tells the joiner of a refusal", function()
    local joiner, inviter = pair()
    inviter:feed(joiner:feed(inviter:feed(joiner:start())))
    local out, problem = joiner:feed(inviter:reject())
    assert.is_nil(out)
    assert.equal("the inviter refused: server error", tostring(problem))
  end)

  it("refuses another version at the first byte", function()
    local _, inviter = pair()
    assert.is_nil((inviter:feed("\2")))
  end)

  it("refuses lengths out of range as soon as they are known", function()
    for _, length in ipairs { "\0\0", "\16\1", "\255\255" } do
      local joiner, inviter = pair()
      joiner:feed(inviter:feed(joiner:start()))
      local out, problem = inviter:feed(length)
      assert.is_nil(out)
      assert.equal("protocol_error", problem.code)
    end
  end)

  it("keeps no more than a message, whatever comes", function()
    local _, inviter = pair()
    assert(inviter:feed("\1" .. ("k"):rep(32) .. "\16\0"))
    for _ = 1, 100 do
      local out = inviter:feed(("x"):rep(1000))
      assert.is_true(#inviter.buffer <= handshake.MAX_SEALED + 2)
      if not out then return end
    end
    error("it took everything")
  end)

  it("cuts a name that is too long for the answer", function()
    local joiner, inviter = pair { name = ("n"):rep(10000) }
    inviter:feed(joiner:feed(inviter:feed(joiner:start())))
    assert.equal("", joiner:feed(inviter:accept()))
    assert.equal(handshake.MAX_NAME, #joiner.peer_name)
  end)

  it("never throws on random bytes", function()
    math.randomseed(3)
    for _ = 1, 300 do
      local joiner, inviter = pair()
      joiner:start()
      for _, machine in ipairs { joiner, inviter } do
        for _ = 1, 5 do
          local bytes = {}
          for i = 1, math.random(80) do bytes[i] = string.char(math.random(0, 255)) end
          if not machine:feed(table.concat(bytes)) then break end
        end
        assert.not_equal("done", machine.state)
        assert.not_equal("asking", machine.state)
      end
    end
  end)
end)
