--- Names of peers: looked up in the configuration, and cleaned when they come from a peer
-- (wire.md 17.2, config.md 6).
local err = require "peerup.err"
local nearest = require "peerup.nearest"

local M = {}

M.MAX_LETTERS = 64
M.MAX_SUFFIX = 100 -- "home-2" to "home-100", then the time

--- Reduces a name that a peer sent to letters that are safe anywhere.
---@param text string
---@return string  "" when nothing is left
function M.sanitize(text)
  return (text:gsub("[^A-Za-z0-9._-]", ""):sub(1, M.MAX_LETTERS))
end

--- Returns name, or name-2, name-3 ... so that it is not among the existing ones.
---@param name string
---@param existing table<string, any>
---@param now integer?  Unix seconds, for the last resort
---@return string
function M.unique(name, existing, now)
  if existing[name] == nil then return name end
  for i = 2, M.MAX_SUFFIX do
    local candidate = name .. "-" .. i
    if existing[candidate] == nil then return candidate end
  end
  return name .. "-" .. (now or os.time())
end

--- Finds the peer ID of a name, or of text that is a peer ID.
---@param names table<string, string>
---@param text string
---@return string? peer_id, string|peerup.err source  "local_config" or "peer_id"
function M.resolve(names, text)
  local core = require "peerup.core"
  if names[text] then
    local id, problem = core.peer_id.parse(names[text])
    if not id then
      return nil, err.say("invalid", ('the name "%s" has an invalid peer ID in the config: %s')
        :format(text, tostring(problem)))
    end
    return id, "local_config"
  end
  local id = core.peer_id.parse(text)
  if id then return id, "peer_id" end
  local known, ids = {}, {}
  for name, peer_id in pairs(names) do
    known[#known + 1] = name
    ids[#ids + 1] = peer_id
  end
  table.sort(known)
  table.sort(ids)
  table.move(ids, 1, #ids, #known + 1, known)
  return nil, err.say("not_found", ("name not found: %s%s"):format(text,
    nearest.hint(text, known)))
end

--- The same for the target of a command, whose failure says so.
---@return string? peer_id, peerup.err?
function M.target(names, text)
  local id, problem = M.resolve(names, text)
  if id then return id end
  return nil, err.say(problem.code, ('Cannot resolve target "%s": %s'):format(text,
    tostring(problem)))
end

--- Finds the name of a peer ID, for output; nil when it has none.
---@return string?
function M.of(names, peer_id)
  local best
  for name, id in pairs(names) do
    if id == peer_id and (not best or name < best) then best = name end
  end
  return best
end

return M
