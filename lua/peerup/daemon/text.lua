--- What the endpoints share: lists in an order, rows of text, bodies of requests.
local json = require "peerup.json"

local M = {}

--- Sorts a list by a field of its items.
function M.sorted(list, field)
  table.sort(list, function(a, b) return a[field] < b[field] end)
  return list
end

--- Makes the text form of a list: a line for each item.
---@param row fun(item: any): string
---@return fun(data: any[]): string
function M.rows(row)
  return function(data)
    local lines = {}
    for _, item in ipairs(data) do lines[#lines + 1] = row(item) .. "\n" end
    return table.concat(lines)
  end
end

--- Reads a request's body as a JSON object; the text of the failure is the API's.
---@return table? body, string? why
function M.body(request)
  local body = json.decode(request.body)
  if type(body) ~= "table" or body[1] ~= nil or not request.body:find "^%s*{" then
    return nil, "invalid request body"
  end
  return body
end

--- Takes strings of a body; nil when one is missing, empty or of another type.
---@return string? ...
function M.strings(body, ...)
  local values = {}
  for i, name in ipairs { ... } do
    if type(body[name]) ~= "string" or body[name] == "" then return nil end
    values[i] = body[name]
  end
  return table.unpack(values)
end

return M
