--- Endpoints on who may connect: what they change holds at once, for live connections too.
local core = require "peerup.core"
local fs = require "peerup.fs"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local text = require "peerup.daemon.text"

local function auth(state)
  local config = state.node.config
  local list = json.array()
  if not config.security.enable_connection_gating then return list end
  local content, problem = fs.read(config.security.authorized_keys_file)
  if not content then
    if problem.code == "not_found" then return list end
    return nil, problem, 500
  end
  local entries
  entries, problem = keys.list(content)
  if not entries then return nil, problem, 500 end
  local function set(value) return value ~= "" and value or nil end
  for i, e in ipairs(entries) do
    list[i] = json.object("peer_id", e.peer_id, "comment", set(e.comment), "verified",
      set(e.verified), "expires_at", e.expires and os.date("!%Y-%m-%dT%H:%M:%SZ", e.expires)
      or nil, "group", set(e.group))
  end
  return list
end

local auth_text = text.rows(function(e)
  return e.peer_id .. (e.comment and "\t# " .. e.comment or "")
end)

local function change(state, action, peer_id, fn)
  local config = state.node.config
  if not config.security.enable_connection_gating then
    return nil, "connection gating is not enabled", 400
  end
  local id, problem = core.peer_id.parse(peer_id)
  if not id then return nil, "invalid peer ID: " .. tostring(problem), 500 end
  local ok
  ok, problem = keys.update_file(config.security.authorized_keys_file, function(content)
    return fn(content, id)
  end)
  if not ok then return nil, problem, 500 end
  state.node:dispatch { type = "auth_change", action = action, peer = id }
  ok, problem = state.node:reload_authorized()
  return ok, problem and "the file is changed, but its rules do not hold yet: "
    .. tostring(problem), 500
end

local function add(state, request)
  local body, problem = text.body(request)
  if not body then return nil, problem, 400 end
  local peer_id = text.strings(body, "peer_id")
  if not peer_id then return nil, "peer_id is required", 400 end
  local comment = body.comment or ""
  if type(comment) ~= "string" then return nil, "comment must be a string", 400 end
  local ok, why, status = change(state, "add", peer_id, function(content, id)
    return keys.add(content, id, keys.clean_comment(comment))
  end)
  if not ok then return nil, why, status end
  return json.object("status", "added")
end

local function remove(state, _, peer_id)
  local ok, why, status = change(state, "remove", peer_id, keys.remove)
  if not ok then return nil, why, status end
  return json.object("status", "removed")
end

return {
  ["GET /v1/auth"] = { run = auth, text = auth_text },
  ["POST /v1/auth"] = { run = add },
  ["DELETE /v1/auth/{peer_id}"] = { run = remove },
}
