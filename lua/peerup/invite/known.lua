--- What both sides of an invite keep of each other: a line in authorized_keys, and a name.
local edit = require "peerup.config.edit"
local err = require "peerup.err"
local fs = require "peerup.fs"
local keys = require "peerup.authorized_keys"
local load = require "peerup.config.load"
local names = require "peerup.names"

local M = {}

--- Adds a name for a peer, unless it has one; clashes get -2, -3 ...
---@param path string
---@param peer string
---@param wanted string  as the peer sent it
---@return string? name  the one it has now; nil, nil when it sent none
---@return peerup.err?
function M.add_name(path, peer, wanted)
  local config, problem = load.read(path, "node")
  if not config then return nil, problem end
  local standing = names.of(config.names, peer)
  if standing then return standing end
  local clean = names.sanitize(wanted)
  if clean == "" then return nil end
  local name = names.unique(clean, config.names)
  local text
  text, problem = edit.add_name(config.text, name, peer)
  if not text then return nil, problem end
  local ok
  ok, problem = fs.write(path, text)
  if not ok then return nil, problem end
  return name
end

--- Keeps a peer: authorizes it (already known is fine) and names it. Only the first can fail.
---@param options {config_path: string, authorized_keys: string, peer: string, name: string,
---  fallback: "joined"|"invited"}
---@return {comment: string, name: string?, name_problem: peerup.err?}? kept, peerup.err?
function M.keep(options)
  local comment = options.name:gsub("[%c]", "")
  if comment:match("^%s*$") then comment = options.fallback .. os.date("-%Y-%m-%d") end
  local ok, problem = keys.update_file(options.authorized_keys, function(text)
    return keys.add(text, options.peer, comment)
  end)
  if not ok and not err.is(problem, "exists") then return nil, problem end
  local name
  name, problem = M.add_name(options.config_path, options.peer, options.name)
  return { comment = comment, name = name, name_problem = problem }
end

return M
