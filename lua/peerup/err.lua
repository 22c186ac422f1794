--- Errors: what fails expectedly returns nil, err. err.code is a name of the engine's error map or
--- one of Lua's own; tostring(err) is a sentence for a person.
local core = require "peerup.core"

local M = {}

--- Makes an error; fields (peer, addr, cause ...) are set on it.
---@param code string
---@param detail string?
---@param fields table?
---@return peerup.err
function M.new(code, detail, fields)
  local err = core.error(code, detail or "")
  for key, value in pairs(fields or {}) do
    err[key] = value
  end
  return err
end

--- Makes an error whose sentence is given whole, for what no engine error says well enough.
---@param code string
---@param sentence string
---@return peerup.err
function M.say(code, sentence)
  return M.new(code, sentence, { message = sentence })
end

--- Formats the detail: M.format("not_found", "no service named %q", name).
---@param code string
---@param format string
---@return peerup.err
function M.format(code, format, ...)
  return core.error(code, format:format(...))
end

--- Puts a sentence part before what went wrong, keeping code and fields: "cannot read X: <cause>".
---@param err peerup.err|string
---@param what string
---@return peerup.err
function M.wrap(err, what)
  local wrapped = core.error(M.code(err) or "failed", "")
  if type(err) == "table" then
    for key, value in pairs(err) do
      wrapped[key] = value
    end
  end
  wrapped.message = what .. ": " .. tostring(err)
  wrapped.cause = err
  return wrapped
end

--- Gives the code of an error, nil for other values.
---@return string?
function M.code(err)
  return type(err) == "table" and err.code or nil
end

--- Says whether err has one of the codes.
---@return boolean
function M.is(err, ...)
  local code = M.code(err)
  for i = 1, select("#", ...) do
    if code ~= nil and code == select(i, ...) then
      return true
    end
  end
  return false
end

return M
