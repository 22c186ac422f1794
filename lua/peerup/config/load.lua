--- Finds, reads and checks configurations (config.md 1 to 3).
local err = require "peerup.err"
local fs = require "peerup.fs"
local schema = require "peerup.config.schema"
local values = require "peerup.config.values"
local yaml = require "peerup.config.yaml"

local M = {}

M.DIR = ".config/peerup"
M.FILE = "config.yaml"
M.RELAY_FILE = "relay-server.yaml"

--- Where a node's configuration is looked for, in order.
---@param home string?
---@return string[]
function M.places(home)
  local places = { "peerup.yaml" }
  if home and home ~= "" then places[#places + 1] = fs.join(fs.join(home, M.DIR), M.FILE) end
  places[#places + 1] = "/etc/peerup/config.yaml"
  return places
end

--- Finds the node's configuration.
---@param explicit string?  what --config says
---@param home string?
---@return string? path, peerup.err?
function M.find(explicit, home)
  if explicit and explicit ~= "" then
    if fs.exists(explicit) then return explicit end
    return nil, err.say("not_found", "config file not found: " .. explicit)
  end
  local places = M.places(home)
  for _, path in ipairs(places) do
    if fs.exists(path) then return path end
  end
  return nil, err.say("not_found", "no config file found; looked for ./" .. table.concat(places,
    ", ") .. "; run 'peerup init' to create one, or name one with --config <path>")
end

local function place(path, complaint)
  local where = complaint.line and ("%s: line %d"):format(path, complaint.line) or path
  return ("%s: %s: %s"):format(where, complaint.key, complaint.text)
end

--- Decodes text of a configuration. kind is "node" or "relay".
---@param text string
---@param kind "node"|"relay"
---@param path string  for messages and for relative paths in it
---@return table? config  values; .path, .dir, .warnings (sentences) beside them
---@return peerup.err?
function M.decode(text, kind, path)
  local root, problem = yaml.parse(text)
  if problem then
    return nil, err.say("malformed", ("failed to parse YAML: %s: %s%s"):format(path,
      problem.line and ("line %d: "):format(problem.line) or "", problem.message))
  end
  local version
  version, problem = schema.version(root, kind == "relay" and "relay-server" or "peerup")
  if not version then return nil, problem end
  local report = schema.report()
  local config = schema.decode(schema[kind], root, report)
  if #report.errors > 0 then
    return nil, err.say("malformed", "invalid config: " .. place(path, report.errors[1]))
  end
  config.version = version
  config.path, config.dir, config.kind = path, fs.dirname(path), kind
  config.root = root
  config.warnings = {}
  for _, warning in ipairs(report.warnings) do
    config.warnings[#config.warnings + 1] = place(path, warning)
  end
  config.raw_key_file = config.identity.key_file
  config.raw_authorized_keys_file = config.security.authorized_keys_file
  if config.identity.key_file ~= "" then
    config.identity.key_file = fs.join(config.dir, config.identity.key_file)
  end
  if config.security.authorized_keys_file ~= "" then
    config.security.authorized_keys_file = fs.join(config.dir, config.security.authorized_keys_file)
  end
  local web = config.network.websocket
  for _, name in ipairs { "certificate_file", "key_file" } do
    if web[name] ~= "" then web[name] = fs.join(config.dir, web[name]) end
  end
  return config
end

--- Reads a configuration file: mode, syntax, types. It may still be incomplete: see validate.
---@param path string
---@param kind "node"|"relay"
---@return table? config, peerup.err?
function M.read(path, kind)
  if not fs.exists(path) then
    return nil, err.say("not_found", "config file not found: " .. path)
  end
  local ok, problem = fs.check_private(path)
  if not ok then return nil, problem end
  local text
  text, problem = fs.read(path)
  if not text then return nil, problem end
  local config
  config, problem = M.decode(text, kind, path)
  if config then config.text = text end
  return config, problem
end

--- Finds and reads the node's configuration.
---@return table? config, peerup.err?
function M.node(explicit, home)
  local path, problem = M.find(explicit, home)
  if not path then return nil, problem end
  return M.read(path, "node")
end

--- Reads the relay's configuration.
---@return table? config, peerup.err?
function M.relay(explicit)
  local path = explicit and explicit ~= "" and explicit or M.RELAY_FILE
  if not fs.exists(path) then
    return nil, err.say("not_found", ("config file not found: %s (a relay's config is named with "
      .. "--config, or is relay-server.yaml in the working directory)"):format(path))
  end
  return M.read(path, "relay")
end

--- The line of a key, for messages: "identity", "key_file" ...
local function line_of(config, ...)
  local node, line = config.root, nil
  for _, name in ipairs { ... } do
    local value, key = yaml.get(node, name)
    if not key then return line end
    node, line = value, key.line
  end
  return line
end

local function check_addresses(config, add, list, keys, relay)
  local core = require "peerup.core"
  local node = config.root
  for _, key in ipairs(keys) do node = yaml.get(node, key) end
  for i, text in ipairs(list) do
    local key = ("%s[%d]"):format(table.concat(keys, "."), i)
    local item = node and node.items and node.items[i]
    local info, problem = core.multiaddr.inspect(text)
    if not info then
      add(item and item.line, key, ('"%s" is no address: %s'):format(text, tostring(problem)))
    elseif relay and not info.peer then
      add(item and item.line, key, ('"%s" must end in /p2p/<peer ID of the relay>'):format(text))
    end
  end
end

local function check_transports(config, add)
  local transports = require "peerup.transports"
  local list = yaml.get(yaml.get(config.root, "network"), "transports")
  for i, name in ipairs(config.network.transports) do
    local ok, why = transports.check(name)
    if not ok then
      add(list and list.items and list.items[i].line, ("network.transports[%d]"):format(i), why)
    end
  end
  local web = config.network.websocket
  if (web.certificate_file == "") ~= (web.key_file == "") then
    local there, missing = "certificate_file", "key_file"
    if web[there] == "" then there, missing = missing, there end
    add(line_of(config, "network", "websocket", there), "network.websocket." .. missing,
      ("is required beside %s"):format(there))
  end
end

local function check_log(config, add)
  local log = require "peerup.log"
  local ok, why = true, nil
  if config.log.level ~= "" then ok, why = log.check(config.log.level) end
  if not ok then add(line_of(config, "log", "level"), "log.level", why) end
  for _, module in ipairs(M.sorted_keys(config.log.modules)) do
    ok, why = log.check(config.log.modules[module], module)
    if not ok then add(line_of(config, "log", "modules", module), "log.modules." .. module, why) end
  end
end

local function check_common(config, add)
  if config.identity.key_file == "" then
    add(line_of(config, "identity"), "identity.key_file", "is required")
  end
  if #config.network.listen_addresses == 0 then
    add(line_of(config, "network"), "network.listen_addresses", "needs at least one address")
  end
  check_addresses(config, add, config.network.listen_addresses,
    { "network", "listen_addresses" }, false)
  check_transports(config, add)
  check_log(config, add)
  local congestion = config.network.congestion
  if congestion ~= "" and congestion ~= "cubic" and congestion ~= "bbr" then
    add(line_of(config, "network", "congestion"), "network.congestion", 'is "cubic" or "bbr"')
  end
  if config.security.enable_connection_gating and config.security.authorized_keys_file == "" then
    add(line_of(config, "security"), "security.authorized_keys_file",
      "is required when connection gating is on")
  end
  if config.discovery.network ~= "" then
    local ok, problem = values.check_label("network", config.discovery.network)
    if not ok then
      add(line_of(config, "discovery", "network"), "discovery.network", tostring(problem))
    end
  end
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end
M.sorted_keys = sorted_keys

local function check_services(config, add)
  local services = require "peerup.services"
  local core = require "peerup.core"
  for _, name in ipairs(sorted_keys(config.services)) do
    local service = config.services[name]
    local ok, problem = services.check_name(name)
    if not ok then
      add(line_of(config, "services", name), "services." .. name, tostring(problem))
    end
    local key = "services." .. name .. ".local_address"
    if service.local_address ~= "" or service.enabled then
      ok, problem = values.split_host_port(service.local_address)
      if not ok then
        add(line_of(config, "services", name, "local_address"), key, tostring(problem))
      end
    end
    local list = yaml.get(yaml.get(yaml.get(config.root, "services"), name), "allowed_peers")
    for i, text in ipairs(service.allowed_peers) do
      if not core.peer_id.parse(text) then
        add(list and list.items and list.items[i].line,
          ("services.%s.allowed_peers[%d]"):format(name, i), ('"%s" is no peer ID'):format(text))
      end
    end
  end
end

local function check_node(config, add)
  local core = require "peerup.core"
  if #config.relay.addresses == 0 then
    add(line_of(config, "relay"), "relay.addresses", "needs at least one relay")
  end
  check_addresses(config, add, config.relay.addresses, { "relay", "addresses" }, true)
  if config.relay.reservation_interval <= 0 then
    add(line_of(config, "relay", "reservation_interval"), "relay.reservation_interval",
      "must be more than zero")
  end
  if config.discovery.rendezvous == "" then
    add(line_of(config, "discovery"), "discovery.rendezvous", "is required")
  end
  if config.protocols.ping_pong.id == "" then
    add(line_of(config, "protocols"), "protocols.ping_pong.id", "is required")
  end
  check_services(config, add)
  for _, name in ipairs(sorted_keys(config.names)) do
    if not core.peer_id.parse(config.names[name]) then
      add(line_of(config, "names", name), "names." .. name,
        ('"%s" is no peer ID'):format(config.names[name]))
    end
  end
end

local function check_relay(config, add)
  local resources = config.resources
  for _, name in ipairs { "reservation_ttl", "session_duration" } do
    if resources[name] <= 0 then
      add(line_of(config, "resources", name), "resources." .. name, "must be more than zero")
    end
  end
end

--- Checks what a running node or relay needs.
---@param config table  from read
---@return string[] faults  sentences with file, line and key; empty when all is well
function M.validate(config)
  local faults = {}
  local function add(line, key, text)
    faults[#faults + 1] = place(config.path, { line = line, key = key, text = text })
  end
  check_common(config, add)
  if config.kind == "relay" then check_relay(config, add) else check_node(config, add) end
  return faults
end

return M
