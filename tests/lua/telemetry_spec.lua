--- lua/peerup/telemetry: the text of metrics, what feeds them, the audit log, and serving.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local audit = require "peerup.telemetry.audit"
local core = require "peerup.core"
local json = require "peerup.json"
local metrics = require "peerup.telemetry.metrics"
local registry = require "peerup.telemetry.registry"
local uv = require "luv"

local PEER = support.PEERS[1]

describe("a registry", function()
  it("writes families with their first sample, sorted and escaped", function()
    local r = registry.new()
    r:counter("b_total", "Bees.", { "who" })
    r:counter("a_total", "As.", { "who" }):add(2, 'a "b"\\\n')
    local g = r:gauge("c", "Sees.")
    g:set(1.5)
    assert.equal('# HELP a_total As.\n# TYPE a_total counter\na_total{who="a \\"b\\"\\\\\\n"} 2\n'
      .. "# HELP c Sees.\n# TYPE c gauge\nc 1.5\n", r:text())
    g:reset()
    assert.is_nil(r:text():find("\nc ", 1, true))
  end)

  it("counts into buckets", function()
    local r = registry.new()
    local h = r:histogram("h_seconds", "H.", { "x" }, { 0.005, 0.1, 2 })
    h:observe(0.1, "y")
    h:observe(7, "y")
    local text = r:text()
    for _, line in ipairs {
      'h_seconds_bucket{x="y",le="0.005"} 0', 'h_seconds_bucket{x="y",le="0.1"} 1',
      'h_seconds_bucket{x="y",le="2"} 1', 'h_seconds_bucket{x="y",le="+Inf"} 2',
      'h_seconds_sum{x="y"} 7.1', 'h_seconds_count{x="y"} 2' } do
      assert.is_truthy(text:find(line .. "\n", 1, true), text)
    end
  end)

  it("bounds what labels from outside can make it keep", function()
    local r = registry.new()
    local c = r:counter("c_total", "C.", { "path" })
    for i = 1, registry.SERIES_MAX + 500 do c:add(1, "/" .. i) end
    local _, count = r:text():gsub("\nc_total{", "")
    assert.equal(registry.SERIES_MAX, count)
  end)
end)

--- A node as the metrics see it.
local function fake_node()
  local stats = { bytes_in = 10, bytes_out = 20, active = 1 }
  local conns = { { peer = PEER, addr = "/ip4/192.0.2.1/udp/1/quic-v1", relayed = false } }
  return { exposed = { ["/peerup/web/1.0.0"] = { name = "web",
    proxy = { stats = function() return stats end } } }, carried = {}, names = {},
    host = { conns = function() return conns end, best_conn = function() return conns[1] end } },
    stats
end

describe("a node's metrics", function()
  it("are fed by events, each counted once", function()
    local n, stats = fake_node()
    local m = metrics.node(n, "1.2.3")
    for _, event in ipairs {
      { type = "decision", ask = "accept", allowed = true },
      { type = "decision", ask = "inbound", allowed = true, peer = PEER },
      { type = "decision", ask = "inbound", allowed = false, peer = PEER },
      { type = "decision", ask = "stream", allowed = false, peer = PEER },
      { type = "service", service = "web", opened = true },
      { type = "service", service = "web", opened = false, duration_us = 3000000 },
      { type = "request", method = "GET", path = "/v1/status", status = 200, seconds = 0.001 },
      { type = "request", method = "DELETE", path = "/v1/auth/" .. PEER, status = 200,
        seconds = 1 },
      { type = "dialled", path = "DIRECT", seconds = 0.15 },
      { type = "dialled", seconds = 60, code = "timeout" },
      { type = "something else" },
    } do m.on_event(event) end
    local text = m.registry:text()
    for _, line in ipairs {
      'peerup_info{version="1.2.3",go_version="none",lua_version="5.4"} 1',
      'peerup_auth_decisions_total{decision="allow"} 1',
      'peerup_auth_decisions_total{decision="deny"} 1',
      'peerup_proxy_connections_total{service="web"} 1',
      'peerup_proxy_bytes_total{direction="rx",service="web"} 10',
      'peerup_proxy_bytes_total{direction="tx",service="web"} 20',
      'peerup_proxy_active_connections{service="web"} 1',
      'peerup_proxy_duration_seconds_bucket{service="web",le="2"} 0',
      'peerup_proxy_duration_seconds_bucket{service="web",le="4"} 1',
      'peerup_proxy_duration_seconds_bucket{service="web",le="2048"} 1',
      'peerup_daemon_requests_total{method="GET",path="/v1/status",status="200"} 1',
      'peerup_daemon_requests_total{method="DELETE",path="/v1/auth/:id",status="200"} 1',
      'peerup_path_dial_total{path_type="DIRECT",result="success"} 1',
      'peerup_path_dial_total{path_type="none",result="failure"} 1',
      'peerup_path_dial_duration_seconds_bucket{path_type="DIRECT",le="0.1"} 0',
      'peerup_path_dial_duration_seconds_bucket{path_type="DIRECT",le="0.2"} 1',
      'peerup_path_dial_duration_seconds_bucket{path_type="none",le="51.2"} 0',
      'peerup_connected_peers{path_type="DIRECT",transport="quic",ip_version="ipv4"} 1',
    } do
      assert.is_truthy(text:find("\n" .. line .. "\n", 1, true), line)
    end
    for _, name in ipairs { "process_cpu_seconds_total", "process_resident_memory_bytes",
      "process_virtual_memory_bytes", "process_open_fds", "process_max_fds",
      "process_start_time_seconds" } do
      assert.matches("\n" .. name .. " %d", text)
    end
    stats.bytes_in = 15 -- a service that stands, and one that ended before under its name
    n.carried.web = { bytes_in = 100, bytes_out = 0 }
    assert.matches('direction="rx",service="web"} 115\n', m.registry:text())
  end)
end)

