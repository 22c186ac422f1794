--- Writes a resolved configuration: every key of the schema, as YAML or for JSON.
local json = require "peerup.json"
local load = require "peerup.config.load"
local schema = require "peerup.config.schema"
local values = require "peerup.config.values"

local M = {}

local INDENT = "    "

--- A scalar that reads back as the same text.
local function scalar(field, value)
  if field.type == "duration" then return values.format_duration(value) end
  if field.type == "size" or field.type == "int" or field.type == "bool" then
    return tostring(value)
  end
  local plain = value:find("^[A-Za-z/][%w%._/@-]*$") and not value:lower():find("^[yn]$")
  local words = { yes = 1, no = 1, on = 1, off = 1, ["true"] = 1, ["false"] = 1, null = 1 }
  if plain and not words[value:lower()] then return value end
  return '"' .. value:gsub('[\\"]', "\\%0"):gsub("%c", function(c)
    return ("\\x%02x"):format(c:byte())
  end) .. '"'
end

local function is_empty(field, value)
  if field.type == "list" then return #value == 0 end
  if field.type == "map" then return next(value) == nil end
  if field.type == "section" then
    for _, sub in ipairs(field.fields) do
      if not is_empty(sub, value[sub.name]) then return false end
    end
    return true
  end
  return value == "" or value == false or value == 0 or value == nil
end

local write_fields

local function write_value(out, field, name, value, pad)
  if field.type == "section" then
    out[#out + 1] = pad .. name .. ":"
    write_fields(out, field.fields, value, pad .. INDENT)
  elseif field.type == "map" then
    out[#out + 1] = pad .. name .. ":" .. (next(value) == nil and " {}" or "")
    for _, key in ipairs(load.sorted_keys(value)) do
      write_value(out, field.each, key, value[key], pad .. INDENT)
    end
  elseif field.type == "list" then
    out[#out + 1] = pad .. name .. ":" .. (#value == 0 and " []" or "")
    for _, item in ipairs(value) do
      out[#out + 1] = pad .. INDENT .. "- " .. scalar({ type = "string" }, item)
    end
  else
    out[#out + 1] = ("%s%s: %s"):format(pad, name, scalar(field, value))
  end
end

function write_fields(out, fields, config, pad)
  for _, field in ipairs(fields) do
    local value = config[field.name]
    if not (field.omit_empty and is_empty(field, value)) then
      write_value(out, field, field.name, value, pad)
    end
  end
end

--- The configuration as YAML.
---@param config table
---@return string
function M.yaml(config)
  local out = {}
  write_fields(out, schema[config.kind], config, "")
  return table.concat(out, "\n") .. "\n"
end

local json_fields

local function json_value(field, value)
  if field.type == "section" then return json_fields(field.fields, value) end
  if field.type == "list" then return json.array(value) end
  if field.type == "duration" then return values.format_duration(value) end
  if field.type == "map" then
    local flat = {}
    for _, key in ipairs(load.sorted_keys(value)) do
      flat[#flat + 1] = key
      flat[#flat + 1] = json_value(field.each, value[key])
    end
    return json.object(table.unpack(flat))
  end
  return value
end

function json_fields(fields, config)
  local flat = {}
  for _, field in ipairs(fields) do
    if not (field.omit_empty and is_empty(field, config[field.name])) then
      flat[#flat + 1] = field.name
      flat[#flat + 1] = json_value(field, config[field.name])
    end
  end
  return json.object(table.unpack(flat))
end

--- The configuration for json.encode.
---@param config table
---@return table
function M.json(config)
  return json_fields(schema[config.kind], config)
end

return M
