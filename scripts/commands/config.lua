--- Checks and shows the config.
local err = require "peerup.err"
local json = require "peerup.json"
local load = require "peerup.config.load"
local show = require "peerup.config.show"

local JSON = { "json", type = "flag", help = "print JSON" }

local function verdict(ctx, args, path, faults)
  if args.json then
    ctx.out:json(json.object("path", path, "valid", #faults == 0, "errors", json.array(faults)))
    return #faults == 0 and 0 or nil, err.say("silent", "")
  end
  if #faults == 0 then
    ctx.out:paint("green", "OK: %s is valid", path)
    return 0
  end
  for _, fault in ipairs(faults) do ctx.out:paint("red", "FAIL: %s", fault) end
  return nil, err.say("malformed", "validation failed")
end

local function validate(ctx, args)
  local path, problem = load.find(args.config, ctx.home)
  if not path then
    return verdict(ctx, args, args.config, { tostring(problem) })
  end
  local config
  config, problem = load.read(path, "node")
  if not config then return verdict(ctx, args, path, { tostring(problem) }) end
  for _, warning in ipairs(config.warnings) do ctx.err:paint("yellow", "Warning: %s", warning) end
  local faults = load.validate(config)
  local keys_file = config.security.authorized_keys_file
  if config.security.enable_connection_gating and keys_file ~= "" then
    local keys = require "peerup.authorized_keys"
    local text, why = require("peerup.fs").read(keys_file)
    local ok
    if text then ok, why = keys.load(text) end
    if not ok then faults[#faults + 1] = ("%s: %s"):format(keys_file, tostring(why)) end
  end
  return verdict(ctx, args, path, faults)
end

local function show_config(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local faults = load.validate(config)
  if args.json then
    ctx.out:json(show.json(config))
    return 0
  end
  ctx.out:line("# Resolved config from %s", config.path)
  for _, fault in ipairs(faults) do ctx.out:line("# WARNING: %s", fault) end
  ctx.out:write(show.yaml(config))
  return 0
end

return {
  name = "config", summary = "check and show the config: validate, show",
  commands = {
    { name = "validate", summary = "check the config and authorized_keys", run = validate,
      options = { JSON } },
    { name = "show", summary = "print the config with defaults and full paths",
      run = show_config, options = { JSON } },
  },
}
