--- Services of this machine: edits the config's `services` section, keeping its layout. A running
-- daemon takes changes up by itself.
local edit = require "peerup.config.edit"
local fs = require "peerup.fs"
local json = require "peerup.json"
local services = require "peerup.services"
local values = require "peerup.config.values"

local NAME = { { "name", help = "the service's name", complete = "services" } }

--- Rewrites the config by an edit; nothing is written when the edit is refused.
local function change(config, fn)
  local text, problem = fn(config.text)
  if not text then return nil, problem end
  if text == config.text then return true end
  return fs.write(config.path, text)
end

local function done(ctx)
  ctx.out:paint("faint", "A running daemon takes this up by itself.")
end

local function add(ctx, args)
  local ok, problem = services.check_name(args.name)
  if not ok then return nil, problem end
  ok, problem = values.split_host_port(args.address)
  if not ok then return nil, problem end
  local config
  config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  if config.services[args.name] then
    ctx.out:paint("yellow", "Service already exists: %s -> %s", args.name,
      config.services[args.name].local_address)
    return 0
  end
  ok, problem = change(config, function(text)
    return edit.add_service(text, args.name, { local_address = args.address,
      protocol = args.protocol })
  end)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Added service: %s -> %s", args.name, args.address)
  if args.protocol then
    ctx.out:paint("yellow", "Note: peers use %s; a service's own protocol has no effect",
      services.protocol(args.name))
  end
  ctx.out:line("Config: %s", config.path)
  done(ctx)
  return 0
end

local function list(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local all = services.list(config)
  if args.json then
    local rows = json.array()
    for i, s in ipairs(all) do
      rows[i] = json.object("name", s.name, "protocol", s.protocol, "local_address",
        s.local_address, "enabled", s.enabled,
        "allowed_peers", #s.allowed_peers > 0 and json.array(s.allowed_peers) or nil)
    end
    ctx.out:json(rows)
    return 0
  end
  if #all == 0 then
    ctx.out:line("No services configured.")
    return 0
  end
  ctx.out:line("Services (%d):", #all)
  for _, s in ipairs(all) do
    local state = s.enabled and ctx.out.term:paint("green", "(enabled)")
      or ctx.out.term:paint("faint", "(disabled)")
    ctx.out:line("  %-12s -> %-20s %s%s%s", s.name, s.local_address, state,
      s.custom_protocol ~= "" and "  protocol: " .. s.custom_protocol or "",
      #s.allowed_peers > 0 and ("  only for %d peer(s)"):format(#s.allowed_peers) or "")
  end
  return 0
end

local function switch(on)
  return function(ctx, args)
    local config, problem = ctx:node_config(args)
    if not config then return nil, problem end
    local word = on and "enabled" or "disabled"
    local service = config.services[args.name]
    if service and service.enabled == on then
      ctx.out:paint("yellow", "Service %s is already %s", args.name, word)
      return 0
    end
    local ok
    ok, problem = change(config, function(text)
      return edit.set_service_enabled(text, args.name, on)
    end)
    if not ok then return nil, problem end
    ctx.out:paint("green", "Service %s: %s", word, args.name)
    done(ctx)
    return 0
  end
end

local function remove(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local ok
  ok, problem = change(config, function(text) return edit.remove_service(text, args.name) end)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Removed service: %s", args.name)
  done(ctx)
  return 0
end

return {
  name = "service", summary = "services of this machine: add, list, enable, disable, remove",
  commands = {
    { name = "add", summary = "offer a service to authorized peers", run = add,
      args = { { "name", help = "the service's name" },
        { "address", help = "host:port where it listens, such as localhost:22" } },
      options = { { "protocol", type = "string", value = "<id>",
        help = "kept for compatibility; peers always use /peerup/<name>/1.0.0" } } },
    { name = "list", summary = "list services", run = list,
      options = { { "json", type = "flag", help = "print JSON" } } },
    { name = "enable", summary = "offer a service again", run = switch(true), args = NAME },
    { name = "disable", summary = "stop offering a service", run = switch(false), args = NAME },
    { name = "remove", summary = "remove a service", run = remove, args = NAME },
  },
}
