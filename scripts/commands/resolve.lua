--- Finds the peer ID of a name in the config.
local err = require "peerup.err"
local json = require "peerup.json"
local names = require "peerup.names"

local function run(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local id, source = names.resolve(config.names, args.name)
  if not id then
    return nil, err.say(source.code, ('cannot resolve "%s": %s'):format(args.name,
      tostring(source)))
  end
  if args.json then
    ctx.out:json(json.object("name", args.name, "peer_id", id, "source", source))
  else
    ctx.out:line("%s → %s (source: %s)", args.name, id, source)
  end
  return 0
end

return {
  name = "resolve", summary = "find the peer ID of a name", run = run,
  args = { { "name", help = "a name of the config, or a peer ID", complete = "peers" } },
  options = { { "json", type = "flag", help = "print JSON" } },
}
