--- Checks of lua/peerup: config_values.json, names.json, names_from_peers.json.
local lib = require "lib"
local args = require "peerup.cli.args"
local edit = require "peerup.config.edit"
local names = require "peerup.names"
local services = require "peerup.services"
local values = require "peerup.config.values"
local yaml = require "peerup.config.yaml"

-- ---- config_values ----

local function size_valid(case)
  lib.equal("bytes", assert(values.parse_size(case.text)), math.tointeger(case.bytes))
end

local function size_invalid(case)
  lib.accepted("size", false, values.parse_size(case.text))
end

local function duration_valid(case)
  local ns = assert(values.parse_duration(case.text))
  lib.equal("nanoseconds", tostring(ns), case.nanoseconds)
  lib.equal("written back", values.parse_duration(values.format_duration(ns)), ns)
end

local function duration_invalid(case)
  lib.accepted("duration", false, values.parse_duration(case.text))
end

-- ---- names ----

local function name_valid(case)
  lib.equal("valid", values.is_label(case.text), true)
  lib.equal("service protocol", services.protocol(case.text), case.service_protocol)
  lib.equal("protocol of the network", "/peerup/" .. case.text .. "/kad/1.0.0",
    case.dht_protocol_of_network)
end

local function name_invalid(case)
  lib.equal("valid", values.is_label(case.text), false)
  lib.accepted("service", false, values.check_label("service", case.text))
end

-- ---- names_from_peers ----

local function sanitize(case)
  lib.equal("clean name", names.sanitize(case.text), case.result)
end

local function unique(case)
  local existing = {}
  for _, name in ipairs(case.existing) do existing[name] = true end
  lib.equal("unique name", names.unique(case.text, existing), case.result)
end

--- The value at a path of a YAML text; nil when the text is malformed.
local function at(text, ...)
  local node = yaml.parse(text)
  for _, key in ipairs { ... } do node = node and yaml.get(node, key) end
  return node
end

--- Text edits: to the byte like the Go program wherever that leaves a sound configuration. Where it
-- does not (a duplicate key, a line at the wrong depth), ours must, or must refuse.
local function config_names(case)
  local sane = at(case.after, "names", case.peer_name)
  sane = sane and sane.value == case.peer_id
  local got, problem = edit.add_name(case.before, case.peer_name, case.peer_id)
  if sane then
    lib.equal("configuration", assert(got, problem), case.after)
  elseif got then
    lib.equal("name", at(got, "names", case.peer_name).value, case.peer_id)
  end
end

local function config_relays(case)
  local got, problem = edit.add_relay(case.before, case.relay)
  if not case.ok then
    lib.accepted("edit", false, got, problem)
    lib.equal("untouched", case.before, case.after)
    return
  end
  local found = false
  local list = at(case.after, "relay", "addresses")
  for _, item in ipairs(list and list.items or {}) do found = found or item.value == case.relay end
  if found then lib.equal("configuration", assert(got, problem), case.after) end
end

local BOOLEANS = { json = true, ["non-interactive"] = true, fresh = true }

local function reorder_args(case)
  local got = args.reorder(case["in"], BOOLEANS)
  lib.equal("order", table.concat(got, "\0"), table.concat(case.out, "\0"))
end

return {
  config_values = {
    data_size_valid = size_valid, data_size_invalid = size_invalid,
    duration_valid = duration_valid, duration_invalid = duration_invalid,
  },
  names = { valid = name_valid, invalid = name_invalid },
  names_from_peers = {
    sanitize = sanitize, unique = unique, config_names = config_names,
    config_relays = config_relays, reorder_args = reorder_args,
  },
}
