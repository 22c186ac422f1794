--- Edits a person's configuration as text, so that comments and layout stay.
-- Every edit is checked: the text is read again, and must hold what it held before plus the change.
-- Where the layout defeats the edit it is refused with the reason, and nothing is written.
local err = require "peerup.err"
local nearest = require "peerup.nearest"
local yaml = require "peerup.config.yaml"

local M = {}

local NULL = {} -- stands for YAML's null in plain values

--- Turns a node into plain Lua values for comparison; kinds must not be confused.
local function plain(node)
  if not node or yaml.is_null(node) then return NULL end
  if node.kind == "scalar" then return node.value end
  local result = { kind = node.kind, map = {}, seq = {} }
  for _, entry in ipairs(node.entries or {}) do
    result.map[entry.key.value] = plain(entry.value)
  end
  for i, item in ipairs(node.items or {}) do result.seq[i] = plain(item) end
  return result
end

local function equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" or a == NULL or b == NULL then return a == b end
  if a.kind ~= b.kind or #a.seq ~= #b.seq then return false end
  for key, value in pairs(a.map) do
    if b.map[key] == nil or not equal(value, b.map[key]) then return false end
  end
  for key in pairs(b.map) do
    if a.map[key] == nil then return false end
  end
  for i, value in ipairs(a.seq) do
    if not equal(value, b.seq[i]) then return false end
  end
  return true
end

local function map_of(value)
  if value == NULL or value == nil then return { kind = "map", map = {}, seq = {} } end
  return value
end

local function seq_of(value)
  if value == NULL or value == nil then return { kind = "seq", map = {}, seq = {} } end
  return value
end

