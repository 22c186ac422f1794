--- The audit log (daemon-api.md 7): who was let in or turned away, who asked the daemon for what,
-- and what was changed, one JSON object a line on standard error. A listener of the bus of events.
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"

local M = {}

local function time_text(now)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", now)
end

local WRITERS = {
  decision = function(event)
    if event.ask == "inbound" then
      return "auth_decision", "INFO", json.object("peer", keys.short(event.peer or ""),
        "direction", "inbound", "result", event.allowed and "allow" or "deny",
        "why", not event.allowed and event.why or nil)
    elseif event.ask == "stream" and not event.allowed and event.service then
      return "service_acl_denied", "WARN", json.object("peer", keys.short(event.peer or ""),
        "service", event.service)
    end
  end,
  request = function(event)
    return "daemon_api_access", "INFO", json.object("method", event.method, "path",
      (event.path:gsub("^(/v1/%a+)/[^/]+$", "%1/:id")), "status", event.status)
  end,
  auth_change = function(event)
    return "auth_change", "INFO", json.object("action", event.action, "peer",
      event.peer and keys.short(event.peer) or nil)
  end,
  config_change = function(event)
    return "config_change", "INFO", json.object("action", event.action)
  end,
}

--- Makes a listener that writes lines.
---@param write fun(line: string)
---@param clock (fun(): integer)?
---@return fun(event: table)
function M.new(write, clock)
  clock = clock or os.time
  return function(event)
    local writer = WRITERS[event.type]
    if not writer then return end
    local message, level, fields = writer(event)
    if message then
      write(json.encode(json.object("time", time_text(clock()), "level", level, "msg", message,
        "audit", fields)) .. "\n")
    end
  end
end

return M
