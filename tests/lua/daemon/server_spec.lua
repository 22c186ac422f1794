--- lua/peerup/daemon/server.lua and routes.lua: cookie, routing, envelopes, texts.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local json = require "peerup.json"
local routes = require "peerup.daemon.routes"
local server = require "peerup.daemon.server"
local uv = require "luv"

local A, B, C = table.unpack(support.PEERS)
local COOKIE = ("ab"):rep(32)

--- A node as the routes see it, connected to two peers.
local function state(fields)
  local conns = {
    { peer = B, addr = "/ip4/192.0.2.1/tcp/9", agent = "peerup/1", relayed = false,
      opened_unix_ms = 1800000000000, rtt_us = 6120 },
    { peer = C, addr = "/ip6/2001:db8::1/udp/9/quic-v1", agent = "kubo/1", relayed = false,
      opened_unix_ms = 1800000000000, rtt_us = 0 },
    { peer = B, addr = "/ip4/192.0.2.1/tcp/8", agent = "peerup/1", relayed = true,
      opened_unix_ms = 1800000000000, rtt_us = 0 },
  }
  local s = {
    version = "1.2.3", shutdown = function() end,
    node = {
      peer_id = A, uptime = function() return 90 end,
      config = { network = {}, security = { enable_connection_gating = true,
        authorized_keys_file = "/nonexistent/keys" } },
      exposed = {
        ["/peerup/web/1.0.0"] = { name = "web", local_address = "localhost:80" },
        ["/peerup/ssh/1.0.0"] = { name = "ssh", local_address = "localhost:22" },
      },
      host = {
        addrs = function() return { "/ip4/127.0.0.1/tcp/42723", "/ip4/1.2.3.4/tcp/1/p2p/" .. C
          .. "/p2p-circuit" } end,
        conns = function() return conns end,
        limits = function() return {
          { name = "connections.total", used = 3, limit = 4096, refused = 0 },
          { name = "connections.pending", used = 1, limit = 128, refused = 7 },
          { name = "memory.handshake", used = 0, limit = 65536, refused = 2 },
        } end,
        dial_state = function() return { udp_dark = false, ip6_dark = false } end,
        resting_addrs = function() return {} end,
        known_addrs = function(_, peer) return peer == B and { "/ip4/192.0.2.1/tcp/9" } or {} end,
        best_conn = function(_, peer)
          for _, conn in ipairs(conns) do if conn.peer == peer then return conn end end
        end,
      },
    },
  }
  for key, value in pairs(fields or {}) do s.node[key] = value end
  return s
end

local function request(s, method, path, options)
  options = options or {}
  return server.answer(server.compile(routes.routes), s, COOKIE, {
    method = method, path = path, query = options.query or "", body = options.body or "",
    headers = options.headers or { Authorization = "Bearer " .. COOKIE, Accept = options.accept },
  })
end

describe("requests", function()
  it("need the cookie, before anything else", function()
    for _, headers in ipairs { {}, { Authorization = "Bearer 00" }, { Authorization = COOKIE },
      { Authorization = "bearer " .. COOKIE }, { Authorization = "Bearer " .. COOKIE .. "0" } } do
      local status, answer_headers, body = request(state(), "GET", "/v1/nothing",
        { headers = headers })
      assert.equal(401, status)
      assert.equal("application/json", answer_headers["Content-Type"])
      assert.equal('{"error":"unauthorized: invalid or missing auth token"}\n', body)
    end
  end)

  it("to unknown paths and with wrong methods are answered in plain text", function()
    local status, headers, body = request(state(), "GET", "/v1/nothing")
    assert.same({ 404, "404 page not found\n" }, { status, body })
    assert.equal("text/plain; charset=utf-8", headers["Content-Type"])
    assert.equal(404, (request(state(), "GET", "/v1/status/")))
    status, headers, body = request(state(), "PUT", "/v1/status")
    assert.same({ 405, "Method Not Allowed\n", "GET, HEAD" }, { status, body, headers.Allow })
    assert.equal(200, (request(state(), "HEAD", "/v1/status")))
    assert.equal(405, (request(state(), "GET", "/v1/shutdown")))
  end)

  it("take parameters from the path", function()
    local seen
    local compiled = server.compile { ["DELETE /v1/auth/{peer_id}"] = {
      run = function(_, _, parameter) seen = parameter return true end } }
    local headers = { Authorization = "Bearer " .. COOKIE }
    assert.equal(200, (server.answer(compiled, {}, COOKIE, { method = "DELETE", path = "/v1/auth/x",
      headers = headers })))
    assert.equal("x", seen)
    for _, path in ipairs { "/v1/auth/", "/v1/auth/x/y", "/v1/auth" } do
      assert.equal(404, (server.answer(compiled, {}, COOKIE, { method = "DELETE", path = path,
        headers = headers })))
    end
  end)
end)

