--- Writes JSON with keys in a chosen order and Go's escapes; reading is lua-cjson's.
local M = {}

local ORDER, ARRAY = {}, {}

M.null = setmetatable({}, { __tostring = function() return "null" end })

--- Makes an object from pairs of key and value, in this order; nil values are left out.
---@return table
function M.object(...)
  local object, order = {}, {}
  for i = 1, select("#", ...), 2 do
    local key, value = select(i, ...)
    if value ~= nil then
      object[key] = value
      order[#order + 1] = key
    end
  end
  return setmetatable(object, { [ORDER] = order })
end

--- Marks a list, so that an empty one is [] and not {}.
---@return table
function M.array(list)
  return setmetatable(list or {}, { [ARRAY] = true })
end

--- A list, or null when it is empty, as Go writes a list that was never filled.
function M.array_or_null(list)
  if not list or #list == 0 then return M.null end
  return M.array(list)
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
  return ESCAPES[c] or ("\\u%04x"):format(c:byte())
end

local function encode_string(text)
  if not utf8.len(text) then
    -- Bytes that are no UTF-8 become the replacement character: the reader must get valid JSON.
    local parts, at = {}, 1
    while at <= #text do
      local good, bad = utf8.len(text, at)
      local stop = good and #text or bad - 1
      parts[#parts + 1] = text:sub(at, stop)
      if not good then parts[#parts + 1] = "\u{FFFD}" end
      at = stop + (good and 1 or 2)
    end
    text = table.concat(parts)
  end
  text = text:gsub('[%c"\\<>&\x7f]', function(c)
    if c == "\x7f" then return c end
    return escape(c)
  end)
  return '"' .. text:gsub("\u{2028}", "\\u2028"):gsub("\u{2029}", "\\u2029") .. '"'
end

local function encode_number(value)
  if math.type(value) == "integer" then return ("%d"):format(value) end
  if value ~= value or value == math.huge or value == -math.huge then return "null" end
  if value == math.floor(value) and math.abs(value) < 1e15 then return ("%d"):format(value) end
  for digits = 15, 17 do
    local text = ("%%.%dg"):format(digits):format(value)
    if tonumber(text) == value then return text end
  end
end

local encode

local function sorted_keys(object)
  local keys = {}
  for key in pairs(object) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function join(parts, open, close, indent, depth)
  if #parts == 0 then return open .. close end
  if not indent then return open .. table.concat(parts, ",") .. close end
  local pad, outer = indent:rep(depth + 1), indent:rep(depth)
  return open .. "\n" .. pad .. table.concat(parts, ",\n" .. pad) .. "\n" .. outer .. close
end

function encode(value, indent, depth)
  local kind = type(value)
  if value == nil or value == M.null then return "null" end
  if kind == "string" then return encode_string(value) end
  if kind == "number" then return encode_number(value) end
  if kind == "boolean" then return tostring(value) end
  assert(kind == "table", "JSON cannot hold a " .. kind)
  local mark = getmetatable(value) or {}
  local parts = {}
  if mark[ARRAY] or #value > 0 then
    for i, item in ipairs(value) do parts[i] = encode(item, indent, depth + 1) end
    return join(parts, "[", "]", indent, depth)
  end
  for _, key in ipairs(mark[ORDER] or sorted_keys(value)) do
    parts[#parts + 1] = encode_string(key) .. (indent and ": " or ":")
      .. encode(value[key], indent, depth + 1)
  end
  return join(parts, "{", "}", indent, depth)
end

--- Encodes a value. indent is the number of spaces per level; without it the text is compact.
---@param value any
---@param indent integer?
---@return string
function M.encode(value, indent)
  return encode(value, indent and (" "):rep(indent), 0)
end

--- Indents compact JSON without changing what it says or its order.
---@param text string
---@param indent integer
---@return string
function M.indent(text, indent)
  local out, depth, at = {}, 0, 1
  local function newline() out[#out + 1] = "\n" .. (" "):rep(indent * depth) end
  while at <= #text do
    local c = text:sub(at, at)
    local piece = c
    if c == '"' then
      local stop = at + 1
      while text:sub(stop, stop) ~= '"' and stop <= #text do
        stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      end
      piece = text:sub(at, stop)
      out[#out + 1] = piece
    elseif (c == "{" or c == "[") and text:find("^[%]}]", at + 1) then
      piece = text:sub(at, at + 1)
      out[#out + 1] = piece
    elseif c == "{" or c == "[" then
      depth = depth + 1
      out[#out + 1] = c
      newline()
    elseif c == "}" or c == "]" then
      depth = depth - 1
      newline()
      out[#out + 1] = c
    elseif c == "," then
      out[#out + 1] = c
      newline()
    elseif c == ":" then
      out[#out + 1] = ": "
    else
      out[#out + 1] = c
    end
    at = at + #piece
  end
  return table.concat(out)
end

--- Decodes the first JSON value of a text.
---@param text string
---@return any value, string? problem
function M.decode(text)
  local cjson = require "cjson.safe"
  return cjson.decode(text)
end

return M
