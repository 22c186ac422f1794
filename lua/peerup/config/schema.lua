--- What may be set in a configuration: keys, types, defaults and rules (config.md 2 and 3).
-- A schema is a list of fields in the order in which they are shown. Everything else (decoding,
-- unknown keys, `config show`, validation) follows from it.
local err = require "peerup.err"
local nearest = require "peerup.nearest"
local values = require "peerup.config.values"
local yaml = require "peerup.config.yaml"

local M = {}

M.SUPPORTED_VERSION = 1

---@class peerup.schema_field
---@field name string
---@field type "int"|"bool"|"string"|"path"|"duration"|"size"|"list"|"map"|"section"
---@field default any       value when the key is absent
---@field fields peerup.schema_field[]?  of a section
---@field each peerup.schema_field?      of a map: what every value is
---@field omit_empty boolean?            `config show` leaves it out when it is empty
---@field min integer?

local telemetry = {
  name = "telemetry", type = "section", omit_empty = true, fields = {
    { name = "metrics", type = "section", fields = {
      { name = "enabled", type = "bool", default = false },
      { name = "listen_address", type = "string", default = "" } } },
    { name = "audit", type = "section", fields = {
      { name = "enabled", type = "bool", default = false } } },
  },
}

-- Absent means on: a configuration that forgets the key must not be open to everybody.
local gating = { name = "enable_connection_gating", type = "bool", default = true }

local service = {
  type = "section", fields = {
    { name = "enabled", type = "bool", default = false },
    { name = "local_address", type = "string", default = "" },
    { name = "protocol", type = "string", default = "", omit_empty = true },
    { name = "allowed_peers", type = "list", omit_empty = true },
  },
}

local transports = { name = "transports", type = "list", omit_empty = true }

local websocket = {
  name = "websocket", type = "section", omit_empty = true, fields = {
    { name = "certificate_file", type = "path", default = "", omit_empty = true },
    { name = "key_file", type = "path", default = "", omit_empty = true } },
}

local function count(name)
  return { name = name, type = "int", default = 0, min = 0, omit_empty = true }
end
local function size(name)
  return { name = name, type = "size", default = 0, omit_empty = true }
end

-- What one address, peer, protocol and all together may hold; 0: the engine's default, which
-- follows from the machine.
local limits = {
  name = "limits", type = "section", omit_empty = true, fields = {
    { name = "connections", type = "section", omit_empty = true, fields = {
      count "total", count "inbound", count "per_address", count "per_peer", count "pending",
      count "pending_per_address" } },
    { name = "streams", type = "section", omit_empty = true, fields = {
      count "total", count "per_address", count "per_peer", count "per_connection",
      count "negotiating", count "per_protocol", count "per_protocol_and_peer" } },
    { name = "memory", type = "section", omit_empty = true, fields = {
      size "total", size "per_address", size "per_peer", size "per_connection" } },
    { name = "protocols", type = "map", omit_empty = true, each = {
      type = "section", fields = { count "total", count "per_peer" } } },
  },
}

local log = {
  name = "log", type = "section", omit_empty = true, fields = {
    { name = "level", type = "string", default = "", omit_empty = true },
    { name = "modules", type = "map", omit_empty = true, each = { type = "string" } } },
}

M.node = {
  { name = "version", type = "int", default = 1 },
  { name = "identity", type = "section", fields = {
    { name = "key_file", type = "path", default = "" } } },
  { name = "network", type = "section", fields = {
    { name = "listen_addresses", type = "list" },
    { name = "force_private_reachability", type = "bool", default = false },
    transports,
    websocket,
    { name = "congestion", type = "string", default = "", omit_empty = true },
    { name = "resource_limits_enabled", type = "bool", default = false } } },
  { name = "relay", type = "section", fields = {
    { name = "addresses", type = "list" },
    { name = "reservation_interval", type = "duration", default = 120 * 1000000000 } } },
  { name = "discovery", type = "section", fields = {
    { name = "rendezvous", type = "string", default = "" },
    { name = "network", type = "string", default = "", omit_empty = true },
    { name = "bootstrap_peers", type = "list" } } },
  { name = "security", type = "section", fields = {
    { name = "authorized_keys_file", type = "path", default = "" },
    gating } },
  { name = "protocols", type = "section", fields = {
    { name = "ping_pong", type = "section", fields = {
      { name = "enabled", type = "bool", default = false },
      { name = "id", type = "string", default = "" } } } } },
  { name = "services", type = "map", each = service, omit_empty = true },
  { name = "names", type = "map", each = { type = "string" }, omit_empty = true },
  limits,
  log,
  telemetry,
}