--- Text as lines, without their ends; join puts them back.
local function split(text)
  local newline = text:find("\r\n", 1, true) and "\r\n" or "\n"
  local lines, from = {}, 1
  while true do
    local at = text:find(newline, from, true)
    lines[#lines + 1] = text:sub(from, (at or #text + 1) - 1)
    if not at then break end
    from = at + #newline
  end
  lines.newline = newline
  return lines
end

local function join(lines)
  return table.concat(lines, lines.newline)
end

local function indent(column)
  return (" "):rep(column - 1)
end

--- Byte offset of a character column in a line.
local function byte_at(line, column)
  return utf8.offset(line, column) or #line + 1
end

local function quote(text)
  return '"' .. text:gsub('[\\"]', "\\%0"):gsub("%c", function(c)
    return ("\\x%02x"):format(c:byte())
  end) .. '"'
end

--- Parses, or says where the file is broken.
local function parse(text)
  local root, problem = yaml.parse(text)
  if problem then
    local line = problem.line and ("line %d: "):format(problem.line) or ""
    return nil, err.say("malformed", "the config cannot be edited, it is malformed: " .. line
      .. problem.message)
  end
  return root or { kind = "map", entries = {}, line = 1, column = 1, last_line = 1 }
end

--- Tries each way to edit until the text then reads as `want` says.
local function first_good(want, ways)
  for _, way in ipairs(ways) do
    local edited = way()
    local root = edited and yaml.parse(edited)
    if edited and equal(plain(root), want) then return edited end
  end
end

local function refuse(node, what, hint)
  local line = node and node.line
  return nil, err.say("unsupported", ("cannot edit %s%s without harm to its layout; %s"):format(
    what, line and (" (line %d)"):format(line) or "", hint))
end

local WORDS = {} -- that a YAML reader may take for something else than text
for word in ("null yes no y n true false on off"):gmatch("%a+") do
  WORDS[word], WORDS[word:upper()], WORDS[word:gsub("^%a", string.upper)] = true, true, true
end

--- Tells whether every YAML reader takes a key without quotes as text.
local function is_plain_key(name)
  return not WORDS[name] and not name:find("^[%d.~-]")
end

--- Inserts `text` into a one-line flow collection, in front of its closing sign.
local function append_to_flow(lines, node, text)
  if node.style ~= "FLOW" or node.line ~= node.end_line then return nil end
  local line = lines[node.line]
  local close = byte_at(line, node.end_column) - 1
  local inside = line:sub(byte_at(line, node.column) + 1, close - 1)
  local separator = inside:find("^%s*$") and "" or ", "
  local head = line:sub(1, close - 1):gsub("%s+$", "")
  local tail = inside:match("(%s*)$")
  if separator == "" then tail = "" end
  lines[node.line] = head .. separator .. text .. tail .. line:sub(close)
  return join(lines)
end

--- Adds lines of a new section at the end of the text.
local function append_section(text, section)
  local lines = split(text)
  lines[#lines + 1] = ""
  for _, line in ipairs(section) do lines[#lines + 1] = line end
  return join(lines)
end

--- Adds a name for a peer. The name must be clean (names.sanitize) and unique (names.unique).
---@param text string
---@param name string
---@param peer_id string
---@return string? text, peerup.err?
function M.add_name(text, name, peer_id)
  local root, problem = parse(text)
  if not root then return nil, problem end
  local want = map_of(plain(root))
  local names = map_of(want.map.names)
  want.map.names = names
  if names.map[name] then
    if names.map[name] == peer_id then return text end
    return nil, err.say("exists", ('the name "%s" is already taken'):format(name))
  end
  names.map[name] = peer_id
  local key = is_plain_key(name) and name or quote(name)
  local entry = ('%s: "%s"'):format(key, peer_id)
  local node, node_key = yaml.get(root, "names")
  local function insert_below(line, column)
    local lines = split(text)
    table.insert(lines, line + 1, indent(column) .. entry)
    return join(lines)
  end
  local ways = {
    function() -- the empty form becomes a block
      local at, stop = text:find("names: {}", 1, true)
      if at then return text:sub(1, at - 1) .. "names:\n  " .. entry .. text:sub(stop + 1) end
    end,
    function() -- right under the section's key
      for i, line in ipairs(split(text)) do
        if line:find("^%s*names:") then return insert_below(i, 3) end
      end
    end,
    function()
      if not node then return append_section(text, { "names:", "  " .. entry }) end
    end,
    function()
      local first = node and node.kind == "map" and node.style == "BLOCK" and node.entries[1]
      if first then return insert_below(first.key.line - 1, first.key.column) end
    end,
    function()
      if node and yaml.is_null(node) then return insert_below(node_key.line, 3) end
    end,
    function()
      if node and node.kind == "map" then return append_to_flow(split(text), node, entry) end
    end,
  }
  local edited = first_good(want, ways)
  if edited then return edited end
  return refuse(node_key, "names", ("add this line to it yourself: %s"):format(entry))
end

--- Adds a relay address at the end of relay.addresses.
---@return string? text, peerup.err?
function M.add_relay(text, addr)
  local root, problem = parse(text)
  if not root then return nil, problem end
  local relay = yaml.get(root, "relay")
  local node, key = yaml.get(relay, "addresses")
  if not node then
    return nil, err.say("unsupported", "the config has no \"addresses:\" line under \"relay:\"; "
      .. "add one, such as:\nrelay:\n  addresses:\n    - " .. quote(addr))
  end
  local want = plain(root)
  local seq = seq_of(want.map.relay.map.addresses)
  want.map.relay.map.addresses = seq
  for _, known in ipairs(seq.seq) do
    if known == addr then return text end
  end
  seq.seq[#seq.seq + 1] = addr
  local item = "- " .. quote(addr)
  local function insert_below(line, column)
    local lines = split(text)
    table.insert(lines, line + 1, indent(column) .. item)
    return join(lines)
  end
  local ways = {
    function()
      local lines = split(text)
      local head, tail = lines[key.line]:match("^(%s*addresses:)%s*%[%s*%](.*)$")
      if not head then return end
      lines[key.line] = head .. tail
      table.insert(lines, key.line + 1, indent(key.column + 2) .. item)
      return join(lines)
    end,
    function()
      if node.kind == "seq" and node.style == "BLOCK" then
        return insert_below(node.last_line, node.column)
      end
    end,
    function()
      if yaml.is_null(node) then return insert_below(key.line, key.column + 2) end
    end,
    function()
      if node.kind == "seq" then return append_to_flow(split(text), node, quote(addr)) end
    end,
  }
  local edited = first_good(want, ways)
  if edited then return edited end
  return refuse(key, "relay.addresses", "add this item to it yourself: " .. item)
end

--- Removes a node that stands in a one-line flow list, with its comma.
local function cut_from_flow(lines, list, index)
  local item = list.items[index]
  if list.line ~= list.end_line then return nil end
  local line = lines[list.line]
  local from, to = byte_at(line, item.column), byte_at(line, item.end_column)
  if list.items[index + 1] then
    to = byte_at(line, list.items[index + 1].column)
  elseif index > 1 then
    from = byte_at(line, list.items[index - 1].end_column)
  end
  lines[list.line] = line:sub(1, from - 1) .. line:sub(to)
  return join(lines)
end

--- Puts an empty collection behind a key that has lost its last line.
local function empty_behind(line, sign)
  local head, tail = line:match("^(.-:)(%s*#.*)$")
  if not head then return line:gsub("%s+$", "") .. " " .. sign end
  return head .. " " .. sign .. tail
end

--- Removes a relay address.
---@return string? text, peerup.err?
function M.remove_relay(text, addr)
  local root, problem = parse(text)
  if not root then return nil, problem end
  local node, key = yaml.get(yaml.get(root, "relay"), "addresses")
  local index
  local known = {}
  for i, item in ipairs(node and node.items or {}) do
    if item.value == addr then index = index or i end
    known[i] = item.value or ""
  end
  if not index then
    return nil, err.say("not_found", ("relay address not found: %s%s"):format(addr,
      nearest.hint(addr, known)))
  end
  local want = plain(root)
  table.remove(want.map.relay.map.addresses.seq, index)
  local ways = {
    function()
      local item = node.items[index]
      if node.style ~= "BLOCK" or item.line ~= item.last_line then return end
      local lines = split(text)
      table.remove(lines, item.line)
      if #node.items == 1 then lines[key.line] = empty_behind(lines[key.line], "[]") end
      return join(lines)
    end,
    function()
      if node.style == "FLOW" then return cut_from_flow(split(text), node, index) end
    end,
  }
  local edited = first_good(want, ways)
  if edited then return edited end
  return refuse(key, "relay.addresses", "remove this address from it yourself: " .. addr)
end

--- Adds an enabled service.
---@param service {local_address: string, protocol: string?}
---@return string? text, peerup.err?
function M.add_service(text, name, service)
  local root, problem = parse(text)
  if not root then return nil, problem end
  local want = map_of(plain(root))
  local services = map_of(want.map.services)
  want.map.services = services
  if services.map[name] then
    return nil, err.say("exists", ('the service "%s" already exists'):format(name))
  end
  local new = { kind = "map", seq = {}, map = {
    enabled = "true", local_address = service.local_address, protocol = service.protocol } }
  services.map[name] = new
  local node, key = yaml.get(root, "services")
  local written = is_plain_key(name) and name or quote(name)
  local function block(column)
    local list = {
      indent(column) .. written .. ":",
      indent(column + 2) .. "enabled: true",
      indent(column + 2) .. "local_address: " .. quote(service.local_address),
    }
    if service.protocol then
      list[#list + 1] = indent(column + 2) .. "protocol: " .. quote(service.protocol)
    end
    return list
  end
  local function insert_below(lines, line, column)
    for i, new_line in ipairs(block(column)) do table.insert(lines, line + i, new_line) end
    return join(lines)
  end
  local ways = {
    function()
      if node then return end
      local section = block(3)
      table.insert(section, 1, "services:")
      local lines = split(text)
      if lines[#lines] == "" then lines[#lines] = nil end
      return append_section(join(lines), section) .. lines.newline
    end,
    function()
      local first = node and node.kind == "map" and node.style == "BLOCK" and node.entries[1]
      if first then return insert_below(split(text), node.last_line, first.key.column) end
    end,
    function()
      if not key then return end
      local lines = split(text)
      local head, tail = lines[key.line]:match("^(%s*services:)%s*{%s*}(.*)$")
      if not head then return end
      lines[key.line] = head .. tail
      return insert_below(lines, key.line, 3)
    end,
    function()
      if node and yaml.is_null(node) then return insert_below(split(text), key.line, 3) end
    end,
    function()
      if not node or node.kind ~= "map" then return end
      return append_to_flow(split(text), node, ("%s: {enabled: true, local_address: %s%s}"):format(
        written, quote(service.local_address),
        service.protocol and ", protocol: " .. quote(service.protocol) or ""))
    end,
  }
  local edited = first_good(want, ways)
  if edited then return edited end
  return refuse(key, "services", "add this to it yourself:\n" .. table.concat(block(3), "\n"))
end

local function find_service(text, name)
  local root, problem = parse(text)
  if not root then return nil, problem end
  local services, services_key = yaml.get(root, "services")
  local node, key = yaml.get(services, name)
  if not node then
    local known = {}
    for i, entry in ipairs(services and services.entries or {}) do known[i] = entry.key.value end
    return nil, err.say("not_found", ("service not found: %s%s"):format(name,
      nearest.hint(name, known)))
  end
  return { root = root, services = services, services_key = services_key, node = node, key = key,
    want = plain(root) }
end

--- Switches a service on or off.
---@return string? text, peerup.err?
function M.set_service_enabled(text, name, on)
  local found, problem = find_service(text, name)
  if not found then return nil, problem end
  local value = on and "true" or "false"
  local service = map_of(found.want.map.services.map[name])
  found.want.map.services.map[name] = service
  service.map.enabled = value
  local enabled = yaml.get(found.node, "enabled")
  local ways = {
    function()
      if not enabled or enabled.kind ~= "scalar" or enabled.alias then return end
      if enabled.line ~= enabled.end_line then return end
      local lines = split(text)
      local line = lines[enabled.line]
      lines[enabled.line] = line:sub(1, byte_at(line, enabled.column) - 1) .. value
        .. line:sub(byte_at(line, enabled.end_column))
      return join(lines)
    end,
    function()
      local first = found.node.entries and found.node.style == "BLOCK" and found.node.entries[1]
      if enabled or not first then return end
      local lines = split(text)
      table.insert(lines, first.key.line, indent(first.key.column) .. "enabled: " .. value)
      return join(lines)
    end,
    function()
      if enabled or not found.node.entries then return end
      return append_to_flow(split(text), found.node, "enabled: " .. value)
    end,
  }
  local edited = first_good(found.want, ways)
  if edited then return edited end
  return refuse(found.key, ("services.%s.enabled"):format(name),
    ("set it to %s yourself"):format(value))
end

--- Removes a service; the last one leaves `services: {}`.
---@return string? text, peerup.err?
function M.remove_service(text, name)
  local found, problem = find_service(text, name)
  if not found then return nil, problem end
  found.want.map.services.map[name] = nil
  local ways = {
    function()
      if found.services.style ~= "BLOCK" then return end
      local lines = split(text)
      local last = math.max(found.node.last_line, found.key.line)
      table.move(lines, last + 1, #lines + (last - found.key.line + 1), found.key.line)
      if #found.services.entries == 1 then
        local line = found.services_key.line
        lines[line] = empty_behind(lines[line], "{}")
      end
      return join(lines)
    end,
  }
  local edited = first_good(found.want, ways)
  if edited then return edited end
  return refuse(found.key, "services." .. name, "remove it yourself")
end

return M
