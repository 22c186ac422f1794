--- lua/peerup/cli/next.lua: what `peerup` without a command proposes, by the state of the machine.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local template = require "peerup.config.template"

local PEER = support.PEERS[1]

local function commands(dir)
  local code, out, errors = support.run { home = dir.path }
  assert.equal(1, code)
  assert.equal("", errors)
  local list = {}
  for line in out:match("\nNext:\n(.*)$"):gmatch "\n      (peerup[^\n]*)" do
    list[#list + 1] = line
  end
  return list, out
end

describe("peerup without a command", function()
  it("proposes to set up, to pair, to offer, to run, to use", function()
    local dir <close> = support.dir()
    assert.same({ "peerup join <code>", "peerup init" }, commands(dir))
    local path, base = support.node_home(dir)
    assert.same({ "peerup daemon --invite", "peerup service add ssh localhost:22" },
      commands(dir))
    assert(fs.write(base .. "/authorized_keys", PEER .. "\n"))
    local text = template.node { by = "init", relay = support.RELAY }
    assert(fs.write(path, (text:gsub("names: {}", "names:\n  home: " .. PEER))
      .. "services:\n  ssh:\n    enabled: true\n    local_address: localhost:22\n"))
    assert.same({ "peerup daemon", "peerup ssh home" }, commands(dir))
    assert(fs.write(base .. "/peerup.sock", ""))
    assert.same({ "peerup daemon status", "peerup ssh home" }, commands(dir))
  end)

  it("names what is wrong with the config", function()
    local dir <close> = support.dir()
    local path = support.node_home(dir)
    assert(fs.write(path, "relay: ["))
    local list, out = commands(dir)
    assert.same({ "peerup config validate" }, list)
    assert.matches("failed to parse YAML", out)
    assert(fs.write(path, "version: 1\n"))
    list, out = commands(dir)
    assert.same({ "peerup config validate" }, list)
    assert.matches("identity.key_file: is required", out)
  end)
end)
