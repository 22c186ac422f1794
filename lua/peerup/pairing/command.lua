--- The command `relay pair`: opens, lists and revokes a running relay's pairing groups (cli.md 10).
local admin = require "peerup.pairing.admin"
local err = require "peerup.err"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local values = require "peerup.config.values"

local M = {}

local SECOND = 1000000000

--- Makes one request to the running relay.
local function ask(ctx, path, method, target, body)
  local client, problem = admin.client(path)
  if not client then return nil, problem end
  local answer
  local work = require("peerup.task").spawn(function()
    answer, problem = client:call(method, target, body)
  end)
  ctx:catch_signals(function() work:cancel() end)
  work:join()
  if ctx.stopped then return nil, require("peerup.cli.context").interrupted() end
  return answer, problem
end

local function left(expires_at)
  local seconds = keys.parse_time(expires_at) - os.time()
  return seconds > 0 and ("active (%s remaining)"):format(values.format_duration(seconds * SECOND))
    or "expired"
end

local function list(ctx, args, path)
  local rows, problem = ask(ctx, path, "GET", "/v1/pair")
  if not rows then return nil, problem end
  if args.json then
    ctx.out:json(json.array(rows))
    return 0
  end
  if #rows == 0 then
    ctx.out:line("No open pairing group. Make one: peerup relay pair")
    return 0
  end
  for _, group in ipairs(rows) do
    ctx.out:line("  %s  %d/%d used  %s%s", group.id, group.used, group.total,
      left(group.expires_at), group.namespace and "  network " .. group.namespace or "")
    for _, member in ipairs(group.peers or {}) do
      ctx.out:line("      %s%s", member.peer_id,
        member.name ~= "" and "  # " .. keys.clean_comment(member.name) or "")
    end
  end
  return 0
end

local function revoke(ctx, args, path)
  local _, problem = ask(ctx, path, "DELETE", "/v1/pair/" .. args.revoke)
  if problem then return nil, problem end
  if args.json then
    ctx.out:json(json.object("status", "revoked"))
    return 0
  end
  ctx.out:paint("green", "Pairing group %s revoked.", args.revoke)
  ctx.out:line("Who has paired already stays authorized: peerup relay list-peers")
  return 0
end

local function duration(args, name, least_s, most_s)
  local value, problem = values.parse_duration(args[name])
  local seconds = value and value // SECOND
  if not value or seconds < least_s or seconds > most_s then
    return nil, err.say("usage", ('invalid value "%s" for flag -%s: %s'):format(args[name], name,
      problem and tostring(problem) or ("it must be between %ds and %ds"):format(least_s, most_s)))
  end
  return seconds
end

--- The lines that a person hands out.
local function show(ctx, made, ttl_s)
  local codes = made.codes
  if #codes == 1 then
    ctx.out:line("  %s", codes[1])
  else
    for i, text in ipairs(codes) do ctx.out:line("  Code %d:  %s", i, text) end
  end
  ctx.out:line("Group ID: %s", made.group_id)
  ctx.out:line()
  ctx.out:line("On each machine, within %s, with a code of its own:",
    values.format_duration(ttl_s * SECOND))
  ctx.out:line("  peerup join <code>")
  local decoded = require("peerup.invite.code").decode(codes[1])
  if decoded and not require("peerup.net").is_public(decoded.relay_addr) then
    ctx.err:paint("yellow", "Warning: the codes lead to %s, an address that only machines in the "
      .. "same network reach", decoded.relay_addr:match("^/ip4/([^/]+)"))
  end
end

local function create(ctx, args, path)
  local groups = require "peerup.pairing.groups"
  if args.count < 1 or args.count > groups.MAX_CODES then
    return nil, err.say("usage", ('invalid value "%d" for flag -count: it must be between 1 and %d')
      :format(args.count, groups.MAX_CODES))
  end
  local ttl_s, problem = duration(args, "ttl", 1, groups.MAX_TTL_S)
  if not ttl_s then return nil, problem end
  local expires_s
  expires_s, problem = duration(args, "expires", 0, admin.MAX_EXPIRES_S)
  if not expires_s then return nil, problem end
  local made
  made, problem = ask(ctx, path, "POST", "/v1/pair", json.object("count", args.count,
    "ttl_seconds", ttl_s, "namespace", args.namespace, "expires_seconds", expires_s))
  if not made then return nil, problem end
  if args.json then ctx.out:json(made) else show(ctx, made, ttl_s) end
  return 0
end

function M.run(ctx, args)
  if args.list and args.revoke then
    return nil, err.say("usage", "--list and --revoke are two commands: use one of them")
  end
  if args.revoke and not args.revoke:find("^%x+$") then
    return nil, err.say("usage", ('invalid value "%s" for flag -revoke: a group ID has 8 hex digits'
      .. "; 'peerup relay pair --list' shows them"):format(args.revoke))
  end
  local path = args.config and args.config ~= "" and args.config
    or require("peerup.config.load").RELAY_FILE
  if args.list then return list(ctx, args, path) end
  if args.revoke then return revoke(ctx, args, path) end
  return create(ctx, args, path)
end

return M
