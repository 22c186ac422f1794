--- The metrics of a node and of a relay (daemon-api.md 6): a listener of the bus of events, and
-- what is read at a scrape. A service's bytes count once: rx came from peers, tx went to them.
local core = require "peerup.core"
local net = require "peerup.net"
local node = require "peerup.node"
local registry = require "peerup.telemetry.registry"
local uv = require "luv"

local M = {}

M.CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

local function doubling(first, count)
  local buckets = {}
  for i = 1, count do buckets[i] = first * 2 ^ (i - 1) end
  return buckets
end

local REQUEST_BUCKETS = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 }

-- ---- the process ----

local function entries(path)
  local count, scan = 0, uv.fs_scandir(path)
  while scan and uv.fs_scandir_next(scan) do count = count + 1 end
  return count
end

local function read(path)
  local file <close> = io.open(path, "r")
  return file and file:read "a" or ""
end

--- Declares what every process tells of itself, and feeds it at each scrape.
local function process(r)
  local cpu = r:counter("process_cpu_seconds_total", "User and system CPU time spent, in seconds.")
  local resident = r:gauge("process_resident_memory_bytes", "Resident memory, in bytes.")
  local virtual = r:gauge("process_virtual_memory_bytes", "Virtual memory, in bytes.")
  local open = r:gauge("process_open_fds", "Open file descriptors.")
  local most = r:gauge("process_max_fds", "Most file descriptors that may be open.")
  local start = r:gauge("process_start_time_seconds", "When the process started, in Unix seconds.")
  start:set(os.time())
  r:collect(function()
    local usage = uv.getrusage()
    cpu:set(usage.utime.sec + usage.utime.usec / 1e6 + usage.stime.sec + usage.stime.usec / 1e6)
    resident:set(uv.resident_set_memory())
    open:set(math.max(0, entries "/proc/self/fd" - 1)) -- but the one that looks
    local kb = read "/proc/self/status":match "VmSize:%s*(%d+) kB"
    if kb then virtual:set(tonumber(kb) * 1024) end
    local limit = read "/proc/self/limits":match "Max open files%s+(%d+)"
    if limit then most:set(tonumber(limit)) end
  end)
end

--- What nodes and relays have in common.
local function common(version)
  local r = registry.new()
  r:gauge("peerup_info", "The program.", { "version", "go_version", "lua_version" })
    :set(1, version, "none", _VERSION:match "[%d.]+")
  process(r)
  return r, r:counter("peerup_auth_decisions_total",
    "Decisions on inbound connections, by outcome.", { "decision" })
end

local function count_decision(decisions, event)
  if event.ask == "inbound" then decisions:add(1, event.allowed and "allow" or "deny") end
end

-- ---- a relay ----

---@return {registry: peerup.metric_registry, on_event: fun(event: table)}
function M.relay(version)
  local r, decisions = common(version)
  return { registry = r, on_event = function(event)
    if event.type == "decision" then count_decision(decisions, event) end
  end }
end

-- ---- a node ----

--- The bytes of services that stand, and what ended ones have carried.
local function feed_services(r, n)
  local bytes = r:counter("peerup_proxy_bytes_total",
    "Bytes of services' connections: rx from peers, tx to them.", { "direction", "service" })
  local active = r:gauge("peerup_proxy_active_connections", "Connections to services, open now.",
    { "service" })
  r:collect(function()
    for _, exposed in pairs(n.exposed) do
      local stats = exposed.proxy:stats()
      if stats then
        local before = n.carried[exposed.name] or { bytes_in = 0, bytes_out = 0 }
        bytes:set(before.bytes_in + stats.bytes_in, "rx", exposed.name)
        bytes:set(before.bytes_out + stats.bytes_out, "tx", exposed.name)
        active:set(stats.active, exposed.name)
      end
    end
  end)
end

