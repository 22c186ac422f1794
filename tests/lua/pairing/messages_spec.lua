--- lua/peerup/pairing/messages.lua; recorded bytes are in tests/vectors.
local core = require "peerup.core"
local messages = require "peerup.pairing.messages"

local A = "12D3KooWEDuW5gVVqAwzYNYCj6tGw3pPNnD5Y8iBVUoPNDxMJaCp"
local B = "QmP3NWmrNgC5D7G2LfyGmxM4GMch1eXWEgtjSMc9jMtpsq"
local TOKEN = ("t"):rep(16)
local PEERS = { { peer = A, name = "home" }, { peer = B, name = "" } }

local function answer()
  return messages.encode_answer { group = "0011aabb", size = 3, peers = PEERS }
end

local function notice()
  return messages.encode_notice { group = "0011aabb", size = 3, peers = { PEERS[2],
    { peer = A, name = "home", proof = ("p"):rep(32) } } }
end

describe("a request", function()
  it("is read back, and knows its length at every byte", function()
    for _, name in ipairs { "", "home", ("n"):rep(64) } do
      local bytes = messages.encode_request(TOKEN, name)
      for cut = 0, #bytes - 1 do
        local part = bytes:sub(1, cut)
        assert.is_nil((messages.decode_request(part)))
        assert.is_true(messages.request_bytes(part) > cut, "at " .. cut)
        assert.is_true(messages.request_bytes(part) <= messages.MAX_REQUEST)
      end
      assert.equal(#bytes, messages.request_bytes(bytes))
      assert.same({ token = TOKEN, name = name }, (messages.decode_request(bytes)))
    end
  end)

  it("has a name of at most 64 bytes", function()
    local cut = messages.decode_request(messages.encode_request(TOKEN, ("n"):rep(65)))
    assert.equal(64, #cut.name)
    assert.is_nil((messages.decode_request(TOKEN .. "\65" .. ("n"):rep(65))))
  end)
end)

describe("answers and notices", function()
  it("are read back", function()
    local got = assert(messages.decode_answer(answer()))
    assert.same({ group = "0011aabb", size = 3, peers = PEERS }, got)
    got = assert(messages.decode_notice(notice()))
    assert.equal(("p"):rep(32), got.peers[2].proof)
    assert.is_nil(got.peers[1].proof)
  end)

  it("that are cut off anywhere are refused", function()
    for _, case in ipairs { { answer(), messages.decode_answer },
      { notice(), messages.decode_notice } } do
      for cut = 0, #case[1] - 1 do
        local got, problem = case[2](case[1]:sub(1, cut))
        assert.is_nil(got, "at " .. cut)
        assert.equal("malformed", problem.code)
      end
    end
  end)

  it("of random bytes are read or refused, and never fail", function()
    local seeds = { answer(), notice(), messages.FAILURE }
    for round = 1, 3000 do
      local bytes = seeds[round % 3 + 1]
      local at = core.crypto.random(2)
      local i = (at:byte(1) * 256 + at:byte(2)) % #bytes + 1
      bytes = bytes:sub(1, i - 1) .. core.crypto.random(1) .. bytes:sub(i + 1)
      messages.decode_answer(bytes)
      messages.decode_notice(bytes)
      messages.decode_request(bytes)
    end
  end)

  it("with 255 peers of the longest names stay within the bound", function()
    local peers = {}
    for i = 1, messages.MAX_PEERS do peers[i] = { peer = A, name = ("n"):rep(64) } end
    local options = { group = ("g"):rep(64), size = 255, peers = peers }
    assert.is_true(#messages.encode_answer(options) <= messages.MAX_MESSAGE)
    assert.is_true(#messages.encode_notice(options) <= messages.MAX_MESSAGE)
    assert.equal(255, #assert(messages.decode_answer(messages.encode_answer(options))).peers)
  end)

  it("name groups that can stand in a file", function()
    assert.is_true(messages.is_group "0011aabb")
    for _, bad in ipairs { "", "a b", "a\nb", "a=b", ("a"):rep(65) } do
      assert.is_false(messages.is_group(bad))
    end
  end)
end)
