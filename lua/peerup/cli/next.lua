--- What to do next, from the state in which a machine is found: for `peerup` without a command.
local fs = require "peerup.fs"
local keys = require "peerup.authorized_keys"
local load = require "peerup.config.load"

local M = {}

local function is_authorized_any(config)
  local path = config.security.authorized_keys_file
  local text = path ~= "" and fs.read(path)
  local entries = text and keys.list(text)
  return entries ~= nil and #entries > 0
end

--- Finds the next steps: what stands in the way, and the command for it.
---@param ctx peerup.context
---@return {why: string, command: string}[]
function M.steps(ctx)
  local path = load.find(nil, ctx.home)
  if not path then
    return {
      { why = "This machine is not set up. With an invite code from another one:",
        command = "peerup join <code>" },
      { why = "Without:", command = "peerup init" },
    }
  end
  local config, problem = load.read(path, "node")
  if not config then
    return { { why = "The config cannot be read: " .. tostring(problem) .. ". To see all of it:",
      command = "peerup config validate" } }
  end
  local faults = load.validate(config)
  if #faults > 0 then
    return { { why = "The config needs a change: " .. faults[1] .. ". Then:",
      command = "peerup config validate" } }
  end
  local steps = {}
  local server = require "peerup.daemon.server"
  local runs = fs.exists(server.paths(ctx:runtime_dir {}).socket)
  local paired = is_authorized_any(config)
  if not paired then
    steps[#steps + 1] = { why = "No other machine may connect. To pair one"
      .. (runs and ":" or ", and be reached by it:"),
      command = runs and "peerup invite" or "peerup daemon --invite" }
  end
  if next(config.services) == nil then
    steps[#steps + 1] = { why = "Nothing is offered to others. To offer SSH, for instance:",
      command = "peerup service add ssh localhost:22" }
  end
  if paired and not runs then
    steps[#steps + 1] = { why = "No daemon runs, so nobody can reach this machine:",
      command = "peerup daemon" }
  elseif runs then
    steps[#steps + 1] = { why = "The daemon runs. To see who can reach this machine, and how:",
      command = "peerup daemon status" }
  end
  local names = load.sorted_keys(config.names)
  if names[1] then
    steps[#steps + 1] = { why = ("To reach a service of %s, for instance:"):format(names[1]),
      command = ("peerup ssh %s"):format(names[1]) }
  end
  return steps
end

--- Writes them.
function M.tell(ctx)
  ctx.out:line("Next:")
  for _, step in ipairs(M.steps(ctx)) do
    ctx.out:line("  %s", step.why)
    ctx.out:line("      %s", step.command)
  end
end

return M