M.relay = {
  { name = "version", type = "int", default = 1 },
  { name = "identity", type = "section", fields = {
    { name = "key_file", type = "path", default = "" } } },
  { name = "network", type = "section", fields = {
    { name = "listen_addresses", type = "list" },
    transports,
    websocket,
    { name = "congestion", type = "string", default = "", omit_empty = true } } },
  { name = "discovery", type = "section", fields = {
    { name = "network", type = "string", default = "", omit_empty = true } } },
  { name = "security", type = "section", fields = {
    { name = "authorized_keys_file", type = "path", default = "" },
    gating,
    { name = "members_may_invite", type = "bool", default = true } } },
  { name = "resources", type = "section", fields = {
    { name = "max_reservations", type = "int", default = 128, zero = 128, min = 0 },
    { name = "max_circuits", type = "int", default = 16, zero = 16, min = 0 },
    { name = "buffer_size", type = "int", default = 2048, zero = 2048, min = 0 },
    { name = "max_reservations_per_ip", type = "int", default = 8, zero = 8, min = 0 },
    { name = "max_reservations_per_asn", type = "int", default = 32, zero = 32, min = 0 },
    { name = "reservation_ttl", type = "duration", default = 3600 * 1000000000 },
    { name = "session_duration", type = "duration", default = 600 * 1000000000 },
    { name = "session_data_limit", type = "size", default = 64 * 1024 * 1024 } } },
  { name = "health", type = "section", fields = {
    { name = "enabled", type = "bool", default = false },
    { name = "listen_address", type = "string", default = "" } } },
  limits,
  log,
  telemetry,
}

local decode

local KIND = { map = "a mapping", seq = "a list", scalar = "a single value" }

--- A place for complaints: file and line go in front, the key behind.
---@class peerup.config_report
---@field errors {line: integer?, key: string, text: string}[]
---@field warnings {line: integer?, key: string, text: string}[]
function M.report()
  return { errors = {}, warnings = {} }
end

local function complain(list, line, key, text)
  list[#list + 1] = { line = line, key = key, text = text }
end

local scalar = {}

function scalar.int(node, field)
  local n = yaml.to_integer(node)
  if not n then return nil, "must be an integer" end
  if field.min and n < field.min then return nil, ("must be at least %d"):format(field.min) end
  if n == 0 and field.zero then return field.zero end
  return n
end

function scalar.bool(node)
  local b = yaml.to_boolean(node)
  if b == nil then return nil, "must be true or false" end
  return b
end

function scalar.string(node)
  return node.value
end
scalar.path = scalar.string

function scalar.duration(node)
  local ns, problem = values.parse_duration(node.value)
  return ns, problem and tostring(problem)
end

function scalar.size(node)
  local bytes, problem = values.parse_size(node.value)
  return bytes, problem and tostring(problem)
end

local function decode_list(node, path, report)
  local list = {}
  if node.kind ~= "seq" then
    complain(report.errors, node.line, path, "must be a list, not " .. KIND[node.kind])
    return list
  end
  for i, item in ipairs(node.items) do
    if item.kind ~= "scalar" then
      complain(report.errors, item.line, ("%s[%d]"):format(path, i), "must be a single value")
    else
      list[#list + 1] = item.value
    end
  end
  return list
end

local function decode_map(field, node, path, report)
  local map = {}
  if node.kind ~= "map" then
    complain(report.errors, node.line, path, "must be a mapping, not " .. KIND[node.kind])
    return map
  end
  for _, entry in ipairs(node.entries) do
    local name = entry.key.value
    map[name] = decode(field.each, entry.value, path .. "." .. name, report)
  end
  return map
end

local function decode_section(fields, node, path, report)
  local result, known, names = {}, {}, {}
  for _, field in ipairs(fields) do
    known[field.name] = field
    names[#names + 1] = field.name
  end
  if node and node.kind ~= "map" then
    complain(report.errors, node.line, path, "must be a mapping, not " .. KIND[node.kind])
    node = nil
  end
  for _, entry in ipairs(node and node.entries or {}) do
    local name = entry.key.value
    if not known[name] then
      local near = nearest.of(name, names)
      complain(report.warnings, entry.key.line, path == "" and name or path .. "." .. name,
        "unknown key" .. (near and (', did you mean "%s"?'):format(near) or ""))
    end
  end
  for _, field in ipairs(fields) do
    local value, key = yaml.get(node, field.name)
    local sub = path == "" and field.name or path .. "." .. field.name
    if value and key then value.key_line = key.line end
    result[field.name] = decode(field, value, sub, report)
  end
  return result
end

function decode(field, node, path, report)
  if node and yaml.is_null(node) then node = nil end
  local kind = field.type
  if kind == "section" then return decode_section(field.fields, node, path, report) end
  if not node then
    if kind == "list" or kind == "map" then return {} end
    return field.default
  end
  if kind == "list" then return decode_list(node, path, report) end
  if kind == "map" then return decode_map(field, node, path, report) end
  if node.kind ~= "scalar" then
    complain(report.errors, node.line, path, "must be a single value, not " .. KIND[node.kind])
    return field.default
  end
  local value, why = scalar[kind](node, field)
  if value == nil then
    complain(report.errors, node.line, path, why)
    return field.default
  end
  return value
end

--- Turns a parsed document into values, defaults filled in.
---@param fields peerup.schema_field[]
---@param root peerup.yaml_node?
---@param report peerup.config_report
---@return table values
function M.decode(fields, root, report)
  return decode_section(fields, root, "", report)
end

--- Reads the version and refuses one that is newer than we are.
---@param root peerup.yaml_node?
---@param program string
---@return integer? version, peerup.err?
function M.version(root, program)
  local node = yaml.get(root, "version")
  local version = node and not yaml.is_null(node) and yaml.to_integer(node) or 0
  if version == 0 then version = 1 end
  if version > M.SUPPORTED_VERSION then
    local problem = err.say("unsupported", ("config version too new: version %d is newer than "
      .. "supported version %d; please upgrade %s"):format(version, M.SUPPORTED_VERSION, program))
    problem.line = node.line
    return nil, problem
  end
  return version
end

return M
