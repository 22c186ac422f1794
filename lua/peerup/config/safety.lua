--- What keeps a bad configuration from locking its user out (config.md 7): the archive of the last
-- one that ran and was meant, and the change that goes back by itself unless it is confirmed.
--
--   apply:   backup -> marker -> config        confirm: marker -> backup
--   revert:  backup over config -> marker      (each step is a file written whole, or renamed)
--
-- The marker comes before the change and goes after what undoes it, so that a crash anywhere leaves
-- either the old configuration, or a marker that brings it back.
local err = require "peerup.err"
local fs = require "peerup.fs"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local load = require "peerup.config.load"
local uv = require "luv"

local M = {}

M.TIMEOUT_S = 300
M.TIMEOUT_MIN_S, M.TIMEOUT_MAX_S = 1, 7 * 86400

--- The files that belong to a configuration X.yaml.
---@param path string
---@return {archive: string, marker: string, backup: string}
function M.paths(path)
  local name = fs.basename(path):gsub("%.ya?ml$", "")
  local function beside(text) return fs.join(fs.dirname(path), text) end
  return { archive = beside(("." .. name .. ".last-good.yaml")),
    marker = beside("." .. name .. ".pending"),
    backup = beside("." .. name .. ".pre-confirmed.yaml") }
end

-- ---- the archive ----

--- Archives a configuration that runs, unless it is archived already or waits for its confirmation.
---@param path string
---@param text string
---@return boolean? written, peerup.err?
function M.keep(path, text)
  local at = M.paths(path)
  if fs.exists(at.marker) or fs.read(at.archive) == text then return false end
  local ok, problem = fs.write(at.archive, text)
  if not ok then return nil, problem end
  return true
end

--- Puts the archived configuration back.
---@param path string
---@return true?, peerup.err?
function M.rollback(path)
  local archive = M.paths(path).archive
  local text, problem = fs.read(archive)
  if not text then
    if problem.code ~= "not_found" then return nil, problem end
    return nil, err.say("not_found", ("no last-known-good archive (%s): it is made when a daemon "
      .. "or relay has started with the config"):format(archive))
  end
  return fs.write(path, text)
end

-- ---- the change that waits ----

local function time_text(unix_s)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", unix_s)
end

--- Reads the marker of a change that waits for its confirmation.
---@param path string
---@return {deadline: integer}? pending, peerup.err?  nil, nil when there is none
function M.pending(path)
  local at = M.paths(path)
  local text, problem = fs.read(at.marker)
  if not text then
    if problem.code == "not_found" then return nil end
    return nil, problem
  end
  local marker = json.decode(text)
  local deadline = type(marker) == "table" and type(marker.deadline) == "string"
    and keys.parse_time(marker.deadline)
  if not deadline then -- damaged: going back is the safe side
    return { deadline = 0 }
  end
  return { deadline = deadline }
end

--- Puts a new configuration in place that goes back by itself unless it is confirmed in time.
---@param path string      of the configuration
---@param new_path string
---@param kind "node"|"relay"
---@param timeout_s integer
---@param now integer      Unix seconds
---@return true?, peerup.err?
function M.apply(path, new_path, kind, timeout_s, now)
  local at = M.paths(path)
  if timeout_s < M.TIMEOUT_MIN_S or timeout_s > M.TIMEOUT_MAX_S then
    return nil, err.say("invalid", "the time to confirm must be between 1s and 168h")
  end
  local config, problem = load.read(new_path, kind)
  if not config then
    return nil, err.say(problem.code, "new config is invalid: " .. tostring(problem))
  end
  -- Its relative paths will mean files beside the configuration it replaces.
  config, problem = load.decode(config.text, kind, path)
  if not config then return nil, problem end
  local faults = load.validate(config)
  if #faults > 0 then
    return nil, err.say("malformed", "new config has validation errors: "
      .. table.concat(faults, "; "))
  end
  if fs.exists(at.marker) then
    return nil, err.say("exists", "apply failed: commit-confirmed already pending: " .. at.marker
      .. "; confirm it, or wait until it goes back")
  end
  local new_text, old_text
  new_text, problem = fs.read(new_path)
  if new_text then old_text, problem = fs.read(path) end
  if not old_text then return nil, problem end
  local ok
  ok, problem = fs.write(at.backup, old_text)
  if ok then
    ok, problem = fs.write(at.marker, json.encode(json.object("deadline",
      time_text(now + timeout_s), "backup", fs.basename(at.backup))) .. "\n")
  end
  if not ok then
    uv.fs_unlink(at.backup)
    return nil, err.say(problem.code, "apply failed: " .. tostring(problem))
  end
  ok, problem = fs.write(path, new_text)
  if not ok then
    uv.fs_unlink(at.marker)
    uv.fs_unlink(at.backup)
    return nil, err.say(problem.code, "apply failed: " .. tostring(problem))
  end
  return true
end

--- Makes the change that waits permanent.
---@return true?, peerup.err?
function M.confirm(path)
  local at = M.paths(path)
  if not fs.exists(at.marker) then
    return nil, err.say("not_found", "confirm failed: no commit-confirmed pending")
  end
  local ok, problem = fs.remove(at.marker)
  if not ok then return nil, err.say(problem.code, "confirm failed: " .. tostring(problem)) end
  uv.fs_unlink(at.backup)
  return true
end

--- Undoes the change that waits. A marker without backup is of one that was undone already.
---@return boolean? reverted, peerup.err?
function M.revert(path)
  local at = M.paths(path)
  local undone = false
  if fs.exists(at.backup) then
    local ok, message = uv.fs_rename(at.backup, path)
    if not ok then return nil, err.say("io_error", tostring(message)) end
    undone = true
  end
  local ok, problem = fs.remove(at.marker)
  if not ok and problem.code ~= "not_found" then return nil, problem end
  return undone
end

--- Looks whether the time of a change that waits is over, and undoes it then.
---@param path string
---@param now integer  Unix seconds
---@return "none"|"waiting"|"reverted" state, peerup.err? problem, integer? deadline
function M.look(path, now)
  local pending, problem = M.pending(path)
  if not pending then return "none", problem end
  if now < pending.deadline then return "waiting", nil, pending.deadline end
  local undone
  undone, problem = M.revert(path)
  if undone == nil then return "waiting", problem, pending.deadline end
  return undone and "reverted" or "none"
end

return M
