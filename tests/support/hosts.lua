-- Hosts on loopback for specs.
local core = require "peerup.core"

local M = {}

function M.allow()
  return true
end

--- Makes a host with a fresh key that listens on loopback; options as core.host's.
function M.new(options)
  options = options or {}
  options.identity = options.identity or core.identity.generate()
  options.policy = options.policy or M.allow
  local host = assert(core.host(options))
  if options.listen ~= false then
    assert(host:listen(options.listen or "/ip4/127.0.0.1/tcp/0"))
  end
  return host
end

--- Makes `from` know where `to` is.
function M.introduce(from, to)
  for _, addr in ipairs(to:addrs()) do
    assert(from:add_addr(to:peer_id(), addr))
  end
end

--- Makes two hosts, the first of which knows the second.
function M.pair(first, second)
  local a, b = M.new(first), M.new(second)
  M.introduce(a, b)
  return a, b
end

--- Waits until f is true; fails after some seconds.
function M.eventually(f, what)
  for _ = 1, 500 do
    local value = f()
    if value then
      return value
    end
    core.task.sleep(0.01)
  end
  error("never: " .. (what or "what was waited for"), 2)
end

return M
