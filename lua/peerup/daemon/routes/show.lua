--- Endpoints that show: status, services, peers, paths (daemon-api.md 3).
local keys = require "peerup.authorized_keys"
local json = require "peerup.json"
local limits = require "peerup.limits"
local net = require "peerup.net"
local node = require "peerup.node"
local text = require "peerup.daemon.text"
local transports = require "peerup.transports"

-- ---- paths ----

local function local_time(unix_ms)
  local time = os.date("%Y-%m-%dT%H:%M:%S%z", unix_ms // 1000)
  time = time:gsub("(%d%d)(%d%d)$", "%1:%2")
  return (time:gsub("%+00:00$", "Z"))
end

local function paths(state)
  local host = state.node.host
  local list, seen = json.array(), {}
  for _, standing in ipairs(host:conns()) do
    if not seen[standing.peer] then
      seen[standing.peer] = true
      local conn = host:best_conn(standing.peer) or standing
      local transport, ip = net.words(conn.addr)
      local rtt = (conn.rtt_us or 0) > 0 and conn.rtt_us / 1000 or nil
      list[#list + 1] = json.object("peer_id", conn.peer, "path_type", node.path_of(conn),
        "address", conn.addr, "connected_at", local_time(conn.opened_unix_ms),
        "transport", transport, "ip_version", ip, "last_rtt_ms", rtt)
    end
  end
  return text.sorted(list, "peer_id")
end

local function path_row(p)
  return ("%s\t%s\t%s\t%s\trtt=%s"):format(keys.short(p.peer_id), p.path_type, p.transport,
    p.ip_version, p.last_rtt_ms and ("%.1fms"):format(p.last_rtt_ms) or "-")
end
local paths_text = text.rows(path_row)

-- ---- dialling ----

local RESTING_MAX = 64 -- told of addresses at rest; their count is told in any case

--- What dialling has learned of this network: the ways that seem blocked, and what rests.
local function dialling(host)
  local state, resting = host:dial_state(), host:resting_addrs()
  local list = json.array()
  table.sort(resting, function(a, b)
    if a.rest_s ~= b.rest_s then return a.rest_s > b.rest_s end
    return a.peer .. a.addr < b.peer .. b.addr
  end)
  for i = 1, math.min(#resting, RESTING_MAX) do
    local r = resting[i]
    list[i] = json.object("peer_id", r.peer, "address", r.addr, "failures", r.failures,
      "rest_seconds", r.rest_s)
  end
  return json.object("udp_blocked", state.udp_dark, "ipv6_blocked", state.ip6_dark,
    "resting_count", #resting, "resting", list)
end

local function dialling_lines(lines, data)
  if data.udp_blocked then
    lines[#lines + 1] = "udp: blocked here, it seems; TCP goes first, QUIC is tried now and then"
  end
  if data.ipv6_blocked then
    lines[#lines + 1] = "ipv6: leads nowhere from here, it seems; IPv4 goes first"
  end
end

-- ---- status ----

local function status(state)
  local n = state.node
  local listen, relayed, peers, count = {}, {}, {}, 0
  for _, addr in ipairs(n.host:addrs()) do
    local list = addr:find("/p2p-circuit", 1, true) and relayed or listen
    list[#list + 1] = addr
  end
  for _, conn in ipairs(n.host:conns()) do
    if not peers[conn.peer] then
      peers[conn.peer] = true
      count = count + 1
    end
  end
  local services = 0
  for _ in pairs(n.exposed) do services = services + 1 end
  local interfaces = net.interfaces()
  local reachability = net.reachability(interfaces)
  return json.object("peer_id", n.peer_id, "version", state.version,
    "uptime_seconds", n:uptime(), "connected_peers", count,
    "listen_addresses", json.array_or_null(listen),
    "relay_addresses", json.array_or_null(relayed), "services_count", services,
    "has_global_ipv6", interfaces.global_ipv6, "has_global_ipv4", interfaces.global_ipv4,
    "is_relaying", false, "reachability", json.object("grade", reachability.grade,
      "label", reachability.label, "description", reachability.description),
    "transports", json.array(select(2, transports.on(n.config))), "paths", paths(state),
    "dialling", dialling(n.host), "limits", limits.counts(n.host))
end

local function status_text(data)
  local lines = {
    "peer_id: " .. data.peer_id, "version: " .. data.version,
    ("uptime: %ds"):format(data.uptime_seconds),
    "connected_peers: " .. data.connected_peers, "services: " .. data.services_count,
    "global_ipv6: " .. tostring(data.has_global_ipv6),
    "global_ipv4: " .. tostring(data.has_global_ipv4),
    "is_relaying: " .. tostring(data.is_relaying),
    ("reachability: [%s] %s - %s"):format(data.reachability.grade, data.reachability.label,
      data.reachability.description),
  }
  for _, key in ipairs { "listen_addresses", "relay_addresses" } do
    local list = data[key] == json.null and {} or data[key]
    lines[#lines + 1] = ("%s: %d"):format(key, #list)
    for _, addr in ipairs(list) do lines[#lines + 1] = "  " .. addr end
  end
  if #data.transports < #transports.NAMES then
    lines[#lines + 1] = "transports: " .. table.concat(data.transports, ", ")
  end
  lines[#lines + 1] = "paths: " .. #data.paths
  for _, path in ipairs(data.paths) do lines[#lines + 1] = "  " .. path_row(path) end
  dialling_lines(lines, data.dialling)
  local refusals = limits.refusals(data.limits)
  if #refusals > 0 then lines[#lines + 1] = "limits: " .. #refusals end
  for _, refusal in ipairs(refusals) do lines[#lines + 1] = "  " .. refusal end
  return table.concat(lines, "\n") .. "\n"
end

-- ---- services ----

local function services(state)
  local list = json.array()
  for protocol, exposed in pairs(state.node.exposed) do
    list[#list + 1] = json.object("name", exposed.name, "protocol", protocol,
      "local_address", exposed.local_address, "enabled", true)
  end
  return text.sorted(list, "name")
end

local services_text = text.rows(function(s)
  return ("%s\t%s\t%s\t%s"):format(s.name, s.local_address, s.protocol,
    s.enabled and "enabled" or "disabled")
end)

-- ---- peers ----

local function is_ours(agent)
  return agent:sub(1, 7) == "peerup/" or agent:sub(1, 13) == "relay-server/"
end

local function wants_all(request)
  local query = request.query
  if type(query) == "table" then return query.all == "true" end
  return type(query) == "string" and ("&" .. query .. "&"):find("&all=true&", 1, true) ~= nil
end

local function peers(state, request)
  local host = state.node.host
  local seen, list, all = {}, json.array(), wants_all(request)
  for _, conn in ipairs(host:conns()) do
    local agent = conn.agent or ""
    if not seen[conn.peer] and (all or is_ours(agent)) then
      seen[conn.peer] = true
      list[#list + 1] = json.object("id", conn.peer,
        "addresses", json.array_or_null(host:known_addrs(conn.peer)),
        "agent_version", agent ~= "" and agent or nil)
    end
  end
  return text.sorted(list, "id")
end

local peers_text = text.rows(function(p)
  return ("%s\t%s\t%d addrs"):format(keys.short(p.id), p.agent_version or "unknown",
    p.addresses == json.null and 0 or #p.addresses)
end)

return {
  ["GET /v1/status"] = { run = status, text = status_text },
  ["GET /v1/services"] = { run = services, text = services_text },
  ["GET /v1/peers"] = { run = peers, text = peers_text },
  ["GET /v1/paths"] = { run = paths, text = paths_text },
}
