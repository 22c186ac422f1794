--- Which transports a node or relay uses, and where it listens (network.transports,
-- network.listen_addresses, network.websocket).
local err = require "peerup.err"
local fs = require "peerup.fs"
local net = require "peerup.net"
local nearest = require "peerup.nearest"

local M = {}

M.NAMES = { "quic", "tcp", "websocket" }
M.CERTIFICATE_FILE = "web_certificate.pem"

local OF = { ["quic-v1"] = "quic", tcp = "tcp", ws = "websocket", wss = "websocket" }

--- The name by which a configuration speaks of an address's transport; of an address through a
--- relay, of the one to the relay.
---@param addr string
---@return string? name
function M.of(addr)
  return OF[net.transport(addr)]
end

--- Checks one name of network.transports.
---@param name string
---@return true?, string? why
function M.check(name)
  for _, known in ipairs(M.NAMES) do
    if name == known then return true end
  end
  local near = nearest.of(name, M.NAMES)
  return nil, ('"%s" is no transport%s: there are %s'):format(name,
    near and (', did you mean "%s"?'):format(near) or "", table.concat(M.NAMES, ", "))
end

--- The transports that are on, as a set, and as a list in our order.
---@param config table
---@return table<string, true> on, string[] list
function M.on(config)
  local wanted, on, list = config.network.transports or {}, {}, {}
  for _, name in ipairs(#wanted > 0 and wanted or M.NAMES) do on[name] = true end
  for _, name in ipairs(M.NAMES) do
    if on[name] then list[#list + 1] = name end
  end
  return on, list
end

--- The hook that decides which addresses are dialled: those of transports that are on, and of them
--- what hook says.
---@param config fun(): table  the configuration of the moment
---@param hook fun(peer: string, candidates: peerup.dial_candidate[]): peerup.dial_candidate[] | nil
---@return fun(peer: string, candidates: peerup.dial_candidate[]): peerup.dial_candidate[]
function M.on_dial(config, hook)
  return function(peer, candidates)
    local on, left = M.on(config()), {}
    for _, candidate in ipairs(candidates) do
      if on[M.of(candidate.addr)] then left[#left + 1] = candidate end
    end
    if hook then return hook(peer, left) end
    return left
  end
end

--- Gives listeners on /tls/ws their certificate: the user's, or one of our own that is kept beside
--- the configuration, so that a pin of it stays good.
---@param host peerup.host
---@param config table
---@return true?, peerup.err?
function M.certify(host, config)
  local web = config.network.websocket
  if web.certificate_file ~= "" then
    local ok, problem = host:web_certificate(web.certificate_file, web.key_file)
    if ok then return true end
    return nil, err.say(problem.code, ("network.websocket: %s (%s, %s)"):format(tostring(problem),
      web.certificate_file, web.key_file))
  end
  for _, addr in ipairs(config.network.listen_addresses) do
    if net.transport(addr) == "wss" then
      return host:web_keep(fs.join(config.dir, M.CERTIFICATE_FILE))
    end
  end
  return true
end

--- Listens on the addresses of the configuration. One that cannot be served is told and passed
--- over.
---@param host peerup.host
---@param config table
---@param log peerup.log
---@return true?, peerup.err?  fails when none could be listened on
function M.listen(host, config, log)
  local ok, problem = M.certify(host, config)
  if not ok then return nil, problem end
  local on = M.on(config)
  local good, last = 0, nil
  for _, addr in ipairs(config.network.listen_addresses) do
    if on[M.of(addr)] == nil and M.of(addr) then
      log:debug("transport switched off", "addr", addr)
    else
      ok, problem = host:listen(addr)
      if ok then
        good = good + 1
      else
        log:warn(problem.code == "unsupported" and "address not supported" or "cannot listen",
          "addr", addr, "why", tostring(problem))
        last = problem.code ~= "unsupported" and problem or last
      end
    end
  end
  if good > 0 then return true end
  return nil, err.say(last and last.code or "unsupported", "cannot listen on any address of "
    .. "network.listen_addresses" .. (last and ": " .. tostring(last) or ""))
end

--- Takes the certificate up again when its files have changed: a renewal.
---@param host peerup.host
---@param config table
---@param log peerup.log
---@param path string  of a file that has changed
function M.renew(host, config, log, path)
  local web = config.network.websocket
  if path == "" or path ~= web.certificate_file and path ~= web.key_file then return end
  local ok, problem = M.certify(host, config)
  if ok then
    log:info("web certificate taken up", "file", web.certificate_file)
  else -- between the two files of a renewal this is so for a moment
    log:warn("web certificate not taken up, the old one stays", "why", tostring(problem))
  end
end

--- The files whose changes renew is to be told of.
---@param config table
---@return string[]
function M.watched(config)
  local web = config.network.websocket
  return web.certificate_file ~= "" and { web.certificate_file, web.key_file } or {}
end

return M
