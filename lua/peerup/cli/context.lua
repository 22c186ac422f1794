--- What a command sees of the world: streams, environment, clock, paths. A spec makes its own.
local fs = require "peerup.fs"
local output = require "peerup.cli.output"

local M = {}

M.INTERRUPTED = 130 -- the exit code, as of a program that the signal ends

---@class peerup.context
---@field out peerup.output
---@field err peerup.output
---@field env fun(name: string): string?
---@field home string?
---@field now fun(): integer       Unix seconds
---@field read_line fun(): string?  of standard input; nil at its end
---@field version string
---@field commands fun(): table[]   all commands' tables; the program's main sets it
local Context = {}
Context.__index = Context

--- Makes a context; every field may be given by a test.
---@param fields table
---@return peerup.context
function M.new(fields)
  return setmetatable(fields, Context)
end

--- How wide a terminal is now; 0 when it does not tell.
local function columns_of(fd)
  local tty = require("luv").new_tty(fd, false)
  local columns = tty and tty:get_winsize()
  if tty then tty:close() end
  return columns or 0
end

--- Makes the context of the real process.
---@return peerup.context
function M.process()
  local core = require "peerup.core"
  local no_color = os.getenv "NO_COLOR"
  local function is_terminal(fd)
    return require("luv").guess_handle(fd) == "tty"
  end
  -- Progress and results must appear when they happen, also through a pipe.
  io.stdout:setvbuf("line")
  local ctx = M.new {
    out = output.new(function(text) return io.stdout:write(text) ~= nil end, is_terminal(1),
      no_color),
    err = output.new(function(text) io.stderr:write(text) end, is_terminal(2), no_color),
    env = os.getenv,
    home = os.getenv "HOME",
    now = os.time,
    read_line = function() return io.stdin:read("l") end,
    version = core.version(),
  }
  ctx.err.columns = function() return columns_of(2) end
  return ctx
end

--- The default directory of configurations.
---@return string
function Context:default_dir()
  return fs.join(self.home or ".", ".config/peerup")
end

--- Where the daemon's socket and cookie are: beside the config that --config names, else in the
--- default directory, wherever the config was found.
---@return string
function Context:runtime_dir(args)
  if args.config and args.config ~= "" then return fs.dirname(args.config) end
  return self:default_dir()
end

--- Loads the node's configuration and passes its warnings on.
---@param args {config: string?}
---@return table? config, peerup.err?
function Context:node_config(args)
  local config, problem = require("peerup.config.load").node(args.config, self.home)
  return self:warned(config), problem
end

--- Loads the relay's configuration.
---@return table? config, peerup.err?
function Context:relay_config(args)
  local config, problem = require("peerup.config.load").relay(args.config)
  return self:warned(config), problem
end

function Context:warned(config)
  for _, warning in ipairs(config and config.warnings or {}) do
    self.err:paint("yellow", "Warning: %s", warning)
  end
  return config
end

--- A log on standard error.
---@return peerup.log
function Context:logger(level)
  return require("peerup.log").new(function(line) self.err:write(line) end, level, self.now)
end

--- Waits for INT or TERM, or until stop is called. The first signal resumes; a second one kills.
---@async
---@return string reason  "signal" or what stop was given
function Context:wait_stop()
  if self.stopped then return self.stopped end
  return require("peerup.core").task.await(function(resume)
    self.resume_stop = resume
    return function() self.resume_stop = nil end
  end)
end

--- Ends wait_stop.
function Context:stop(reason)
  self.stopped = reason
  local resume = self.resume_stop
  self.resume_stop = nil
  if resume then resume(reason) end
end

--- Starts taking INT and TERM as a wish to stop; a second signal then ends the process as usual.
---@param on_signal fun()?  called too
function Context:catch_signals(on_signal)
  local uv = require "luv"
  self.signals = {}
  for _, name in ipairs { "sigint", "sigterm" } do
    local signal = uv.new_signal()
    signal:start(name, function()
      self:release_signals()
      self:stop("signal")
      if on_signal then on_signal() end
    end)
    signal:unref()
    self.signals[#self.signals + 1] = signal
  end
end

--- Calls a function at each HUP, instead of ending.
---@param on_hangup fun()
function Context:on_hangup(on_hangup)
  local signal = require("luv").new_signal()
  signal:start("sighup", on_hangup)
  signal:unref()
  self.signals[#self.signals + 1] = signal
end

local function traced(problem)
  return type(problem) == "string" and debug.traceback(problem) or problem
end

--- Runs a function whose waits the first INT or TERM ends.
---@async
---@param fn fun(): ...
---@return any ...  what fn returns; nil and an error with exit code 130 when it was interrupted
function Context:interruptible(fn)
  local task = require "peerup.task"
  local outcome, work
  self:catch_signals(function() work:cancel() end)
  work = task.spawn(function() outcome = table.pack(xpcall(fn, traced)) end)
  work:join()
  self:release_signals()
  if not outcome[1] then error(outcome[2], 0) end
  if self.stopped then return nil, M.interrupted() end
  return table.unpack(outcome, 2, outcome.n)
end

--- What a command returns that the user has interrupted, having said so or not.
---@param text string?
---@return peerup.err
function M.interrupted(text)
  local problem = require("peerup.err").say(text and "canceled" or "silent", text or "")
  problem.exit = M.INTERRUPTED
  return problem
end

--- Says what is being waited for when it takes long.
---@param text string|fun(): string
---@return peerup.progress
function Context:progress(text)
  return require("peerup.cli.progress").start(self, text)
end

function Context:release_signals()
  for _, signal in ipairs(self.signals or {}) do
    if not signal:is_closing() then signal:close() end
  end
  self.signals = nil
end

return M
