--- Says on standard error what is being waited for, once it takes more than a second: on a terminal
-- as one line that counts and goes away again, else as a plain line for each step. Standard output
-- never sees it.
local uv = require "luv"

local M = {}

M.AFTER_MS, M.TICK_MS = 1000, 1000
local COLUMNS = 80 -- where a terminal does not tell
local ERASE = "\r\27[K"

---@class peerup.progress
local Progress = {}
Progress.__index = Progress

--- Begins to wait. Close it when the wait is over.
---@param ctx peerup.context
---@param text string|fun(): string  a step such as "Connecting to home"; a function's text is shown
---  on terminals only, where it is asked for each second
---@return peerup.progress
function M.start(ctx, text)
  local self = setmetatable({ ctx = ctx, timer = uv.new_timer() }, Progress)
  if ctx.err.is_terminal and ctx.env "TERM" ~= "dumb" then
    self.outer, ctx.err.live, ctx.out.live = ctx.err.live, self, self
    self.live = true
  end
  self:say(text)
  self.timer:start(M.AFTER_MS, M.TICK_MS, function() self:tick() end)
  self.timer:unref()
  return self
end

--- Goes on to another step.
---@param text string|fun(): string
function Progress:say(text)
  uv.update_time()
  self.text, self.from, self.told = text, uv.now(), false
  self:hide()
end

--- Takes the line back, so that something else can be written.
function Progress:hide()
  if not self.shown then return end
  self.shown = false
  self.ctx.err.sink(ERASE)
end

--- How long the line may be: one that wraps could not be taken back.
function Progress:width()
  local columns = self.ctx.err.columns and self.ctx.err.columns() or 0
  return math.max(1, (columns > 0 and columns or COLUMNS) - 1)
end

function Progress:tick()
  local text, counts = self.text, type(self.text) == "string"
  if not self.live then
    if counts and not self.told then self.ctx.err:line("%s...", text) end
    self.told = true
    return
  end
  if self.ctx.err.live ~= self then return end -- one inside of it has the line
  text = counts and ("%s... %d s"):format(text, (uv.now() - self.from) // 1000) or text()
  self.ctx.err.sink(ERASE .. text:gsub("%c", "?"):sub(1, self:width()))
  self.shown = true
end

--- Ends the wait.
function Progress:close()
  if self.timer:is_closing() then return end
  self.timer:close()
  self:hide()
  if self.live then self.ctx.err.live, self.ctx.out.live = self.outer, self.outer end
end
Progress.__close = Progress.close

return M
