--- The relay's admin API, on a unix socket beside its config (daemon-api.md 4).
local code = require "peerup.invite.code"
local err = require "peerup.err"
local fs = require "peerup.fs"
local groups = require "peerup.pairing.groups"
local json = require "peerup.json"
local server = require "peerup.daemon.server"
local text = require "peerup.daemon.text"
local values = require "peerup.config.values"

local M = {}

M.SOCKET, M.COOKIE = ".relay-admin.sock", ".relay-admin.cookie"
M.MAX_BODY = 4096 -- bytes that are read; a little more is received, to be answered as JSON
M.MAX_EXPIRES_S = 100 * 366 * 24 * 3600
local MAX_RECEIVED, MAX_CONNS, TIMEOUT_S = 65536, 16, 10

--- How answers look: bare values, without the daemon's envelope.
M.STYLE = { bare = true, unauthorized = "unauthorized" }

--- Where socket and cookie are.
---@param config_path string  the relay's config
---@return {socket: string, cookie: string}
function M.paths(config_path)
  local dir = fs.dirname(config_path)
  return { socket = fs.join(dir, M.SOCKET), cookie = fs.join(dir, M.COOKIE) }
end

local function rfc3339(at)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", at)
end

--- A whole number of a body; what is not there is the default.
local function whole(body, name, default)
  local value = body[name]
  if value == nil then return default end
  local number = type(value) == "number" and math.tointeger(value)
  if not number then return nil, name .. " must be a whole number" end
  return number
end

--- Reads what a new group shall be; the texts are the API's.
local function wanted(body, network)
  local result = {}
  local problem
  result.count, problem = whole(body, "count", 1)
  if not result.count then return nil, problem end
  if result.count < 1 then result.count = 1 end
  if result.count > groups.MAX_CODES then
    return nil, ("count exceeds maximum (%d)"):format(groups.MAX_CODES)
  end
  result.ttl_s, problem = whole(body, "ttl_seconds", 0)
  if not result.ttl_s then return nil, problem end
  if result.ttl_s < 1 then result.ttl_s = groups.DEFAULT_TTL_S end
  if result.ttl_s > groups.MAX_TTL_S then
    return nil, ("ttl_seconds exceeds maximum (%d)"):format(groups.MAX_TTL_S)
  end
  local expires
  expires, problem = whole(body, "expires_seconds", 0)
  if not expires then return nil, problem end
  if expires < 0 or expires > M.MAX_EXPIRES_S then
    return nil, ("expires_seconds must be between 0 and %d"):format(M.MAX_EXPIRES_S)
  end
  result.expires_s = expires > 0 and expires or nil
  result.network = body.namespace or ""
  if type(result.network) ~= "string" then return nil, "namespace must be a string" end
  if result.network == "" then result.network = network end
  if result.network ~= "" and not values.is_label(result.network) then
    return nil, "namespace " .. values.LABEL_RULE
  end
  return result
end

local function create(pairing, request)
  local body, problem
  if #request.body > M.MAX_BODY then problem = "invalid request body"
  else body, problem = text.body(request) end
  local options
  if body then options, problem = wanted(body, pairing.relay.config.discovery.network) end
  if not options then return nil, problem, 400 end
  local addr
  addr, problem = pairing:code_addr()
  if not addr then return nil, problem, 500 end
  local group, tokens = pairing.groups:create(options, os.time())
  if not group then return nil, tokens, 429 end
  local codes = json.array()
  for i, token in ipairs(tokens) do
    codes[i], problem = code.encode { token = token, relay_addr = addr, network = options.network }
    if not codes[i] then
      pairing.groups:revoke(group.id)
      return nil, problem, 500
    end
  end
  pairing.relay.log:info("pairing group open", "group", group.id, "codes", options.count, "ttl_s",
    options.ttl_s)
  return json.object("group_id", group.id, "codes", codes, "expires_at", rfc3339(group.until_s))
end

local function list(pairing)
  local rows = json.array()
  for i, group in ipairs(pairing.groups:list(os.time())) do
    local peers = #group.members > 0 and json.array() or nil
    for k, slot in ipairs(group.members) do
      peers[k] = json.object("peer_id", slot.peer, "name", slot.name)
    end
    rows[i] = json.object("id", group.id, "namespace",
      group.network ~= "" and group.network or nil, "expires_at", rfc3339(group.until_s), "total",
      group.total, "used", #group.members, "peers", peers)
  end
  return rows
end

local function revoke(pairing, _, id)
  if not pairing.groups:revoke(id) then return nil, "group not found", 404 end
  pairing.relay.log:info("pairing group revoked", "group", id)
  pairing.relay:drop_guests()
  return json.object("status", "revoked")
end

M.ROUTES = {
  ["POST /v1/pair"] = { run = create },
  ["GET /v1/pair"] = { run = list },
  ["DELETE /v1/pair/{id}"] = { run = revoke },
}

--- Serves the API of a relay.
---@async
---@param relay peerup.relay_server
---@return peerup.daemon_server? server, peerup.err?
function M.start(relay)
  local paths = M.paths(relay.config.path)
  local ok, problem = server.claim(paths, "a relay runs already with this config")
  if not ok then return nil, problem end
  return server.start { paths = paths, state = relay.pairing, routes = M.ROUTES, style = M.STYLE,
    max_body = MAX_RECEIVED, max_conns = MAX_CONNS, timeout = TIMEOUT_S }
end

--- A client for the relay that runs with a config.
---@param config_path string
---@return peerup.daemon_client? client, peerup.err?
function M.client(config_path)
  local client, problem = require("peerup.daemon.client").open(M.paths(config_path),
    { what = "relay", absent = "relay not running", bare = true })
  if client then return client end
  return nil, err.say(problem.code, tostring(problem)
    .. "; start it: peerup relay serve --config " .. config_path)
end

return M
