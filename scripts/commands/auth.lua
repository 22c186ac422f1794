--- Who may connect: lists and edits authorized_keys. A running daemon or relay takes changes up by
-- itself within a second.
local err = require "peerup.err"
local fs = require "peerup.fs"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"

local JSON = { "json", type = "flag", help = "print JSON" }
local FILE = { "file", type = "string", value = "<path>", help = "the file to use instead of the "
  .. "config's" }

local function file_of(ctx, args)
  if args.file then return args.file end
  local config, problem = ctx:node_config(args)
  if not config then return nil, problem end
  local path = config.security.authorized_keys_file
  if path == "" then
    return nil, err.say("invalid", "the config names no security.authorized_keys_file; use --file")
  end
  return path
end

local function canonical(text)
  local id, problem = require("peerup.core").peer_id.parse(text)
  if not id then return nil, err.say("invalid", "invalid peer ID: " .. tostring(problem)) end
  return id
end

local function add(ctx, args)
  local path, problem = file_of(ctx, args)
  if not path then return nil, problem end
  local id
  id, problem = canonical(args.peer)
  if not id then return nil, problem end
  local comment = args.comment and keys.clean_comment(args.comment) or ""
  local ok
  ok, problem = keys.update_file(path, function(text) return keys.add(text, id, comment) end)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Authorized peer: %s", keys.short(id))
  if comment ~= "" then ctx.out:line("  Comment: %s", comment) end
  ctx.out:line("  File: %s", path)
  return 0
end

local function remove(ctx, args)
  local path, problem = file_of(ctx, args)
  if not path then return nil, problem end
  local id = canonical(args.peer) or args.peer
  local ok
  ok, problem = keys.update_file(path, function(text) return keys.remove(text, id) end)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Revoked peer: %s", keys.short(id))
  ctx.out:line("  File: %s", path)
  return 0
end

local function details(out, entry, now)
  local parts = { entry.peer_id }
  if entry.group ~= "" then parts[#parts + 1] = ("[group=%s]"):format(entry.group) end
  if entry.verified ~= "" then
    parts[#parts + 1] = out.term:paint("green", ("[verified=%s]"):format(entry.verified))
  else
    parts[#parts + 1] = out.term:paint("yellow", "[UNVERIFIED]")
  end
  if entry.expires then
    parts[#parts + 1] = os.date("![expires=%Y-%m-%d]", entry.expires)
  end
  if not keys.is_valid(entry, now) then parts[#parts + 1] = out.term:paint("red", "[EXPIRED]") end
  return table.concat(parts, " ")
end

local function list_json(entries)
  local list = json.array()
  for i, e in ipairs(entries) do
    local function set(text) return text ~= "" and text or nil end
    list[i] = json.object("peer_id", e.peer_id, "comment", set(e.comment),
      "verified", set(e.verified),
      "expires_at", e.expires and os.date("!%Y-%m-%dT%H:%M:%SZ", e.expires) or nil,
      "group", set(e.group))
  end
  return list
end

local function list(ctx, args)
  local path, problem = file_of(ctx, args)
  if not path then return nil, problem end
  local text
  text, problem = keys.read_file(path)
  if not text then return nil, problem end
  local entries
  entries, problem = keys.list(text)
  if not entries then return nil, problem end
  if args.json then
    ctx.out:json(list_json(entries))
    return 0
  end
  if #entries == 0 then
    ctx.out:line("No authorized peers.")
    ctx.out:line("File: %s", path)
    return 0
  end
  ctx.out:line("Authorized peers (%d):", #entries)
  for i, entry in ipairs(entries) do
    ctx.out:line("%3d. %s%s", i, keys.short(entry.peer_id),
      entry.comment ~= "" and "  # " .. entry.comment or "")
    ctx.out:line("     %s", details(ctx.out, entry, ctx.now()))
  end
  ctx.out:line("File: %s", path)
  return 0
end

local function validate(ctx, args)
  local path, problem = args.path, nil
  if not path then path, problem = file_of(ctx, args) end
  if not path then return nil, problem end
  local text
  text, problem = fs.read(path)
  if not text then return nil, problem end
  local good, faults = keys.check(text)
  if args.json then
    local rows = json.array()
    for i, fault in ipairs(faults) do
      rows[i] = json.object("line", fault.line, "error", fault.text)
    end
    ctx.out:json(json.object("valid", #faults == 0, "peers", good, "errors", rows))
    return #faults == 0 and 0 or 1
  end
  if #faults == 0 then
    ctx.out:paint("green", "Validation passed")
    ctx.out:line("  Valid peer IDs: %d", good)
    return 0
  end
  ctx.out:paint("red", "Validation failed with %d error(s):", #faults)
  for _, fault in ipairs(faults) do ctx.out:line("  Line %d: %s", fault.line, fault.text) end
  return nil, err.say("malformed", ("%s has %d error(s)"):format(path, #faults))
end

local PEER = { { "peer", help = "peer ID", complete = "ids" } }
return {
  name = "auth", summary = "who may connect: add, list, remove, validate",
  commands = {
    { name = "add", summary = "authorize a peer", run = add, args = PEER,
      options = { { "comment", type = "string", value = "<text>", help = "a note to the peer" },
        FILE } },
    { name = "list", summary = "list authorized peers", run = list, options = { FILE, JSON } },
    { name = "remove", summary = "revoke a peer", run = remove, args = PEER, options = { FILE } },
    { name = "validate", summary = "check the file", run = validate,
      args = { { "path", optional = true, help = "file (default: the config's)" } },
      options = { FILE, JSON } },
  },
}
