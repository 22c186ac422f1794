--- lua/peerup/relay_server.lua: what needs no network. The rest is in network_spec.lua.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local load = require "peerup.config.load"
local relay_server = require "peerup.relay_server"
local uv = require "luv"

describe("paths of a relay", function()
  it("are warned of when a file of that name lies in the working directory", function()
    local dir <close> = support.dir()
    local here = uv.cwd()
    assert(fs.mkdir(dir.path .. "/etc"))
    local path = dir.path .. "/etc/relay-server.yaml"
    assert(fs.write(path, "identity:\n  key_file: relay.key\nsecurity:\n"
      .. "  authorized_keys_file: /abs/keys\n"))
    assert(fs.write(dir.path .. "/relay.key", "x"))
    local config = assert(load.relay(path))
    uv.chdir(dir.path)
    local warnings = relay_server.path_warnings(config)
    uv.chdir(here)
    assert.equal(1, #warnings)
    assert.matches("identity.key_file: using " .. dir.path .. "/etc/relay.key beside the config; "
      .. "the relay.key in the working directory is not used", warnings[1], 1, true)
    assert.same({}, relay_server.path_warnings(config))
  end)
end)
