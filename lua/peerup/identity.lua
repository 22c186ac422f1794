--- The node's own key: loaded, or made when there is none yet.
local core = require "peerup.core"
local err = require "peerup.err"
local fs = require "peerup.fs"

local M = {}

--- Loads a key file.
---@param path string
---@return {key: string, peer_id: string}? identity, peerup.err?
function M.load(path)
  if not fs.exists(path) then
    return nil, err.say("not_found", "no identity key at " .. path)
  end
  local ok, problem = fs.check_private(path)
  if not ok then return nil, problem end
  local key
  key, problem = core.identity.load(path)
  if not key then
    return nil, err.say(problem.code, ("cannot use the identity key %s: %s"):format(path,
      tostring(problem)))
  end
  local peer_id
  peer_id, problem = core.identity.peer_id(key)
  if not peer_id then return nil, problem end
  return { key = key, peer_id = peer_id, path = path }
end

--- Loads a key file, or makes it.
---@return {key: string, peer_id: string, created: boolean?}? identity, peerup.err?
function M.load_or_create(path)
  if path == "" then
    return nil, err.say("invalid", "the config names no key: identity.key_file is required")
  end
  if not fs.exists(path) then
    local ok, problem = fs.mkdir(fs.dirname(path))
    if not ok then return nil, problem end
    ok, problem = core.identity.save(path, core.identity.generate())
    if not ok and problem.code ~= "exists" then return nil, problem end
    local identity
    identity, problem = M.load(path)
    if identity then identity.created = true end
    return identity, problem
  end
  return M.load(path)
end

return M
