--- Log levels, an extension: shown, and changed while the daemon runs.
local json = require "peerup.json"
local logs = require "peerup.log"
local text = require "peerup.daemon.text"

local function levels(log)
  local flat = {}
  for _, module in ipairs(logs.MODULES) do
    flat[#flat + 1], flat[#flat + 2] = module, log.modules[module]
  end
  return json.object("level", log.level, "modules", json.object(table.unpack(flat)))
end

local function log_show(state)
  return levels(state.node.log)
end

local function log_set(state, request)
  local body, problem = text.body(request)
  if not body then return nil, problem, 400 end
  local ok, why = logs.check(body.level, body.module)
  if not ok then return nil, why, 400 end
  if body.module then
    state.node.log:set(nil, { [body.module] = body.level })
  else
    state.node.log:set(body.level)
  end
  return levels(state.node.log)
end

local function log_text(data)
  local lines = { ("%-10s %s"):format("peerup", data.level) }
  for _, module in ipairs(logs.MODULES) do
    lines[#lines + 1] = ("%-10s %s"):format(module, data.modules[module])
  end
  return table.concat(lines, "\n") .. "\n"
end

return {
  ["GET /v1/log"] = { run = log_show, text = log_text },
  ["POST /v1/log"] = { run = log_set, text = log_text },
}
