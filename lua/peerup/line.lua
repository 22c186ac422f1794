--- Reads lines of bounded length from a stream of the engine.
local err = require "peerup.err"

local M = {}

---@class peerup.line_reader
local Reader = {}
Reader.__index = Reader

---@param stream peerup.stream
---@param max integer  bytes of a line, its newline included
---@return peerup.line_reader
function M.reader(stream, max)
  return setmetatable({ stream = stream, max = max, buffer = "" }, Reader)
end

--- Reads one line, without its newline.
---@async
---@param timeout number?  seconds, for each wait
---@return string? line, peerup.err? err  nil, nil at the end of the stream
function Reader:read(timeout)
  while true do
    local at = self.buffer:find("\n", 1, true)
    if at then
      local line = self.buffer:sub(1, at - 1)
      self.buffer = self.buffer:sub(at + 1)
      return line
    end
    if #self.buffer >= self.max then
      return nil, err.say("protocol_error", ("a line is longer than %d bytes"):format(self.max))
    end
    local bytes, problem = self.stream:read(self.max - #self.buffer, timeout)
    if not bytes then
      if problem then return nil, problem end
      if self.buffer == "" then return nil end
      return nil, err.say("eof", "the stream ended inside a line")
    end
    self.buffer = self.buffer .. bytes
  end
end

return M
