--- Prints this node's peer ID; makes the key when there is none yet.
local identity = require "peerup.identity"
local json = require "peerup.json"

local function run(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  if args.json then
    ctx.out:json(json.object("peer_id", own.peer_id, "key_file", own.path))
  else
    ctx.out:line(own.peer_id)
  end
  return 0
end

return {
  name = "whoami", summary = "print this machine's peer ID", run = run,
  options = { { "json", type = "flag", help = "print JSON" } },
}
