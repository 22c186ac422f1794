--- The endpoints of the daemon's API: what each says, as data and as text (daemon-api.md 3).
-- A route is { run = fn(state, request, parameter), text = fn(data, state)? }. run returns the
-- answer's data, or nil, error, status. state: node, version, shutdown().
local fs = require "peerup.fs"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local limits = require "peerup.limits"
local logs = require "peerup.log"
local net = require "peerup.net"
local node = require "peerup.node"

local M = {}

local function sorted(list, field)
  table.sort(list, function(a, b) return a[field] < b[field] end)
  return list
end

local function rows_text(row)
  return function(data)
    local lines = {}
    for _, item in ipairs(data) do lines[#lines + 1] = row(item) .. "\n" end
    return table.concat(lines)
  end
end

-- ---- paths ----

local TRANSPORTS = { ["quic-v1"] = "quic", ws = "websocket", wss = "websocket", tcp = "tcp" }

--- Transport and IP version of an address, in the API's words; of one through a relay, those of the
--- connection to the relay.
local function address_words(addr)
  local transport = TRANSPORTS[net.transport(addr)] or "unknown"
  local ip = addr:find("^/ip4/") and "ipv4" or addr:find("^/ip6/") and "ipv6" or "unknown"
  return transport, ip
end

local function local_time(unix_ms)
  local text = os.date("%Y-%m-%dT%H:%M:%S%z", unix_ms // 1000)
  text = text:gsub("(%d%d)(%d%d)$", "%1:%2")
  return (text:gsub("%+00:00$", "Z"))
end

local function paths(state)
  local host = state.node.host
  local list, seen = json.array(), {}
  for _, standing in ipairs(host:conns()) do
    if not seen[standing.peer] then
      seen[standing.peer] = true
      local conn = host:best_conn(standing.peer) or standing
      local transport, ip = address_words(conn.addr)
      local rtt = (conn.rtt_us or 0) > 0 and conn.rtt_us / 1000 or nil
      list[#list + 1] = json.object("peer_id", conn.peer, "path_type", node.path_of(conn),
        "address", conn.addr, "connected_at", local_time(conn.opened_unix_ms),
        "transport", transport, "ip_version", ip, "last_rtt_ms", rtt)
    end
  end
  return sorted(list, "peer_id")
end

local function path_row(p)
  return ("%s\t%s\t%s\t%s\trtt=%s"):format(keys.short(p.peer_id), p.path_type, p.transport,
    p.ip_version, p.last_rtt_ms and ("%.1fms"):format(p.last_rtt_ms) or "-")
end
local paths_text = rows_text(path_row)

-- ---- dialling ----

local RESTING_MAX = 64 -- told of addresses at rest; their count is told in any case

--- What dialling has learned of this network: the ways that seem blocked, and what rests.
local function dialling(host)
  local state, resting = host:dial_state(), host:resting_addrs()
  local list = json.array()
  table.sort(resting, function(a, b) return a.rest_s > b.rest_s end)
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
    "paths", paths(state), "dialling", dialling(n.host), "limits", limits.counts(n.host))
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
  return sorted(list, "name")
end

local services_text = rows_text(function(s)
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
  return sorted(list, "id")
end

local peers_text = rows_text(function(p)
  return ("%s\t%s\t%d addrs"):format(keys.short(p.id), p.agent_version or "unknown",
    p.addresses == json.null and 0 or #p.addresses)
end)

-- ---- auth ----

local function auth(state)
  local config = state.node.config
  local list = json.array()
  if not config.security.enable_connection_gating then return list end
  local text, problem = fs.read(config.security.authorized_keys_file)
  if not text then
    if problem.code == "not_found" then return list end
    return nil, problem, 500
  end
  local entries
  entries, problem = keys.list(text)
  if not entries then return nil, problem, 500 end
  local function set(value) return value ~= "" and value or nil end
  for i, e in ipairs(entries) do
    list[i] = json.object("peer_id", e.peer_id, "comment", set(e.comment), "verified",
      set(e.verified), "expires_at", e.expires and os.date("!%Y-%m-%dT%H:%M:%SZ", e.expires)
      or nil, "group", set(e.group))
  end
  return list
end

local auth_text = rows_text(function(e)
  return e.peer_id .. (e.comment and "\t# " .. e.comment or "")
end)

-- ---- invites: an extension, so that a running daemon serves the joiner of `peerup invite` ----

local function read_body(request)
  local body = json.decode(request.body)
  if type(body) ~= "table" then return nil, "invalid request body" end
  return body
end

local function offer_data(offer)
  return json.object("state", offer.state, "code", offer.code, "expires_at",
    os.date("!%Y-%m-%dT%H:%M:%SZ", offer.expires), "relay_admits", offer.relay_admits,
    "relay_why", offer.relay_why, "notes", json.array(offer.notes), "peer_id", offer.peer,
    "comment", offer.comment, "name", offer.name, "name_problem", offer.name_problem,
    "vouched", offer.vouched, "vouch_why", offer.vouch_why)
end

local function invite_open(state, request)
  local offers = require "peerup.invite.offer"
  local body, problem = read_body(request)
  if not body then return nil, problem, 400 end
  local ttl_s, name = math.tointeger(body.ttl_seconds), body.name or ""
  if not ttl_s or ttl_s < 1 or ttl_s > offers.MAX_TTL_S or type(name) ~= "string" then
    return nil, "ttl_seconds must be between 1 and 86400, and name a string", 400
  end
  if state.offer and state.offer.state == "open" then
    return nil, "an invite is open already; one at a time", 409
  end
  local offer
  offer, problem = offers.open { node = state.node, name = name, ttl_s = ttl_s }
  if not offer then return nil, problem, 502 end
  state.offer = offer
  return offer_data(offer)
end

local function invite_show(state)
  if not state.offer then return nil, "no invite was opened", 404 end
  return offer_data(state.offer)
end

local function invite_close(state)
  if not state.offer then return nil, "no invite was opened", 404 end
  state.offer:close()
  return offer_data(state.offer)
end

-- ---- log levels: an extension ----

local function levels(log)
  local flat = {}
  for _, module in ipairs(logs.MODULES) do
    flat[#flat + 1], flat[#flat + 2] = module, log.modules[module]
  end
  return json.object("level", log.level, "modules", json.object(table.unpack(flat)))
end

local function log_show(state)
  return levels(state.node.log)
end

local function log_set(state, request)
  local body, problem = read_body(request)
  if not body then return nil, problem, 400 end
  local ok, why = logs.check(body.level, body.module)
  if not ok then return nil, why, 400 end
  if body.module then
    state.node.log:set(nil, { [body.module] = body.level })
  else
    state.node.log:set(body.level)
  end
  return levels(state.node.log)
end

local function log_text(data)
  local lines = { ("%-10s %s"):format("peerup", data.level) }
  for _, module in ipairs(logs.MODULES) do
    lines[#lines + 1] = ("%-10s %s"):format(module, data.modules[module])
  end
  return table.concat(lines, "\n") .. "\n"
end

-- ---- shutdown ----

local function shutdown(state)
  state.shutdown()
  return json.object("status", "shutting down")
end

M.routes = {
  ["GET /v1/status"] = { run = status, text = status_text },
  ["GET /v1/services"] = { run = services, text = services_text },
  ["GET /v1/peers"] = { run = peers, text = peers_text },
  ["GET /v1/paths"] = { run = paths, text = paths_text },
  ["GET /v1/auth"] = { run = auth, text = auth_text },
  ["POST /v1/invite"] = { run = invite_open },
  ["GET /v1/invite"] = { run = invite_show },
  ["DELETE /v1/invite"] = { run = invite_close },
  ["GET /v1/log"] = { run = log_show, text = log_text },
  ["POST /v1/log"] = { run = log_set, text = log_text },
  ["POST /v1/shutdown"] = { run = shutdown },
}

return M
