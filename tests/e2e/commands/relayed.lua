--- `peerup relayed proxy|ping ...`: the same commands, kept on the relay. On one machine every peer
-- can be reached directly, so the tests of relayed paths deny the direct dials, by the same door at
-- which the engine asks about each.
local policy = require "peerup.policy"

local decide = policy.decide
function policy.decide(rules, question, now)
  if question.ask == "dial" and rules.targets[question.peer]
    and not question.addr:find("/p2p-circuit", 1, true) then
    return false, "only through the relay"
  end
  return decide(rules, question, now)
end

local dir = arg[0]:match("^(.*)/[^/]*$") or "."
local function command(name)
  return assert(loadfile(("%s/commands/%s.lua"):format(dir, name), "t"))()
end

return {
  name = "relayed", summary = "commands kept on the relay (tests)",
  commands = { command "proxy", command "ping" },
}
