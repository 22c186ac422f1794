--- The endpoints of the daemon's API, joined from the files of routes/ (daemon-api.md 3).
-- A route is { run = fn(state, request, parameter), text = fn(data, state, more)? }. run returns
-- the answer's data (and nil, and what else its text needs), or nil, error, status. state: node,
-- version, shutdown(), and what the routes keep there. A route { stream = fn(state, request,
-- text) } returns the feed of an answer that goes on instead.
local json = require "peerup.json"

local M = { routes = {} }

M.PARTS = { "show", "auth", "probe", "proxies", "services", "invite", "log",
  "events" }

for _, part in ipairs(M.PARTS) do
  for key, route in pairs(require("peerup.daemon.routes." .. part)) do
    assert(not M.routes[key], key)
    M.routes[key] = route
  end
end

M.routes["POST /v1/shutdown"] = {
  run = function(state)
    state.shutdown()
    return json.object("status", "shutting down")
  end,
}

return M
