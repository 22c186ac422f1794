local core = require "peerup.core"
local uv = require "luv"

local identity, peer_id = core.identity, core.peer_id

-- A PrivateKey protobuf of a fixed seed: type 1, 64 bytes (seed, public key).
local PEER = "12D3KooW"

describe("core.identity", function()
  local directory, path
  before_each(function()
    directory = assert(uv.fs_mkdtemp("/tmp/peerup-key-XXXXXX"))
    path = directory .. "/identity.key"
  end)
  after_each(function()
    uv.fs_unlink(path)
    assert(uv.fs_rmdir(directory)) -- and so nothing else was left
  end)

  it("makes keys and their peer IDs", function()
    local one, other = identity.generate(), identity.generate()
    assert.equal(68, #one)
    assert.not_equal(one, other)
    local id = assert(identity.peer_id(one))
    assert.equal(PEER, id:sub(1, 8))
    assert.equal(id, identity.peer_id(one))
  end)

  it("refuses what is no key", function()
    for _, bytes in ipairs { "", "x", ("\0"):rep(68), identity.generate() .. "x" } do
      local id, err = identity.peer_id(bytes)
      assert.is_nil(id)
      assert.is_string(err.code)
    end
    assert.has_error(function()
      identity.peer_id()
    end)
  end)

  it("saves and loads, and never overwrites", function()
    local key = identity.generate()
    assert.is_true(identity.save(path, key))
    assert.equal(tonumber("600", 8), uv.fs_stat(path).mode & tonumber("777", 8))
    assert.equal(key, identity.load(path))
    local saved, err = identity.save(path, identity.generate())
    assert.is_nil(saved)
    assert.equal("exists", err.code)
    assert.equal(key, identity.load(path))
  end)

  it("demands mode 0600", function()
    assert(identity.save(path, identity.generate()))
    assert(uv.fs_chmod(path, tonumber("640", 8)))
    local key, err = identity.load(path)
    assert.is_nil(key)
    assert.equal("key_mode", err.code)
    assert.matches("chmod 600", tostring(err))
  end)

  it("says what is missing or damaged", function()
    local key, err = identity.load(path)
    assert.is_nil(key)
    assert.equal("not_found", err.code)
    assert.matches(path, tostring(err), 1, true)
    assert(core.fs.write_atomic(path, "no key", tonumber("600", 8)))
    key, err = identity.load(path)
    assert.is_nil(key)
    assert.equal("malformed", err.code)
    assert.is_nil(identity.save(directory .. "/no/such/place", identity.generate()))
    assert.is_nil((identity.save(path, "no key")))
  end)
end)

describe("core.peer_id", function()
  local text = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"

  it("reads both text forms and gives base58", function()
    assert.equal(text, peer_id.parse(text))
    local id = identity.peer_id(identity.generate())
    assert.equal(id, peer_id.parse(id))
    assert.equal("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
      peer_id.parse("bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgkjxzy3rqt5kczyn7lcm3l"))
  end)

  it("goes through bytes and back", function()
    local bytes = assert(peer_id.to_bytes(text))
    assert.equal(34, #bytes)
    assert.equal("\x12\x20", bytes:sub(1, 2))
    assert.equal(text, peer_id.from_bytes(bytes))
  end)

  it("refuses other text and bytes", function()
    for _, bad in ipairs { "", "home", text .. "x", text:sub(2), "0OIl", text .. "\0" } do
      local id, err = peer_id.parse(bad)
      assert.is_nil(id, bad)
      assert.is_string(tostring(err))
      assert.is_nil((peer_id.to_bytes(bad)))
    end
    for _, bad in ipairs { "", "\x12\x20", "\x12\x20" .. ("x"):rep(33), ("x"):rep(200) } do
      assert.is_nil((peer_id.from_bytes(bad)))
    end
  end)
end)
