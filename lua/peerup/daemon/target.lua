--- The peer that a request means: its name or ID resolved, and a connection to it.
local names = require "peerup.names"

local M = {}

--- Resolves what a request calls its peer.
---@return string? peer_id, string? why, integer? status
function M.resolve(node, text)
  local id, source = names.resolve(node.names, text)
  if id then return id end
  return nil, ('cannot resolve peer "%s": %s'):format(text, tostring(source)), 400
end

--- Resolves, and connects unless there is a connection.
---@async
---@return string? peer_id, string? why, integer? status
function M.reach(node, text, seconds)
  local id, why, status = M.resolve(node, text)
  if not id then return nil, why, status end
  if node.host:best_conn(id) then return id end
  local conn, problem = node:reach(id, seconds)
  if conn then return id end
  return nil, ('cannot reach peer "%s": %s'):format(text, tostring(problem)), 502
end

return M
