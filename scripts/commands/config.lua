--- Checks and shows the config, and changes it so that a mistake goes back by itself.
local err = require "peerup.err"
local fs = require "peerup.fs"
local load = require "peerup.config.load"
local safety = require "peerup.config.safety"
local show = require "peerup.config.show"
local values = require "peerup.config.values"

local JSON = { "json", type = "flag", help = "print JSON" }

local verdict = require("peerup.config.verdict").tell

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
    local text, why = fs.read(keys_file) -- its failures name the file
    local ok
    if text then ok, why = keys.load(text) end
    if not text then faults[#faults + 1] = tostring(why)
    elseif not ok then faults[#faults + 1] = ("%s: %s"):format(keys_file, tostring(why)) end
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
  local at = safety.paths(config.path)
  ctx.out:line("# Last-known-good archive: %s", fs.exists(at.archive) and at.archive or "none")
  local pending = safety.pending(config.path)
  if pending then
    local left = pending.deadline - ctx.now()
    ctx.out:line("# Commit-confirmed pending: %s", left > 0
      and values.format_duration(left * 1000000000) .. " remaining" or "expired")
  end
  return 0
end

-- ---- going back ----

local function rollback(ctx, args)
  local path, problem = load.find(args.config, ctx.home)
  if not path then return nil, problem end
  local ok
  ok, problem = safety.rollback(path)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Restored %s from last-known-good archive", path)
  ctx.out:line("A running daemon takes it up within a second.")
  return 0
end

local function apply(ctx, args)
  local timeout, bad = values.parse_duration(args["confirm-timeout"] or args.confirm_timeout)
  if not timeout then
    return nil, err.say("usage", "--confirm-timeout: " .. tostring(bad))
  end
  local path, problem = load.find(args.config, ctx.home)
  if not path then return nil, problem end
  ctx:catch_signals() -- they are looked at when all files are written
  local ok
  ok, problem = safety.apply(path, args.new, "node", timeout // 1000000000, ctx.now())
  if not ok then return nil, problem end
  ctx.out:paint("green", "Applied %s → %s", args.new, path)
  ctx.out:line("Auto-revert in %s unless confirmed.", values.format_duration(timeout))
  ctx.out:line("A running daemon takes it up within a second; to keep it: peerup config confirm")
  return 0
end

local function confirm(ctx, args)
  local path, problem = load.find(args.config, ctx.home)
  if not path then return nil, problem end
  ctx:catch_signals()
  local ok
  ok, problem = safety.confirm(path)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Config confirmed: %s is now permanent", path)
  return 0
end

return {
  name = "config", summary = "check, show and change the config safely",
  commands = {
    { name = "validate", summary = "check the config and authorized_keys", run = validate,
      options = { JSON } },
    { name = "show", summary = "print the config with defaults and full paths",
      run = show_config, options = { JSON } },
    { name = "apply", summary = "use a new config, which goes back unless confirmed", run = apply,
      args = { { "new", help = "the new config file" } },
      options = { { "confirm-timeout", type = "string", value = "<time>", default = "5m",
        help = "time to confirm" } } },
    { name = "confirm", summary = "keep the config that was applied", run = confirm },
    { name = "rollback", summary = "bring back the last config that ran", run = rollback },
  },
}