describe("status", function()
  it("has the fields of the API", function()
    local _, headers, body = request(state(), "GET", "/v1/status")
    assert.equal("application/json", headers["Content-Type"])
    local data = json.decode(body).data
    assert.equal(A, data.peer_id)
    assert.equal(90, data.uptime_seconds)
    assert.equal(2, data.connected_peers)
    assert.equal(2, data.services_count)
    assert.same({ "/ip4/127.0.0.1/tcp/42723" }, data.listen_addresses)
    assert.same({ "/ip4/1.2.3.4/tcp/1/p2p/" .. C .. "/p2p-circuit" }, data.relay_addresses)
    assert.matches("^[ABCDF]$", data.reachability.grade)
    assert.same({ used = 1, limit = 128, refused = 7 }, data.limits["connections.pending"])
    assert.matches('^{"data":{"peer_id":', body)
  end)

  it("has a text form, chosen by query or Accept", function()
    for _, options in ipairs { { query = "format=text" }, { query = { format = "text" } },
      { accept = "application/json, text/plain, */*", query = "format=json" } } do
      local _, headers, body = request(state(), "GET", "/v1/status", options)
      assert.equal("text/plain", headers["Content-Type"])
      assert.matches("^peer_id: " .. A .. "\nversion: 1.2.3\nuptime: 90s\nconnected_peers: 2\n"
        .. "services: 2\nglobal_ipv6: %a+\nglobal_ipv4: %a+\nis_relaying: false\n"
        .. "reachability: %[%a%] %a+ %- [^\n]+\nlisten_addresses: 1\n  /ip4/127.0.0.1/tcp/42723\n"
        .. "relay_addresses: 1\n  /ip4/[^\n]+\npaths: %d\n  [^\t]+\t%u+\t%l+\tipv%d\t", body)
      assert.is_truthy(body:find("\nlimits: 2\n  connections.pending: refused 7 times at 128 "
        .. "(raise limits.connections.pending)\n  memory.handshake: refused 2 times at 65536\n",
        1, true))
    end
  end)

  it("tells what dialling has learned", function()
    local s = state()
    local _, _, body = request(s, "GET", "/v1/status")
    assert.same({ udp_blocked = false, ipv6_blocked = false, resting_count = 0, resting = {} },
      json.decode(body).data.dialling)
    _, _, body = request(s, "GET", "/v1/status", { query = "format=text" })
    assert.is_nil(body:find("\nudp:", 1, true) or body:find("\nipv6:", 1, true))
    s.node.host.dial_state = function() return { udp_dark = true, ip6_dark = true } end
    s.node.host.resting_addrs = function()
      local list = {}
      for i = 1, 100 do
        list[i] = { peer = B, addr = "/ip4/192.0.2." .. i .. "/tcp/9", failures = i, rest_s = i }
      end
      return list
    end
    _, _, body = request(s, "GET", "/v1/status")
    local data = json.decode(body).data.dialling
    assert.same({ true, true, 100, 64 }, { data.udp_blocked, data.ipv6_blocked,
      data.resting_count, #data.resting })
    assert.same({ peer_id = B, address = "/ip4/192.0.2.100/tcp/9", failures = 100,
      rest_seconds = 100 }, data.resting[1])
    _, _, body = request(s, "GET", "/v1/status", { query = "format=text" })
    assert.matches("\nudp: blocked here, it seems; TCP goes first, [^\n]+\nipv6: [^\n]+\nlimits:",
      body)
  end)

  it("says null for empty lists", function()
    local s = state()
    s.node.host.addrs = function() return {} end
    local _, _, body = request(s, "GET", "/v1/status")
    assert.matches('"listen_addresses":null,"relay_addresses":null', body, 1, true)
  end)
end)

describe("lists", function()
  it("are sorted, and [] when empty", function()
    local _, _, body = request(state(), "GET", "/v1/services")
    assert.equal('{"data":[{"name":"ssh","protocol":"/peerup/ssh/1.0.0","local_address":'
      .. '"localhost:22","enabled":true},{"name":"web","protocol":"/peerup/web/1.0.0",'
      .. '"local_address":"localhost:80","enabled":true}]}\n', body)
    _, _, body = request(state(), "GET", "/v1/services", { query = "format=text" })
    assert.equal("ssh\tlocalhost:22\t/peerup/ssh/1.0.0\tenabled\n"
      .. "web\tlocalhost:80\t/peerup/web/1.0.0\tenabled\n", body)
    _, _, body = request(state { exposed = {} }, "GET", "/v1/services")
    assert.equal('{"data":[]}\n', body)
  end)

  it("of peers hide other programs unless all are wanted", function()
    local _, _, body = request(state(), "GET", "/v1/peers")
    assert.equal(('{"data":[{"id":"%s","addresses":["/ip4/192.0.2.1/tcp/9"],"agent_version":'
      .. '"peerup/1"}]}\n'):format(B), body)
    _, _, body = request(state(), "GET", "/v1/peers", { query = "all=true" })
    assert.equal(2, #json.decode(body).data)
    assert.matches('"addresses":null', body, 1, true)
    _, _, body = request(state(), "GET", "/v1/peers", { query = "format=text" })
    assert.equal(B:sub(1, 16) .. "...\tpeerup/1\t1 addrs\n", body)
  end)

  it("of paths have one row per peer", function()
    local _, _, body = request(state(), "GET", "/v1/paths")
    local data = json.decode(body).data
    assert.equal(2, #data)
    local by_peer = {}
    for _, row in ipairs(data) do by_peer[row.peer_id] = row end
    assert.same({ "DIRECT", "tcp", "ipv4", 6.12 }, { by_peer[B].path_type, by_peer[B].transport,
      by_peer[B].ip_version, by_peer[B].last_rtt_ms })
    assert.same({ "quic", "ipv6" }, { by_peer[C].transport, by_peer[C].ip_version })
    assert.is_nil(by_peer[C].last_rtt_ms)
    assert.matches("^2027%-01%-1%dT%d%d:00:00[Z+-]", by_peer[B].connected_at)
    _, _, body = request(state(), "GET", "/v1/paths", { query = "format=text" })
    assert.matches(B:sub(1, 16) .. "...\tDIRECT\ttcp\tipv4\trtt=6.1ms\n", body, 1, true)
    assert.matches("\tquic\tipv6\trtt=-\n", body, 1, true)
  end)

  it("of authorized peers come from the file", function()
    local dir <close> = support.dir()
    local path = dir.path .. "/keys"
    assert(fs.write(path, A .. " expires=2030-01-02T03:04:05Z group=9 # <one>\nbad\n" .. B .. "\n"))
    local s = state()
    assert.equal('{"data":[]}\n', select(3, request(s, "GET", "/v1/auth")))
    s.node.config.security.authorized_keys_file = path
    assert.equal(('{"data":[{"peer_id":"%s","comment":"\\u003cone\\u003e","expires_at":'
      .. '"2030-01-02T03:04:05Z","group":"9"},{"peer_id":"%s"}]}\n'):format(A, B),
      select(3, request(s, "GET", "/v1/auth")))
    assert.equal(A .. "\t# <one>\n" .. B .. "\n",
      select(3, request(s, "GET", "/v1/auth", { query = "format=text" })))
    s.node.config.security.enable_connection_gating = false
    assert.equal('{"data":[]}\n', select(3, request(s, "GET", "/v1/auth")))
  end)
end)

describe("shutdown", function()
  it("is asked of the owner", function()
    local s, asked = state(), 0
    s.shutdown = function() asked = asked + 1 end
    local status, _, body = request(s, "POST", "/v1/shutdown")
    assert.same({ 200, '{"data":{"status":"shutting down"}}\n', 1 }, { status, body, asked })
  end)
end)

describe("the socket", function()
  it("is claimed when nobody answers, and refused when somebody does", async(function()
    local dir <close> = support.dir()
    local paths = server.paths(dir.path)
    assert.equal(dir.path .. "/peerup.sock", paths.socket)
    assert.is_true(server.claim(paths))
    assert(fs.write(paths.socket, "not a socket"))
    assert(fs.write(paths.cookie, "old"))
    assert.is_true(server.claim(paths))
    assert.is_false(fs.exists(paths.socket))
    assert.is_false(fs.exists(paths.cookie))
    local pipe = uv.new_pipe(false)
    pipe:bind(paths.socket)
    pipe:listen(1, function() end)
    local ok, problem = server.claim(paths)
    pipe:close()
    assert.is_nil(ok)
    assert.matches("daemon already running: socket " .. paths.socket .. " is already in use",
      tostring(problem), 1, true)
  end))
end)
