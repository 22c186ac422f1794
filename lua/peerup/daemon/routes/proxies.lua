--- Endpoints that make a peer's service a local port, and end that.
local json = require "peerup.json"
local nearest = require "peerup.nearest"
local services = require "peerup.services"
local target = require "peerup.daemon.target"
local text = require "peerup.daemon.text"
local values = require "peerup.config.values"

local CONNECT_S = 45
local PROXIES_MAX = 1024

local function log_of(state, id, service)
  return function(_, event)
    if event.code and not (event.code == "reset" and event.bytes_in > 0) then
      state.node.log:warn("proxied connection failed", "proxy", id, "service", service, "code",
        event.code, "why", event.detail)
    end
  end
end

local function connect(state, request)
  local body, problem = text.body(request)
  if not body then return nil, problem, 400 end
  local peer, service, listen = text.strings(body, "peer", "service", "listen")
  if not peer then return nil, "peer, service, and listen are required", 400 end
  local ok, why = values.check_label("service", service)
  if not ok then return nil, why, 400 end
  ok, why = values.split_host_port(listen)
  if not ok then return nil, ('listen "%s": %s'):format(listen, tostring(why)), 400 end
  local id, status
  id, why, status = target.reach(state.node, peer, CONNECT_S)
  if not id then return nil, why, status end
  state.proxies = state.proxies or { last = 0, count = 0, by_id = {} }
  local all = state.proxies
  if all.count >= PROXIES_MAX then return nil, "too many proxies at once", 500 end
  local name = "proxy-" .. all.last + 1
  local proxy
  proxy, why = state.node.host:proxy_listen(listen, id, services.protocol(service),
    log_of(state, name, service))
  if not proxy then return nil, "failed to create listener: " .. tostring(why), 500 end
  all.last, all.count = all.last + 1, all.count + 1
  all.by_id[name] = { proxy = proxy, peer = peer, peer_id = id, service = service,
    number = all.last }
  state.node.host:protect(id, true)
  return json.object("id", name, "listen_address", proxy:address(),
    "note", services.missing(state.node.host, id, service))
end

local function disconnect(state, _, name)
  local all = state.proxies
  local one = all and all.by_id[name]
  if not one then
    local known = {}
    for id in pairs(all and all.by_id or {}) do known[#known + 1] = id end
    table.sort(known)
    return nil, ("proxy not found: %s%s"):format(name, nearest.hint(name, known)), 404
  end
  one.proxy:close()
  all.by_id[name] = nil
  all.count = all.count - 1
  local needed = false
  for _, other in pairs(all.by_id) do needed = needed or other.peer_id == one.peer_id end
  if not needed and state.node.host then state.node.host:protect(one.peer_id, false) end
  return json.object("status", "disconnected")
end

--- An extension: the original cannot list its proxies.
local function list(state)
  local rows = json.array()
  for name, one in pairs(state.proxies and state.proxies.by_id or {}) do
    rows[#rows + 1] = json.object("id", name, "peer", one.peer, "peer_id", one.peer_id,
      "service", one.service, "listen_address", one.proxy:address(), "number", one.number)
  end
  return text.sorted(rows, "number")
end

local list_text = text.rows(function(p)
  return ("%s\t%s\t%s\t%s"):format(p.id, p.peer, p.service, p.listen_address)
end)

return {
  ["POST /v1/connect"] = { run = connect },
  ["DELETE /v1/connect/{id}"] = { run = disconnect },
  ["GET /v1/connect"] = { run = list, text = list_text },
}
