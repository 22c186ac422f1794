--- lua/peerup/invite/code.lua; the Go program's own cases are in tests/vectors.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local code = require "peerup.invite.code"

local TEXT = assert(code.encode { token = "12345678", relay_addr = support.RELAY, network = "lab",
  inviter = support.PEERS[1] })

describe("a code", function()
  it("comes back as it was made", function()
    local got = assert(code.decode(TEXT))
    assert.equal("12345678", got.token)
    assert.equal(support.RELAY, got.relay_addr)
    assert.equal(support.PEERS[3], got.relay_peer)
    assert.equal("lab", got.network)
    assert.equal(support.PEERS[1], got.inviter)
  end)

  it("says which part is wrong", function()
    local function why(text) return tostring(select(2, code.decode(text))) end
    assert.matches('"8" %(sign 3, dashes not counted%)', why("AE8L" .. TEXT:sub(5)))
    assert.matches("too short", why(TEXT:sub(1, 10)))
    assert.matches("inviter's peer ID in it is wrong: it is %d+ bytes too short",
      why(TEXT:sub(1, -5)))
    assert.matches("newer than this program", why("H" .. TEXT:sub(2)))
  end)

  it("is refused or read, never a fault, however it is damaged", function()
    math.randomseed(7)
    local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567- \n\xff\xc5\xbf089="
    for _ = 1, 5000 do
      local text = TEXT
      for _ = 1, math.random(4) do
        local at, letter = math.random(#text), math.random(#letters)
        text = text:sub(1, at - 1) .. letters:sub(letter, letter)
          .. text:sub(at + math.random(0, 2))
      end
      local got, problem = code.decode(text)
      assert.is_true(got ~= nil or problem.class ~= nil)
      if got then assert.equal(code.TOKEN_BYTES[got.version], #got.token) end
    end
  end)
end)
