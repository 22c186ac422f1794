--- The API against exchanges recorded from the original's daemon (daemon_api.json): two real nodes,
-- the requests in their order, the answers compared but for what the recording itself says to vary.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local core = require "peerup.core"
local fs = require "peerup.fs"
local identity = require "peerup.identity"
local json = require "peerup.json"
local load = require "peerup.config.load"
local log = require "peerup.log"
local node = require "peerup.node"
local routes = require "peerup.daemon.routes"
local server = require "peerup.daemon.server"
local template = require "peerup.config.template"

local COOKIE = ("c0"):rep(32)
local FILE = os.getenv "PEERUP_SOURCE" .. "/tests/lua/daemon/daemon_api.json"

--- Values that differ from run to run, machine to machine or program to program.
local VARIES = { uptime_seconds = true, listen_addresses = true, relay_addresses = true,
  address = true, addresses = true, rtt_ms = true, agent_version = true, version = true,
  reachability = true, is_relaying = true, has_global_ipv4 = true, has_global_ipv6 = true,
  min_ms = true, avg_ms = true, max_ms = true, listen_address = true, connected_peers = true }

--- Where we answer otherwise, with the status and a part of the answer, and why.
local OTHERWISE = {
  ["status with stun"] = { 200, '"reachability"', "we know no NAT type" },
  ["auth add a bad ID"] = { 500, "invalid peer ID: ", "another parser, other words" },
  ["auth remove a bad ID"] = { 500, "invalid peer ID: ", "another parser, other words" },
  ["auth add, body over a megabyte"] = { 400, "invalid request body",
    "the HTTP server itself says 413 before the route is asked" },
  ["ping a peer without the protocol"] = { 200, '"error":""',
    "libp2p's own ping is taken instead" },
  ["ping a peer that cannot be reached"] = { 502, "cannot reach peer", "other words" },
  ["connect, unreachable"] = { 502, "cannot reach peer", "other words" },
  ["connect does not check the service name"] = { 400, "invalid service name",
    "a proxy to a name that cannot exist would never carry anything" },
  ["unknown path"] = { 404, "404 page not found\n", "without a charset" },
  ["trailing slash"] = { 404, "404 page not found\n", "without a charset" },
  ["wrong method"] = { 405, "Method Not Allowed\n", "without a charset" },
}

local function logger()
  return log.new(function() end, "off")
end

local function start(dir, name, text)
  local base = dir.path .. "/" .. name
  assert(fs.mkdir(base))
  local own = assert(identity.load_or_create(base .. "/identity.key"))
  local config = template.node { by = "init", relay = support.RELAY }
    :gsub('%s+%- "/ip[46]/[^\n]*quic%-v1"', ""):gsub('%s+%- "/ip6/::/tcp/0"', "")
    :gsub("/ip4/0.0.0.0/tcp/0", "/ip4/127.0.0.1/tcp/0"):gsub("names: {}", text or "names: {}")
  assert(fs.write(base .. "/config.yaml", config))
  assert(fs.write(base .. "/authorized_keys", ""))
  local n = assert(node.open { config = assert(load.read(base .. "/config.yaml", "node")),
    identity = own, log = logger(), serving = true })
  assert(n:listen())
  assert(n:serve_ping_pong())
  return n
end

local function same(expected, got, key, name)
  if VARIES[key] then return end
  if type(expected) ~= "table" then
    assert.equal(expected, got, ("%s: %s"):format(name, key))
    return
  end
  assert.equal("table", type(got), name .. ": " .. key)
  for k, value in pairs(expected) do same(value, got[k], k, name) end
  if #expected > 0 or #got > 0 then assert.equal(#expected, #got, name .. ": " .. key) end
end

--- What is left of a text when numbers and addresses are taken out.
local function outline(text)
  return (text:gsub("/ip4/[%d.]+/tcp/%d+", "ADDR"):gsub("%d+%.%d+", "N"):gsub("rtt=%-", "rtt=Nms"))
end

