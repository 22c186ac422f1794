--- The files of a machine that joins: its config, made if there is none, but only after the other
-- side has answered and never over an existing one; its key; its authorized_keys.
local err = require "peerup.err"
local fs = require "peerup.fs"
local identity = require "peerup.identity"
local load = require "peerup.config.load"
local template = require "peerup.config.template"

local M = {}

--- Where this machine's config is, or will be: an existing one, what --config says, or the default.
---@return string path, boolean is_new
function M.place(ctx, args)
  if args.config and args.config ~= "" then
    return args.config, not fs.exists(args.config)
  end
  local path = load.find(nil, ctx.home)
  if path then return path, false end
  return fs.join(ctx:default_dir(), load.FILE), true
end

--- Loads the config, or makes one in memory; the key is saved at once, for it must not be lost
-- between the other side's answer and ours.
---@return table? config, table|peerup.err identity
function M.prepare(path, is_new, invite)
  local config, problem
  if is_new then
    config, problem = load.decode(template.node { by = "join", relay = invite.relay_addr,
      network = invite.network }, "node", path)
  else
    config, problem = load.read(path, "node")
  end
  if not config then return nil, err.say(problem.code, "Config error: " .. tostring(problem)) end
  if config.security.authorized_keys_file == "" then
    return nil, err.say("invalid", "Config error: security.authorized_keys_file is not set")
  end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  return config, own
end

--- Writes what a new machine needs, config last, or adds the relay to an existing config.
---@return true?, peerup.err?
function M.settle(path, is_new, invite, config)
  if is_new then
    local keys_path = config.security.authorized_keys_file
    local ok, problem = true, nil
    if not fs.exists(keys_path) then
      ok, problem = fs.write(keys_path, template.AUTHORIZED_KEYS.join)
    end
    if not ok then return nil, problem end
    return fs.create(path, template.node { by = "join", relay = invite.relay_addr,
      network = invite.network })
  end
  for _, addr in ipairs(config.relay.addresses) do
    if addr:find(invite.relay_peer, 1, true) then return true end
  end
  local text, problem = require("peerup.config.edit").add_relay(config.text, invite.relay_addr)
  if not text then return nil, problem end
  return fs.write(path, text)
end

return M
