--- Shows the verification code of a peer and keeps that its owner saw the same one.
local err = require "peerup.err"
local identity = require "peerup.identity"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local names = require "peerup.names"
local verify = require "peerup.verify"

--- Finds the peer that a word means: a name of the config, a peer ID, or a comment of
--- authorized_keys.
local function peer_of(config, text, entries, word)
  local peer, problem = names.resolve(config.names, word)
  if peer then return peer end
  for _, entry in ipairs(entries) do
    if entry.comment == word then return entry.peer_id end
  end
  local why = tostring(problem)
  if not why:find("did you mean", 1, true) then why = why .. keys.hint(text, word) end
  return nil, err.say(problem.code, ('Cannot resolve target "%s": %s'):format(word, why))
end

local function entry_of(entries, peer)
  for _, entry in ipairs(entries) do
    if entry.peer_id == peer then return entry end
  end
end

local function show(ctx, args, own, peer, code, verified)
  if args.json then
    ctx.out:json(json.object("peer_id", peer, "own_peer_id", own, "emoji", code.emoji,
      "digits", code.digits, "fingerprint", code.fingerprint, "verified", verified))
    return
  end
  local out = ctx.out
  out:line("Peer:       %s (%s)", args.target, keys.short(peer))
  out:line("This side:  %s", keys.short(own))
  out:line()
  out:line("Verification code:  %s", code.emoji)
  out:line("Numeric code:       %s", code.digits)
  out:line()
  if verified then out:line("This peer was verified before.") end
  out:line("Compare it with the other side, by telephone or face to face; there it is shown by")
  out:line("  peerup verify <this machine's name>")
  out:line()
end

local function run(ctx, args)
  local config, problem = ctx:node_config(args)
  if not config then return nil, err.say(problem.code, "Config error: " .. tostring(problem)) end
  local path = config.security.authorized_keys_file
  if path == "" then
    return nil, err.say("invalid", "the config names no security.authorized_keys_file")
  end
  local text
  text, problem = keys.read_file(path)
  local entries = text and keys.list(text)
  if not entries then return nil, problem end
  local peer
  peer, problem = peer_of(config, text, entries, args.target)
  if not peer then return nil, problem end
  local own
  own, problem = identity.load_or_create(config.identity.key_file)
  if not own then return nil, problem end
  if own.peer_id == peer then return nil, err.say("invalid", "that is this machine itself") end
  local entry = entry_of(entries, peer)
  if not entry then
    return nil, err.say("not_found", ("%s is not authorized here, so there is nothing to verify; "
      .. "pair it first (peerup invite) or run: peerup auth add %s"):format(args.target, peer))
  end
  local code
  code, problem = verify.code(own.peer_id, peer)
  if not code then return nil, problem end
  show(ctx, args, own.peer_id, peer, code, verify.is_verified(own.peer_id, entry))
  if args.json then return 0 end
  ctx.out:write("Does the other side see the same code? [y/N]: ")
  local answer = (ctx.read_line() or "\n"):lower():match("^%s*(.-)%s*$")
  if answer ~= "y" and answer ~= "yes" then
    ctx.out:line("Not verified; nothing was changed.")
    return 0
  end
  local ok
  ok, problem = keys.update_file(path, function(now)
    return keys.set_attribute(now, peer, "verified", code.fingerprint)
  end)
  if not ok then return nil, problem end
  ctx.out:paint("green", "Verified: %s", args.target)
  return 0
end

return {
  name = "verify", summary = "compare codes with a peer's owner, against a man in the middle",
  run = run, bad_usage = 2, bare_errors = true,
  args = { { "target", help = "name, peer ID, or comment in authorized_keys" } },
  options = { { "json", type = "flag", help = "print the codes as JSON, and ask nothing" } },
}
