--- lua/peerup/invite/known.lua
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local known = require "peerup.invite.known"
local load = require "peerup.config.load"
local uv = require "luv"

local A, B = support.PEERS[1], support.PEERS[2]

local function keep(path, base, peer, name)
  return known.keep { config_path = path, authorized_keys = fs.join(base, "authorized_keys"),
    peer = peer, name = name, fallback = "joined" }
end

describe("a joined peer", function()
  it("gets a line and a name; a clash gets a number", function()
    local dir <close> = support.dir()
    local path, base = support.node_home(dir)
    assert.equal("mylaptop", assert(keep(path, base, A, "my laptop")).name)
    assert.equal("mylaptop-2", assert(keep(path, base, B, "my laptop")).name)
    local config = assert(load.read(path, "node"))
    assert.equal(A, config.names.mylaptop)
    assert.equal(B, config.names["mylaptop-2"])
    local text = fs.read(base .. "/authorized_keys")
    assert.matches(A .. "  # my laptop\n", text, 1, true)
  end)

  it("that is known already is fine, and keeps its name", function()
    local dir <close> = support.dir()
    local path, base = support.node_home(dir)
    keep(path, base, A, "one")
    local text = fs.read(path)
    assert.equal("one", assert(keep(path, base, A, "two")).name)
    assert.equal(text, fs.read(path))
  end)

  it("without a usable name gets the day as comment and no name", function()
    local dir <close> = support.dir()
    local path, base = support.node_home(dir)
    local kept = assert(keep(path, base, A, ""))
    assert.matches("^joined%-%d%d%d%d%-%d%d%-%d%d$", kept.comment)
    assert.is_nil(kept.name)
    assert.equal("日本", assert(keep(path, base, B, "日\n本\0")).comment)
  end)

  it("is not kept when its line cannot be written", function()
    local dir <close> = support.dir()
    local path, base = support.node_home(dir)
    assert(fs.write(base .. "/authorized_keys", "broken line\n"))
    local kept, problem = keep(path, base, A, "x")
    assert.is_nil(kept)
    assert.equal("malformed", problem.code)
  end)

  it("is kept even when the config defeats the edit", function()
    local dir <close> = support.dir()
    local path, base = support.node_home(dir)
    uv.fs_chmod(path, tonumber("644", 8))
    local kept = assert(keep(path, base, A, "x"))
    assert.equal("key_mode", kept.name_problem.code)
  end)
end)