describe("the audit log", function()
  it("is a line for each decision on access, request and change", function()
    local lines = {}
    local tell = audit.new(function(line) lines[#lines + 1] = line end,
      function() return 1800000000 end)
    for _, event in ipairs {
      { type = "decision", ask = "inbound", allowed = true, peer = PEER },
      { type = "decision", ask = "inbound", allowed = false, peer = PEER, why = "not authorized" },
      { type = "decision", ask = "stream", allowed = false, peer = PEER, service = "ssh" },
      { type = "decision", ask = "stream", allowed = true, peer = PEER, service = "ssh" },
      { type = "request", method = "DELETE", path = "/v1/auth/x", status = 200, seconds = 1 },
      { type = "auth_change", action = "add", peer = PEER },
      { type = "connected" },
    } do tell(event) end
    assert.equal(5, #lines)
    assert.equal('{"time":"2027-01-15T08:00:00Z","level":"INFO","msg":"auth_decision","audit":'
      .. '{"peer":"' .. PEER:sub(1, 16) .. '...","direction":"inbound","result":"allow"}}\n',
      lines[1])
    assert.equal("deny", json.decode(lines[2]).audit.result)
    assert.equal("WARN", json.decode(lines[3]).level)
    assert.equal("service_acl_denied", json.decode(lines[3]).msg)
    assert.equal("/v1/auth/:id", json.decode(lines[4]).audit.path)
    assert.equal("add", json.decode(lines[5]).audit.action)
  end)
end)

--- GETs a path from an address; returns the status and the body.
local function get(address, path)
  local host, port = address:match "^(.*):(%d+)$"
  return core.task.await(function(resume)
    local tcp, parts = uv.new_tcp(), {}
    tcp:connect(host, tonumber(port), function(problem)
      assert(not problem, problem)
      tcp:write(("GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):format(path))
      tcp:read_start(function(_, chunk)
        if chunk then parts[#parts + 1] = chunk return end
        tcp:close()
        local all = table.concat(parts)
        resume(tonumber(all:match "^HTTP/1.1 (%d+)"), all:match "\r\n\r\n(.*)$", all)
      end)
    end)
  end)
end

describe("serving", function()
  it("gives metrics and health, and nothing else", async(function()
    local r = registry.new()
    r:gauge("x", "X."):set(1)
    local server <close> = assert(metrics.serve { address = "127.0.0.1:0", registry = r,
      health = function() return json.object("status", "ok") end })
    local address = server:address()
    assert.matches("^127%.0%.0%.1:%d+$", address)
    local status, body, all = get(address, "/metrics")
    assert.equal(200, status)
    assert.is_truthy(body:find("x 1\n", 1, true))
    assert.is_truthy(all:find("text/plain; version=0.0.4", 1, true))
    status, body = get(address, "/healthz")
    assert.equal(200, status)
    assert.equal('{"status":"ok"}\n', body)
    assert.equal(404, (get(address, "/")))
    local none, problem = metrics.serve { address = address, registry = r }
    assert.is_nil(none)
    assert.matches("in use", tostring(problem))
    for _, bad in ipairs { "", "nowhere", "127.0.0.1", "127.0.0.1:99999", "[::1", ":80:x",
      "a:b" } do
      none = metrics.serve { address = bad, registry = r }
      assert.is_nil(none, bad)
    end
  end))
end)