local function query_of(path)
  local only, query = path:match("^([^?]*)%??(.*)$")
  local values = {}
  for key, value in query:gmatch("([^&=]+)=([^&]*)") do values[key] = value end
  return only, values
end

describe("the API", function()
  it("answers as the original's", async(function()
    local dir <close> = support.dir()
    local recorded = assert(json.decode(assert(fs.read(FILE))))
    local first = recorded.cases[1]
    local home = start(dir, "home")
    local this = start(dir, "this", "names:\n  home: " .. home.peer_id)
    for _, n in ipairs { home, this } do
      n.rules.gating, n.relays = false, {} -- on the wire; the API sees the configuration
    end
    for _, addr in ipairs(home.host:addrs()) do this.host:add_addr(home.peer_id, addr) end
    local keys_file = this.config.security.authorized_keys_file
    assert(fs.write(keys_file, home.peer_id .. "  expires=2030-01-02T03:04:05Z"
      .. "  verified=sha256:a1b2c3d4  group=0011aabb  # home\n"))
    local state = { node = this, version = "1.2.3", shutdown = function() end }
    local compiled = server.compile(routes.routes)
    local ours = { [first.this_peer_id] = this.peer_id, [first.other_peer_id] = home.peer_id,
      [first.this_peer_id:sub(1, 16) .. "%.%.%."] = this.peer_id:sub(1, 16) .. "...",
      [first.other_peer_id:sub(1, 16) .. "%.%.%."] = home.peer_id:sub(1, 16) .. "..." }
    local function translated(text)
      for theirs, mine in pairs(ours) do text = text:gsub(theirs, mine) end
      return (text:gsub("COOKIE", COOKIE))
    end
    for _, case in ipairs(recorded.cases) do
      local name, r = case.name, case.request
      this.config.security.enable_connection_gating = not name:find "without gating"
      if name == "disconnect" then -- the recording does not show how its proxy-1 came to be
        local made = this.host:proxy_listen("127.0.0.1:0", home.peer_id, "/peerup/x/1.0.0")
        state.proxies = { last = 1, count = 1, by_id = { ["proxy-1"] = { proxy = made,
          peer = "home", peer_id = home.peer_id, service = "x", number = 1 } } }
      elseif name == "paths, none" or name == "paths before the tracker exists" then
        this.host:disconnect(home.peer_id)
      elseif name == "peers" then
        assert(this.host:connect(home.peer_id, { timeout = 5 }))
        for _ = 1, 200 do
          if this.host:best_conn(home.peer_id).agent then break end
          core.task.sleep(0.01)
        end
      end
      local path, query = query_of(translated(r.path))
      local headers = {}
      for key, value in pairs(r.headers) do headers[key:lower()] = translated(value) end
      local status, answered, body = server.answer(compiled, state, COOKIE, { method = r.method,
        path = path, query = query, headers = headers, body = translated(r.body) })
      local otherwise = OTHERWISE[name]
      if otherwise then
        assert.equal(otherwise[1], status, name .. ": " .. body)
        assert.is_truthy(body:find(otherwise[2], 1, true), name .. ": " .. body)
      else
        assert.equal(case.status, status, name .. ": " .. body)
        assert.equal(case.content_type, answered["Content-Type"], name)
      end
      if case.allow then assert.equal(case.allow, answered.Allow, name) end
      if not otherwise and case.kind ~= "text" and case.response_json then
        local expected = assert(json.decode(translated(case.response_text)))
        same(expected, assert(json.decode(body)), "answer", name)
      elseif not otherwise and name:find "^status as text" then
        local at = 1
        for key in translated(case.response_text):gmatch("([a-z_0-9]+): ") do
          local _, stop = body:find("\n?" .. key .. ": ", at)
          assert.is_truthy(stop or key == "nat_type", name .. ": " .. key)
          at = stop or at
        end
      elseif not otherwise and case.kind == "text" then
        assert.equal(outline(translated(case.response_text)), outline(body), name)
      end
    end
    this:close()
    home:close()
  end))
end)
