--- Reads YAML into nodes that know their line, so that every complaint can name it.
-- lyaml's parser gives the events; resolving scalars is left to the reader of a value, who knows
-- which type it wants (the rules are those of Go's yaml.v3: booleans of YAML 1.1 only where a
-- boolean is wanted, numbers as YAML 1.2 writes them).
local parser = require "yaml".parser
local err = require "peerup.err"

local M = {}

M.MAX_DEPTH = 32 -- no configuration nests deeper; bounds the recursion below
M.MAX_NODES = 100000 -- aliases count each time they are used: bounds what an alias bomb costs

---@class peerup.yaml_node
---@field kind "map"|"seq"|"scalar"
---@field line integer       first line, from 1
---@field last_line integer  last line that belongs to it
---@field column integer     from 1, in characters
---@field style string       "BLOCK", "FLOW", "PLAIN", "SINGLE_QUOTED" ...
---@field value string?      of a scalar
---@field entries {key: peerup.yaml_node, value: peerup.yaml_node}[]?  of a map, in order
---@field items peerup.yaml_node[]?  of a seq

local function fault(line, text)
  return { line = line, text = text }
end

local function reader(text)
  local next_event = parser(text)
  local event = next_event()
  local anchors, count = {}, 0
  local read

  local function advance()
    event = next_event()
  end

  local function node_of(kind, start)
    return { kind = kind, line = start.start_mark.line + 1, column = start.start_mark.column + 1,
      style = start.style, tag = start.tag, anchor = start.anchor }
  end

  local function read_map(node, depth)
    node.entries = {}
    local seen = {}
    advance()
    while event.type ~= "MAPPING_END" do
      local key = read(depth + 1)
      if key.kind ~= "scalar" then error(fault(key.line, "a key must be plain text")) end
      if key.value == "<<" and key.style == "PLAIN" then
        error(fault(key.line, "merge keys (<<) are not supported here; write the keys out"))
      end
      if seen[key.value] then
        error(fault(key.line, ('mapping key "%s" already defined at line %d'):format(key.value,
          seen[key.value])))
      end
      seen[key.value] = key.line
      local value = read(depth + 1)
      node.entries[#node.entries + 1] = { key = key, value = value }
    end
  end

  local function read_seq(node, depth)
    node.items = {}
    advance()
    while event.type ~= "SEQUENCE_END" do
      node.items[#node.items + 1] = read(depth + 1)
    end
  end

  local function close(node)
    -- A block collection's end lies where the next thing begins; its last line is its last child's.
    node.end_line, node.end_column = event.end_mark.line + 1, event.end_mark.column + 1
    if node.style == "FLOW" then
      node.last_line = node.end_line
    else
      local last = node.line
      for _, item in ipairs(node.items or {}) do last = math.max(last, item.last_line) end
      for _, entry in ipairs(node.entries or {}) do
        last = math.max(last, entry.key.last_line, entry.value.last_line)
      end
      node.last_line = last
    end
  end

  function read(depth)
    count = count + 1
    local line = event.start_mark.line + 1
    if depth > M.MAX_DEPTH then error(fault(line, "nested too deep")) end
    if count > M.MAX_NODES then error(fault(line, "too large")) end
    local node
    if event.type == "ALIAS" then
      local target = anchors[event.anchor]
      if not target then error(fault(line, "unknown anchor '" .. event.anchor .. "'")) end
      if not target.done then
        error(fault(line, "anchor '" .. event.anchor .. "' contains itself"))
      end
      count = count + target.weight
      if count > M.MAX_NODES then error(fault(line, "too large")) end
      node = {}
      for k, v in pairs(target) do node[k] = v end
      node.line, node.last_line, node.alias = line, line, true
      advance()
      return node
    end
    local before = count
    if event.type == "SCALAR" then
      node = node_of("scalar", event)
      node.value, node.done = event.value, true
      node.end_line, node.end_column = event.end_mark.line + 1, event.end_mark.column + 1
      node.last_line = math.max(node.line,
        event.end_mark.column == 0 and node.end_line - 1 or node.end_line)
      if node.anchor then anchors[node.anchor] = node end
    elseif event.type == "MAPPING_START" or event.type == "SEQUENCE_START" then
      local is_map = event.type == "MAPPING_START"
      node = node_of(is_map and "map" or "seq", event)
      if node.anchor then anchors[node.anchor] = node end
      if is_map then read_map(node, depth) else read_seq(node, depth) end
      close(node)
      node.done = true
    else
      error(fault(line, "unexpected " .. tostring(event.type)))
    end
    node.weight = count - before + 1
    advance()
    return node
  end

  advance()
  if event.type == "STREAM_END" then return nil end
  advance()
  return read(1)
end

--- Parses the first document of text.
---@param text string
---@return peerup.yaml_node? root  nil, nil when there is no document
---@return peerup.err? err         err.line is the line, when it is known
function M.parse(text)
  -- The parser throws on malformed text, and has no other way to say so.
  local ok, root = pcall(reader, text)
  if ok then return root end
  local problem = err.say("malformed", "")
  if type(root) == "table" and root.text then
    problem.line, problem.message = root.line, root.text
  else
    local message = tostring(root)
    local line = message:match("line: (%d+)")
    problem.line = line and math.tointeger(tonumber(line))
    problem.message = (message:match("^[^\n]*") or message):gsub(" at document: %d+", "")
      :gsub(", line: %d+, column: %d+", "")
  end
  return nil, problem
end

--- Returns the value node of a key of a map node.
---@param node peerup.yaml_node?
---@param name string
---@return peerup.yaml_node? value, peerup.yaml_node? key
function M.get(node, name)
  for _, entry in ipairs(node and node.entries or {}) do
    if entry.key.value == name then return entry.value, entry.key end
  end
end

--- Tells whether a node is YAML's null.
---@return boolean
function M.is_null(node)
  if node.kind ~= "scalar" or node.style ~= "PLAIN" then return false end
  local v = node.value
  return v == "" or v == "~" or v == "null" or v == "Null" or v == "NULL"
end

local BOOLEANS = {
  ["true"] = true, ["True"] = true, ["TRUE"] = true,
  ["false"] = false, ["False"] = false, ["FALSE"] = false,
  y = true, Y = true, yes = true, Yes = true, YES = true, on = true, On = true, ON = true,
  n = false, N = false, no = false, No = false, NO = false, off = false, Off = false, OFF = false,
}

--- Reads a boolean; nil when it is none.
---@return boolean?
function M.to_boolean(node)
  if node.kind == "scalar" and node.style == "PLAIN" then return BOOLEANS[node.value] end
end

--- Reads an integer (decimal, 0x, 0o, 0b, underscores); nil when it is none.
---@return integer?
function M.to_integer(node)
  if node.kind ~= "scalar" or node.style ~= "PLAIN" then return nil end
  local sign, digits = node.value:gsub("_", ""):match("^([+-]?)(.+)$")
  if not digits then return nil end
  local value
  if digits:find("^0x%x+$") and #digits <= 17 then
    value = math.tointeger(tonumber(digits))
  elseif digits:find("^0o?[0-7]+$") then
    value = tonumber(digits:match("^0o?(.+)$"), 8)
  elseif digits:find("^0b[01]+$") then
    value = tonumber(digits:sub(3), 2)
  elseif digits:find("^%d+$") then
    value = math.tointeger(tonumber(digits))
  end
  value = value and math.tointeger(value)
  return value and (sign == "-" and -value or value)
end

return M
