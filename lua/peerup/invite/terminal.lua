--- An invite as a person sees it: the code, what happens meanwhile, how it ended. For the command
-- and for a daemon that is started with an invite.
local names = require "peerup.names"
local task = require "peerup.task"
local uv = require "luv"
local values = require "peerup.config.values"

local M = {}

local POLL_S, OPENING_POLL_S = 0.3, 0.05

--- Prints the code for a person, or alone for a script.
function M.show_code(ctx, args, code, ttl)
  if args.non_interactive then
    ctx.out:line(code)
    return
  end
  local out = ctx.out
  out:line("=== Invite Code (expires in %s) ===", values.format_duration(ttl))
  out:line()
  out:paint("green", "%s", code)
  out:line()
  local qr = require("peerup.core").qr(code)
  if qr then out:write(qr) end
  out:line("On the other machine, run:")
  out:line("  peerup join %s", code)
  out:line()
  out:line("Waiting for peer to join...")
end

--- Says what a relay that cannot let strangers in means for the joiner.
function M.tell_relay(ctx, offer)
  if offer.relay_admits then return end
  ctx.err:line("Note: this relay lets in only peers it knows (%s).", offer.relay_why or "no answer")
  ctx.err:line("If the joiner is refused, run this at the relay with the ID the joiner shows:")
  ctx.err:line("  peerup relay authorize <peer ID>")
end

local ENDS = {
  expired = "Invite expired. No peer joined.",
  stopped = "Cancelled.",
  wrong_codes = "Invite closed: too many wrong codes were tried. Make a new one to go on.",
}

function M.report(ctx, args, offer)
  local out = args.non_interactive and ctx.err or ctx.out
  if offer.state ~= "joined" then
    out:paint("yellow", "%s", ENDS[offer.state] or "Invite closed.")
    return offer.state == "wrong_codes" and 1 or 0
  end
  out:paint("green", 'Peer "%s" joined and authorized!', offer.comment)
  if offer.name then
    out:line("It is named %s here; try: peerup ping %s", offer.name, offer.name)
  elseif offer.name_problem then
    out:line("No name was added: %s", offer.name_problem)
  end
  if offer.vouched then
    out:line("The relay knows it too now.")
  elseif offer.relay_admits then
    out:paint("yellow", "The relay did not keep it (%s). Run at the relay:\n  peerup relay "
      .. "authorize %s", offer.vouch_why or "no answer", offer.peer_id or offer.peer)
  end
  return 0
end

--- Passes on what happened since the last look.
function M.note_printer(ctx)
  local shown = 0
  return function(notes)
    for i = shown + 1, #notes do ctx.err:paint("yellow", "%s", notes[i]) end
    shown = #notes
  end
end

--- How long the code lives yet, for a person who waits.
---@param ttl integer  nanoseconds from now
---@return fun(): string
function M.time_left(ttl)
  local ends = uv.now() + ttl // 1000000
  return function()
    local left = math.max(0, ends - uv.now()) // 1000
    return ("Waiting; the code expires in %s"):format(values.format_duration(left * 1000000000))
  end
end

--- Asks the daemon to open the invite. One that the user interrupts meanwhile is closed by the
--- daemon as soon as it is open.
local function open(ctx, args, client, ttl)
  local _ <close> = ctx:progress("Connecting to the relay")
  local offer, problem
  local work = task.spawn(function()
    offer, problem = client:call("POST", "/v1/invite",
      { name = args.name, ttl_seconds = ttl // 1000000000 })
  end)
  while not offer and not problem and not ctx.stopped do task.sleep(OPENING_POLL_S) end
  if offer or problem then return offer, problem end
  work:cancel()
  work:join()
  client:call("DELETE", "/v1/invite")
  return { state = "stopped" }
end

--- Runs the invite in a daemon, until ctx:stop is called.
function M.by_daemon(ctx, args, client, ttl)
  local print_notes = M.note_printer(ctx)
  local offer, problem = open(ctx, args, client, ttl)
  if not offer then return nil, problem end
  if not offer.code then return offer end
  M.show_code(ctx, args, offer.code, ttl)
  M.tell_relay(ctx, offer)
  local _ <close> = ctx:progress(M.time_left(ttl))
  while offer.state == "open" or offer.state == "saving" do
    task.sleep(POLL_S)
    offer, problem = client:call(ctx.stopped and "DELETE" or "GET", "/v1/invite")
    if not offer then return nil, problem end
    print_notes(offer.notes)
  end
  return offer
end

--- What this machine is called: its host's name, as far as it can be a peer's name.
---@return string  "" when nothing of it can
function M.machine_name()
  local name = uv.os_gethostname() or ""
  name = names.sanitize(name:match("^[^.]*") or "")
  return name ~= "localhost" and name or ""
end

return M