local function feed_peers(r, n)
  local connected = r:gauge("peerup_connected_peers", "Peers, by their best path.",
    { "path_type", "transport", "ip_version" })
  local interfaces = r:gauge("peerup_interface_count", "Global addresses of this machine.",
    { "ip_version" })
  r:collect(function()
    connected:reset()
    local seen = {}
    for _, standing in ipairs(n.host and n.host:conns() or {}) do
      if not seen[standing.peer] then
        seen[standing.peer] = true
        local conn = n.host:best_conn(standing.peer) or standing
        local transport, ip = net.words(conn.addr)
        connected:add(1, node.path_of(conn), transport, ip)
      end
    end
    local addresses = net.global_addresses()
    interfaces:set(#addresses.ipv4, "ipv4")
    interfaces:set(#addresses.ipv6, "ipv6")
  end)
end

--- Counts changes of the machine's global addresses.
local function network_watch(r)
  local changes = r:counter("peerup_network_change_total",
    "Changes of this machine's global addresses.", { "change_type" })
  local function state()
    local now = net.global_addresses()
    return { ipv4 = table.concat(now.ipv4, " "), ipv6 = table.concat(now.ipv6, " ") }
  end
  local last = state()
  return function()
    local now = state()
    for _, version in ipairs { "ipv4", "ipv6" } do
      if now[version] ~= last[version] then changes:add(1, version) end
    end
    last = now
  end
end

--- The path of a request as a label: without the part that names one thing.
local function path_label(path)
  return (path:gsub("^(/v1/%a+)/[^/]+$", "%1/:id"))
end

---@param n peerup.node
---@param version string
---@return {registry: peerup.metric_registry, on_event: fun(event: table)}
function M.node(n, version)
  local r, decisions = common(version)
  local connections = r:counter("peerup_proxy_connections_total", "Connections to services.",
    { "service" })
  local durations = r:histogram("peerup_proxy_duration_seconds",
    "How long connections to services lasted.", { "service" }, doubling(1, 12))
  local requests = r:counter("peerup_daemon_requests_total", "Requests of the daemon's API.",
    { "method", "path", "status" })
  local latency = r:histogram("peerup_daemon_request_duration_seconds",
    "How long requests of the daemon's API took.", { "method", "path", "status" },
    REQUEST_BUCKETS)
  local dials = r:counter("peerup_path_dial_total", "Attempts to reach a peer, by what came of it.",
    { "path_type", "result" })
  local dial_times = r:histogram("peerup_path_dial_duration_seconds",
    "How long it took to reach a peer.", { "path_type" }, doubling(0.1, 10))
  feed_services(r, n)
  feed_peers(r, n)
  local network_changed = network_watch(r)
  local listeners = {
    decision = function(event) count_decision(decisions, event) end,
    service = function(event)
      if event.opened then return connections:add(1, event.service) end
      durations:observe(event.duration_us / 1e6, event.service)
    end,
    request = function(event)
      local path, status = path_label(event.path), tostring(event.status)
      requests:add(1, event.method, path, status)
      latency:observe(event.seconds, event.method, path, status)
    end,
    dialled = function(event)
      local path = event.path or "none"
      dials:add(1, path, event.path and "success" or "failure")
      dial_times:observe(event.seconds, path)
    end,
    addresses = network_changed,
  }
  return { registry = r, on_event = function(event)
    local listener = listeners[event.type]
    if listener then listener(event) end
  end }
end

-- ---- serving ----

local function is_loopback(ip)
  return ip == "::1" or ip:find "^127%." ~= nil or ip:find "^::ffff:127%." ~= nil
end

--- Serves /metrics, and /healthz where health is given.
---@param options {address: string, registry: peerup.metric_registry?, health: (fun(): table)?}
---@return peerup.http_server?, peerup.err?
function M.serve(options)
  local json = require "peerup.json"
  local plain = { ["Content-Type"] = "text/plain; charset=utf-8" }
  return core.http.serve({ address = options.address, max_body = 1024, max_conns = 32,
    timeout = 10 }, function(request)
    if request.path == "/healthz" and options.health then
      if not is_loopback(request.remote or "") then return 403, plain, "forbidden\n" end
      return 200, { ["Content-Type"] = "application/json" }, json.encode(options.health()) .. "\n"
    elseif request.path == "/metrics" and options.registry then
      if request.method ~= "GET" and request.method ~= "HEAD" then
        return 405, { ["Content-Type"] = plain["Content-Type"], Allow = "GET, HEAD" },
          "Method Not Allowed\n"
      end
      return 200, { ["Content-Type"] = M.CONTENT_TYPE }, options.registry:text()
    end
    return 404, plain, "404 page not found\n"
  end)
end

return M
