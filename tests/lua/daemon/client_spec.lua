--- lua/peerup/daemon/client.lua against server.lua over a real socket.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local client = require "peerup.daemon.client"
local fs = require "peerup.fs"
local json = require "peerup.json"
local server = require "peerup.daemon.server"

local ROUTES = {
  ["GET /v1/echo"] = {
    run = function(_, request) return json.object("b", request.method, "a", json.array()) end,
    text = function(data) return "text " .. data.b .. "\n" end,
  },
  ["POST /v1/echo"] = { run = function(_, request) return json.decode(request.body) end },
  ["GET /v1/fails"] = { run = function() return nil, "no <way>", 404 end },
  ["GET /v1/long"] = { run = function() return ("x"):rep(300000) end },
}

local function serve(dir)
  local paths = server.paths(dir.path)
  assert(server.claim(paths))
  return assert(server.start { paths = paths, state = {}, routes = ROUTES }), paths
end

describe("the daemon's API", function()
  it("answers over its socket", async(function()
    local dir <close> = support.dir()
    local s, paths = serve(dir)
    assert.equal(tonumber("600", 8), fs.stat(paths.socket).mode & tonumber("777", 8))
    assert.equal(tonumber("600", 8), fs.stat(paths.cookie).mode & tonumber("777", 8))
    assert.matches("^%x+$", fs.read(paths.cookie))
    assert.equal(64, #fs.read(paths.cookie))
    local c = assert(client.new(dir.path))
    assert.equal("GET", assert(c:call("GET", "/v1/echo")).b)
    assert.equal('{"data":{"b":"GET","a":[]}}\n', c:request("GET", "/v1/echo").body)
    assert.equal("text GET\n", c:request("GET", "/v1/echo?format=text").body)
    assert.same({ x = { 1, "ä" } }, c:call("POST", "/v1/echo", { x = { 1, "ä" } }))
    assert.equal(300000, #c:call("GET", "/v1/long"))
    local data, problem = c:call("GET", "/v1/fails")
    assert.is_nil(data)
    assert.equal("daemon: no <way>", tostring(problem))
    assert.equal(405, c:request("DELETE", "/v1/echo").status)
    c.cookie = "0"
    assert.equal(401, c:request("GET", "/v1/nothing").status)
    s:close()
    assert.is_false(fs.exists(paths.socket))
    assert.is_false(fs.exists(paths.cookie))
    data, problem = c:call("GET", "/v1/echo")
    assert.is_nil(data)
    assert.matches("daemon not running: ", tostring(problem))
  end))

  it("is refused a second time, and missed when it is not there", async(function()
    local dir <close> = support.dir()
    local none, problem = client.new(dir.path)
    assert.is_nil(none)
    assert.equal("daemon not running: " .. dir.path .. "/peerup.sock", tostring(problem))
    local s, paths = serve(dir)
    local ok
    ok, problem = server.claim(paths)
    assert.is_nil(ok)
    assert.matches("already running", tostring(problem))
    s:close()
  end))
end)
