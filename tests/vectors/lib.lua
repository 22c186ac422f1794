--- Small helpers of the checks: hex, and comparisons that say what differed.
local M = {}

function M.unhex(text)
  assert(#text % 2 == 0 and not text:find("[^0-9a-fA-F]"), "not hex")
  return (text:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

function M.hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function show(value)
  if type(value) ~= "string" then return tostring(value) end
  if value:find("[^\x20-\x7e]") then return "hex " .. M.hex(value) end
  return ("%q"):format(value)
end

--- Fails unless both values are the same; `what` names them.
function M.equal(what, got, want)
  if got ~= want then
    error(("%s: got %s, want %s"):format(what, show(got), show(want)), 2)
  end
end

--- Fails unless `got` (then `err`) shows what the vector's `accepted` says.
function M.accepted(what, want, got, err)
  if want and got == nil then
    error(("%s: refused (%s), should be accepted"):format(what, tostring(err)), 2)
  elseif not want and got ~= nil then
    error(("%s: accepted, should be refused"):format(what), 2)
  end
end

return M
