--- What `config validate` and `relay config validate` say.
local err = require "peerup.err"
local json = require "peerup.json"

local M = {}

--- Tells of the faults of a configuration; the exit code.
---@param faults string[]
function M.tell(ctx, args, path, faults)
  if args.json then
    ctx.out:json(json.object("path", path, "valid", #faults == 0, "errors", json.array(faults)))
    return #faults == 0 and 0 or nil, err.say("silent", "")
  end
  if #faults == 0 then
    ctx.out:paint("green", "OK: %s is valid", path)
    return 0
  end
  for _, fault in ipairs(faults) do ctx.out:paint("red", "FAIL: %s", fault) end
  return nil, err.say("malformed", "validation failed")
end

return M
