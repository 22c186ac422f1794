--- Runs ssh to a peer, with peerup as its ProxyCommand: the peer's service needs no local port.
local err = require "peerup.err"
local names = require "peerup.names"
local services = require "peerup.services"
local task = require "peerup.task"
local uv = require "luv"

--- A word as a shell takes it literally; ssh gives its ProxyCommand to one, after reading % itself.
local function quoted(word)
  return "'" .. word:gsub("%%", "%%%%"):gsub("'", "'\\''") .. "'"
end

local function proxy_command(args, target)
  local words = { uv.exepath(), "proxy" }
  if args.config and args.config ~= "" then
    words[#words + 1] = "--config=" .. args.config
  end
  for _, word in ipairs { target, args.service, "-" } do words[#words + 1] = word end
  for i, word in ipairs(words) do words[i] = quoted(word) end
  return table.concat(words, " ")
end

--- Runs ssh on our own terminal and waits for its end.
---@async
---@return integer? exit_code, peerup.err?
local function run_ssh(words)
  local ignored = uv.new_signal()
  ignored:start("sigint", function() end) -- it is the program's to take, not ours
  local code, signal = task.await(function(resume)
    local handle
    local problem
    handle, problem = uv.spawn("ssh", { args = words, stdio = { 0, 1, 2 } }, function(...)
      handle:close()
      resume(...)
    end)
    if not handle then resume(nil, problem) end
  end)
  ignored:close()
  if not code then
    return nil, err.say("not_found", ("cannot run ssh (%s); is openssh-client installed?")
      :format(signal))
  end
  return signal ~= 0 and 128 + signal or code
end

local function run(ctx, args)
  local user, target = args.target:match("^([^@]+)@(.+)$")
  target = target or args.target
  local ok, problem = services.check_name(args.service)
  if not ok then return nil, problem end
  local config
  config, problem = ctx:node_config(args)
  if not config then return nil, err.say(problem.code, "Config error: " .. tostring(problem)) end
  local peer
  peer, problem = names.target(config.names, target)
  if not peer then return nil, problem end
  local words = { "-o", "ProxyCommand=" .. proxy_command(args, target),
    "-o", "HostKeyAlias=" .. peer, "-o", "CheckHostIP=no" }
  words[#words + 1] = user and user .. "@" .. target or target
  table.move(args.command, 1, #args.command, #words + 1, words)
  return run_ssh(words)
end

return {
  name = "ssh", summary = "log in at a peer, by its ssh service", run = run, bad_usage = 2,
  bare_errors = true,
  args = { { "target", help = "name or peer ID; user@name for another user" },
    { "command", many = true, optional = true, complete = false,
      help = "options of ssh after --, and what to run there" } },
  options = { { "service", type = "string", value = "<name>", default = "ssh",
    help = "the service's name there" } },
}
